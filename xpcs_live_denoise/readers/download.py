"""The HDF5 file that Tiled's server makes of a result: `media_types` of its configuration."""

from __future__ import annotations

import functools
import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import XpcsError
from xpcs_live_denoise.records.types import Array

from .contents import ROWS, Contents, StoredArray, check_finished
from .nexus import PARTS, write_nexus

# A server makes the file in its memory, for anybody who asks.
MOST_BYTES = 2**30


async def hdf5_exporter(
    mimetype: str,  # noqa: ARG001 - Tiled's signature
    adapter: Any,
    metadata: dict[str, Any],
    filter_for_access: Callable[[Any], Awaitable[Any]],
) -> bytes:
    """Return a result as the file that `XPCSResult.export` writes.

    For `media_types: {XPCSResult: {application/x-hdf5: ...}}`. A run that is still on, one whose
    analysis failed, and one that is too large for a server's memory are refused with a sentence.
    """
    import anyio.to_thread
    from tiled.utils import SerializationError

    run = await filter_for_access(adapter)
    arrays: dict[str, StoredArray] = {}
    of_nodes: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for stream in await run.keys_range(offset=0, limit=None):
        node = await run.lookup_adapter([stream])
        for name in await node.keys_range(offset=0, limit=None):
            child = await node.lookup_adapter([name])
            if name == ROWS:
                tables[stream] = await child.read()
            else:
                arrays[f"{stream}/{name}"] = ServedArray(child)
                of_nodes[f"{stream}/{name}"] = child.metadata()
    n_bytes = sum(array.n_bytes for array in arrays.values() if isinstance(array, ServedArray))
    try:
        check_finished(metadata, has_c2="two_time/c2" in arrays)
        if n_bytes > MOST_BYTES:
            raise SerializationError(
                f"this result has {n_bytes / 2**30:.1f} GiB, more than a server makes a file of in "
                "its memory. Use XPCSResult.export() or `xpcs-live-denoise export`, which read it "
                "piece by piece."
            )
        contents = Contents.of_run(metadata, arrays, tables, of_nodes)
    except XpcsError as error:
        raise SerializationError(str(error)) from error
    file = io.BytesIO()
    await anyio.to_thread.run_sync(functools.partial(write_nexus, file, contents, PARTS))
    return file.getvalue()


class ServedArray:
    """An array as the server has it, for a thread that is not the server's own."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        structure = adapter.structure()
        self.shape: tuple[int, ...] = tuple(structure.shape)
        self.n_bytes = structure.data_type.itemsize * int(np.prod(self.shape))

    def __getitem__(self, box: Any) -> Array:
        import anyio.from_thread
        from tiled.ndslice import NDSlice

        parts = box if isinstance(box, tuple) else (box,)
        return anyio.from_thread.run(self._adapter.read, NDSlice(*parts))
