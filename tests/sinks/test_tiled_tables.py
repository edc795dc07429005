"""Appends to a table whose database refuses some of them: none is lost, none is written twice."""

import httpx
import numpy as np
import pytest

from xpcs_live_denoise.sinks.nodes import TiledTable

SCHEMA = {"roi": ("int", ""), "age_frame": ("float", "frames")}


class Database:
    """A table whose first appends end in an error: "lost" has not arrived, "stored" has."""

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


@pytest.mark.parametrize("status", [401, 413, 500, 502, 503])
@pytest.mark.parametrize("faults", [["lost"], ["stored"], ["lost", "stored"], ["lost"] * 3])
def test_rows_that_are_offered_again_after_an_error_are_stored_once(faults, status):
    database = Database(*faults, status=status)
    table = table_in(database)
    for _ in faults:
        with pytest.raises(httpx.HTTPStatusError):
            table.append(rows(1, 2))
        if not database.faults:
            break
    table.append(rows(1, 2, 3))
    assert database.seq_nums == [1, 2, 3]
    assert table.n_rows == 3
