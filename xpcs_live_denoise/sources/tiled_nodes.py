"""Nodes of a container in Tiled that should be raw runs, and one sentence where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpcs_live_denoise.errors import ResultNotFoundError, text_of


def node_of(container: Any, uid: str) -> Any:
    """Return the node of a run, whose uid may be only its beginning.

    Raises
    ------
    ResultNotFoundError
        When there is none, or more than one, or it is no run.
    """
    why = ""
    try:
        node = container[uid]
        found = str(start_of(node, uid)["uid"]).startswith(uid)
        # Tiled takes % and _ in the beginning of a uid for anything.
        if found or node.path_parts[-1] == uid:
            return node
    except KeyError:
        pass
    except ValueError as error:  # too short, or the beginning of several
        why = f" ({text_of(error, 200)})"
    path = "/".join(filter(None, container.path_parts))
    raise ResultNotFoundError(
        f"Run {uid}: not in /{path}{why}. Give the uid of a raw run there, or set "
        "tiled.raw_path to the container that holds the raw runs."
    )


def start_of(node: Any, uid: str) -> dict[str, Any]:
    """Return the start document of a node.

    Raises
    ------
    ResultNotFoundError
        When it is no run.
    """
    start = node.metadata.get("start")
    if not isinstance(start, Mapping) or "uid" not in start:
        raise ResultNotFoundError(
            f"Run {uid}: a node without a start document; expected a raw run. Give the uid of one."
        )
    return dict(start)
