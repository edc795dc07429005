"""One appendable table of a derived run: each row exactly once, whatever the network does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.catalog import Node, arrow_schema, create_or_adopt
from xpcs_live_denoise.records.types import BoolArray, Fields

pa: Any = pyarrow  # has no types
Table: TypeAlias = Any

TABLE_KEY = "internal"
# Room for what a message holds besides its rows: names and types of fifty columns.
MESSAGE_OVERHEAD = 64_000


class TiledTable:
    """The state of one table: how many rows are in it, and which of them a failed write left.

    An append is not idempotent. When one fails, nobody knows whether its rows arrived, and the
    caller will offer them again. Before the next append the table is therefore asked how many rows
    it has, and rows that did arrive since the last `settle` are not written twice.

    Parameters
    ----------
    stream
        Client (plain container) of the stream's node.
    schema
        Column -> (kind, unit), see `schema`.
    key
        Columns by which a row that is offered again is recognised.
    access_tags
        For the node; None where the server asks for none.
    max_message_bytes
        Most bytes of one message.
    """

    def __init__(
        self,
        stream: Node,
        schema: Mapping[str, tuple[str, str]],
        *,
        key: Sequence[str],
        access_tags: list[str] | None,
        max_message_bytes: int,
    ):
        self._stream = stream
        self._columns = tuple(schema)
        self._schema: Any = arrow_schema(schema)
        self._key = tuple(key)
        self._access_tags = access_tags
        self._max_bytes = max(1, max_message_bytes - MESSAGE_OVERHEAD)
        self._node: Node = None
        self._unsettled: list[Table] = []
        self._in_doubt: Table | None = None
        self._adopted: set[tuple[str, ...]] = set()
        self.n_rows = 0

    def adopt(self) -> None:
        """Go on with the table that another process left; none of its rows is written again."""
        self._node = self._stream[TABLE_KEY]
        stored = self._node.read(["seq_num", *self._key])
        columns = {name: np.asarray(stored[name]) for name in self._key}
        self._adopted = set(self._keys(pa.table(columns)))
        self.n_rows = int(stored["seq_num"].max()) if len(stored) else 0

    def append(self, columns: Fields) -> None:
        """Append rows, less those that an unsettled append has already brought.

        Parameters
        ----------
        columns
            Every column of the schema, one entry a row.
        """
        if self._node is None:
            self._node = create_or_adopt(
                self._stream,
                TABLE_KEY,
                lambda: self._stream.create_appendable_table(
                    schema=self._schema, key=TABLE_KEY, access_tags=self._access_tags
                ),
            )
        self._resolve_doubt()
        table = pa.table({name: np.asarray(columns[name]) for name in self._columns})
        table = table.filter(pa.array(self._is_new(table)))
        if not table.num_rows:
            return
        full = self._complete(table)
        rows = max(1, self._max_bytes * full.num_rows // max(1, full.nbytes))
        for start in range(0, full.num_rows, rows):
            self._send(full.slice(start, rows))

    def settle(self) -> None:
        """Forget what the caller might offer again: the whole write was a success."""
        self._unsettled.clear()

    def close(self) -> None:
        """Tell live subscribers that nothing more comes."""
        if self._node is not None:
            self._node.close_stream()

    def _send(self, part: Table) -> None:
        self._in_doubt = part  # until an answer says that it has arrived
        self._node.append_partition(0, part)
        self._confirm(part)

    def _confirm(self, part: Table) -> None:
        self._in_doubt = None
        self.n_rows += part.num_rows
        self._unsettled.append(part)

    def _resolve_doubt(self) -> None:
        """Find out whether the append of unknown fate has arrived."""
        if self._in_doubt is None:
            return
        stored = self._node.read(["seq_num"])["seq_num"]
        if len(stored) > 0 and int(stored.max()) > self.n_rows:
            self._confirm(self._in_doubt)
        self._in_doubt = None

    def _is_new(self, table: Table) -> BoolArray:
        known = {row for part in self._unsettled for row in self._keys(part)}
        if not known and not self._adopted:
            return np.ones(int(table.num_rows), dtype=bool)
        rows = self._keys(table)
        return np.array([row not in known and row not in self._adopted for row in rows], dtype=bool)

    def _keys(self, table: Table) -> list[tuple[str, ...]]:
        # As text, because NaN (the age of a whole series) is unequal to itself.
        columns = [[str(value) for value in table[name].to_pylist()] for name in self._key]
        return list(zip(*columns, strict=True))

    def _complete(self, table: Table) -> Table:
        n, now = table.num_rows, time.time()
        stamps = np.full(n, now)
        arrays: list[Any] = [np.arange(self.n_rows + 1, self.n_rows + n + 1), stamps]
        arrays += [table[name] for name in self._columns]
        arrays += [stamps] * len(self._columns)
        columns = dict(zip(self._schema.names, arrays, strict=True))
        return pa.table(columns).cast(self._schema)
