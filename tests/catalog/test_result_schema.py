"""The JSON schema of results, and docs/schema.md, say what is written."""

import json
import logging
import re
from pathlib import Path

import pytest

from tests.support.written import end
from xpcs_live_denoise.catalog import ARRAY_DIMS, GAMMA_SCHEMA, TABLES, departures
from xpcs_live_denoise.sinks.run import TiledSink

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "xpcs_live_denoise/catalog/result.schema.json").read_text())


def written_documents(client, synthetic):
    run = synthetic(n_frames=4)
    sink = TiledSink(run.info, client=client, path="checked")
    end(sink, run.result())
    metadata = client["checked"][sink.uid].metadata
    return {name: json.loads(json.dumps(dict(metadata[name]))) for name in ("start", "stop")}


def test_what_is_written_is_as_the_schema_says_to_the_last_field(tiled_client, synthetic, caplog):
    documents = written_documents(tiled_client, synthetic)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    for name, document in documents.items():
        assert departures(name, document) == []
        known = SCHEMA["$defs"][name]["properties"]["xpcs"]
        assert set(document["xpcs"]) <= set(known["properties"])
        assert set(known["required"]) <= set(document["xpcs"])


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("stop", {"relaxation_rate": ["fast"]}, r"relaxation_rate\[0\]: 'fast' is not of type"),
        ("stop", {"roi": None}, "roi: None is not of type 'array'"),
        ("start", {"schema": 3}, "schema: 2 was expected"),
    ],
)
def test_what_departs_from_the_schema_is_named(name, change, words):
    found = departures(name, {"xpcs": change})
    assert any(re.search(words, one) for one in found), found


def test_the_page_about_the_schema_names_everything_that_is_written():
    page = (ROOT / "docs" / "schema.md").read_text()
    of_documents = [
        name
        for kind in ("start", "stop")
        for name in SCHEMA["$defs"][kind]["properties"]["xpcs"]["properties"]
    ]
    columns = [name for schema, _ in TABLES.values() for name in schema]
    missing = [
        name
        for name in (*ARRAY_DIMS, *GAMMA_SCHEMA, *columns, *of_documents)
        if f"`{name}`" not in page
    ]
    assert not missing
