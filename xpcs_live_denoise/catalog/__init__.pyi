"""What speaks to Tiled and is neither a source nor a sink: connection, nodes, schema, server."""

from .connection import connect as connect
from .connection import key_in_file as key_in_file
from .connection import probe as probe
from .nodes import create_container as create_container
from .nodes import create_or_adopt as create_or_adopt
from .nodes import plain as plain
from .nodes import refuse_raw_runs as refuse_raw_runs
from .nodes import results_container as results_container
from .nodes import results_path as results_path
from .schema import ARRAY_DIMS as ARRAY_DIMS
from .schema import ARRAY_DTYPES as ARRAY_DTYPES
from .schema import CATALOG_SPEC as CATALOG_SPEC
from .schema import GAMMA_SCHEMA as GAMMA_SCHEMA
from .schema import RUN_SPECS as RUN_SPECS
from .schema import STREAM_SPECS as STREAM_SPECS
from .schema import TABLES as TABLES
from .schema import array_data_key as array_data_key
from .schema import arrow_schema as arrow_schema
from .schema import descriptor_metadata as descriptor_metadata
from .schema import json_safe as json_safe
from .schema import start_document as start_document
from .schema import status_columns as status_columns
from .schema import stop_document as stop_document
from .schema import table_data_keys as table_data_keys
from .server import RAW_PATH as RAW_PATH
from .server import EmbeddedServer as EmbeddedServer
