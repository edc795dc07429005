"""How results are found in Tiled and taken out again."""

from .client import XPCSResult as XPCSResult
from .contents import Contents as Contents
from .export import export_file as export_file
from .export import format_of as format_of
from .find import find_raw_run as find_raw_run
from .find import results as results
from .find import results_of as results_of
from .find import select_raw_runs as select_raw_runs
from .run_names import RawRun as RawRun
from .run_names import choose as choose
from .run_names import in_words as in_words
from .run_names import readings as readings
from .run_names import scan_ids as scan_ids
from .run_names import uid_beginning as uid_beginning
from .run_table import COLUMNS as COLUMNS
from .run_table import NEEDED as NEEDED
from .run_table import key_column as key_column
from .run_table import runs as runs
from .run_table import scan_ranges as scan_ranges
from .run_table import seconds_of as seconds_of
from .run_table import table_of as table_of
