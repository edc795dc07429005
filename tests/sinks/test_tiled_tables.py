"""Appends to a table whose database refuses some of them: none is lost, none is written twice."""

import httpx
import numpy as np
import pytest

from xpcs_live_denoise.sinks import tables as tiled_tables
from xpcs_live_denoise.sinks.tables import TiledTable

SCHEMA = {"roi": ("int", ""), "age_frame": ("float", "frames")}


class Database:
    """A table that answers its first appends with an error: "lost" has not arrived, "stored" has.

    DuckDB in the embedded server does so when somebody reads meanwhile.
    """

    def __init__(self, *faults, status=500):
        self.faults, self.status, self.seq_nums, self.n_calls = list(faults), status, [], 0

    def create_appendable_table(self, **_):
        return self

    def append_partition(self, _, part):
        self.n_calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "lost":
            self.seq_nums += part["seq_num"].to_pylist()
        if fault:
            request = httpx.Request("PATCH", "http://server/table")
            response = httpx.Response(self.status, request=request)
            raise httpx.HTTPStatusError("an error", request=request, response=response)

    def read(self, _):
        return {"seq_num": np.array(self.seq_nums)}


def table_in(database):
    return TiledTable(
        database, SCHEMA, key=("roi", "age_frame"), access_tags=None, max_message_bytes=900_000
    )


def rows(*ages):
    return {"roi": [1] * len(ages), "age_frame": [float(age) for age in ages]}


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(tiled_tables, "PAUSES_S", (0.0,) * 5)


@pytest.mark.parametrize(
    "faults", [["lost"], ["stored"], ["lost", "stored"], ["lost"] * 4, ["lost"] * 5]
)
def test_an_append_that_is_refused_while_somebody_reads_is_repeated_at_once(no_pause, faults):
    database = Database(*faults)
    table = table_in(database)
    table.append(rows(1, 2))
    table.append(rows(3))
    assert database.seq_nums == [1, 2, 3]
    assert table.n_rows == 3


def test_a_database_that_goes_on_refusing_is_told_and_offered_the_rows_again(no_pause):
    database = Database(*["lost"] * 5, "stored")
    table = table_in(database)
    with pytest.raises(httpx.HTTPStatusError):
        table.append(rows(1, 2))
    table.append(rows(1, 2, 3))
    assert database.seq_nums == [1, 2, 3]


@pytest.mark.parametrize("status", [401, 413, 502, 503])
def test_other_answers_are_not_tried_again_here(no_pause, status):
    database = Database("lost", status=status)
    with pytest.raises(httpx.HTTPStatusError):
        table_in(database).append(rows(1))
    assert database.n_calls == 1
