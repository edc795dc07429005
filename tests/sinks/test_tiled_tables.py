"""Appends to a table whose database refuses some of them: none is lost, none is written twice."""

from types import SimpleNamespace

import httpx
import numpy as np
import pyarrow as pa
import pytest

from xpcs_live_denoise.sinks.nodes import TiledTable

SCHEMA = {"roi": ("int", ""), "age_frame": ("float", "frames")}


class Database:
    """A table whose first appends end in an error: "lost" has not arrived, "stored" has."""

    def __init__(self, *faults, status=500):
        self.faults, self.status, self.seq_nums, self.sizes = list(faults), status, [], []
        self.item = {"links": {"partition": "http://server/table?partition={index}"}}

    def create_appendable_table(self, **_):
        return self

    @property
    def context(self):
        """Of the client: requests come here."""
        return SimpleNamespace(http_client=self)

    def patch(self, uri, *, content, headers):
        assert headers == {"Content-Type": "application/vnd.apache.arrow.file"}
        self.sizes.append(len(content))
        fault = self.faults.pop(0) if self.faults else ""
        if fault != "lost":
            with pa.ipc.open_file(content) as rows:
                self.seq_nums += rows.read_all()["seq_num"].to_pylist()
        return httpx.Response(
            self.status if fault else 200, request=httpx.Request("PATCH", uri), json={}
        )

    def read(self, _):
        return {"seq_num": np.array(self.seq_nums)}


def table_in(database, max_message_bytes=900_000):
    return TiledTable(
        database,
        SCHEMA,
        key=("roi", "age_frame"),
        access_tags=None,
        max_message_bytes=max_message_bytes,
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


def test_thousands_of_rows_go_in_a_few_messages_below_the_limit():
    database, limit = Database(), 100_000
    table = table_in(database, max_message_bytes=limit)
    table.append(rows(*range(20_000)))
    assert database.seq_nums == [*range(1, 20_001)]
    # Two columns, a number and five times: 1 MB as they stand.
    assert 1 < len(database.sizes) < 8
    assert max(database.sizes) < limit
