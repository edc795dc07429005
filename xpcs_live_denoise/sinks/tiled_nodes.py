"""Creates nodes in Tiled such that a repeat after a lost answer finds what the first one made."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tiled.client.utils import ClientError
from tiled.structures.core import Spec

from xpcs_live_denoise.errors import InvalidInputError

HTTP_CONFLICT = 409


def create_or_adopt(parent: Any, key: str, create: Callable[[], Any]) -> Any:
    """Return the node that `create` makes, or the one of that key that is already there."""
    try:
        return create()
    except ClientError as error:
        if error.response.status_code != HTTP_CONFLICT:
            raise
        return parent[key]


def plain(node: Any) -> Any:
    """Return the plain container client of a node; special clients look for columns in it."""
    return getattr(node, "base", node)


def create_container(
    parent: Any,
    key: str,
    metadata: dict[str, Any],
    specs: Sequence[tuple[str, str | None]],
    access_tags: list[str] | None,
) -> Any:
    """Return a new container with specs as (name, version), or the one that is already there."""
    tiled_specs = [Spec(name, version) for name, version in specs]
    return create_or_adopt(
        parent,
        key,
        lambda: parent.create_container(
            key, metadata=metadata, specs=tiled_specs, access_tags=access_tags
        ),
    )


def results_path(path: str, raw_path: str | None) -> list[str]:
    """Return the parts of the path of the container for derived runs.

    Raises
    ------
    InvalidInputError
        When `path` is empty or is the container of the raw runs.
    """
    segments = [part for part in path.split("/") if part]
    raw = [part for part in (raw_path or "").split("/") if part]
    if not segments:
        raise InvalidInputError(
            f"Container for derived runs: got {path!r}; expected a name such as 'processed'."
        )
    if segments == raw:
        raise InvalidInputError(
            f"Container for derived runs: got {path!r}, which holds the raw runs; expected another "
            "one, otherwise catalog[-1] and catalog[scan_id] would find results instead of runs."
        )
    return segments


def results_container(
    client: Any,
    segments: Sequence[str],
    spec: tuple[str, str | None],
    access_tags: list[str] | None,
) -> Any:
    """Return the container for derived runs below a client, made where it is not there.

    Parameters
    ----------
    segments
        Keys on the way down, see `results_path`; the last is the container, and gets `spec`.
    """
    parent = client
    for depth, key in enumerate(segments, start=1):
        if key in parent:
            parent = parent[key]
        else:
            specs = (spec,) if depth == len(segments) else ()
            parent = create_container(parent, key, {}, specs, access_tags)
    return parent
