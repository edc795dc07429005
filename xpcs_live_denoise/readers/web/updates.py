"""Writes an update of a node's stream into the state of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .run_state import RunState
from .tiled_http import read_arrow

UNUSABLE = (LookupError, ValueError, TypeError)
"""What `take` raises for an update that cannot be used."""


def take(state: RunState, stream: str, name: str, update: Mapping[str, Any]) -> None:
    """Write an update of an array or a table, as Tiled sends it, into a state.

    Parameters
    ----------
    state
        Of the run.
    stream, name
        Of the node.
    update
        Its `type`, `payload`, and of an array `shape` and `offset` (None: all of it).
    """
    if update["type"] == "table-data":
        state.append(stream, read_arrow(update["payload"]))
        return
    dtype = np.dtype("<f4") if stream == "two_time" else state.picture[name].dtype
    values = np.frombuffer(update["payload"], dtype).reshape(update["shape"])
    offset = tuple(update["offset"] or (0,) * values.ndim)
    if stream == "two_time":
        state.patch(name, values, (offset[0], offset[1], offset[2]))
    else:
        state.patch_picture(name, values, offset)
