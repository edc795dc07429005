"""Finds runs and containers in Tiled, and creates them such that a repeat finds the first one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from tiled.client.utils import ClientError
from tiled.queries import KeyPresent, KeysFilter, SpecsQuery
from tiled.structures.core import Spec

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, text_of
from xpcs_live_denoise.records.run import RESULT_SPEC
from xpcs_live_denoise.records.types import Document

from .schema import CATALOG_SPEC

Node: TypeAlias = Any  # a client of tiled, or what one gives for a path: they have no types

# Where results can go that were meant for a container that does not do.
ELSEWHERE = (
    "`xpcs-live-denoise deliver --config xpcs.yml --path processed` then stores there what waits "
    "in the spool."
)
MOST_CHILDREN = 200  # that are looked at for a catalog of runs
HTTP_BAD_REQUEST, HTTP_FORBIDDEN, HTTP_CONFLICT = 400, 403, 409
# Containers that were asked already what they hold, by connection.
_without_raw_runs: WeakKeyDictionary[Node, set[tuple[str, ...]]] = WeakKeyDictionary()


def create_or_adopt(parent: Node, key: str, create: Callable[[], Node]) -> Node:
    """Return the node that `create` makes, or the one of that key that is already there."""
    try:
        return create()
    except ClientError as error:
        if error.response.status_code == HTTP_FORBIDDEN:
            place = "/".join(filter(None, parent.path_parts))
            raise InvalidInputError(
                f"Container /{place}: the server refuses to create {key!r} in it (status 403); "
                "expected an API key that may create and write there. Use the key of somebody who "
                "may, and set tiled.access_tags where the server asks for them."
            ) from error
        if error.response.status_code != HTTP_CONFLICT:
            raise
        return parent[key]


def plain(node: Node) -> Node:
    """Return the plain container client of a node; special clients look for columns in it."""
    return getattr(node, "base", node)


def create_container(
    parent: Node,
    key: str,
    metadata: Document,
    specs: Sequence[tuple[str, str | None]],
    access_tags: list[str] | None,
) -> Node:
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
    """Return the parts of the path of the container for derived runs, which holds no raw ones."""
    segments = [part for part in path.split("/") if part]
    raw = [part for part in (raw_path or "").split("/") if part]
    if not segments:
        raise InvalidInputError(
            f"Container for derived runs: got {path!r}; expected a name such as 'processed'. Set "
            f"tiled.path to it; {ELSEWHERE}"
        )
    if segments == raw:
        raise InvalidInputError(
            f"Container for derived runs: got {path!r}, which holds the raw runs; expected another "
            "one, otherwise catalog[-1] and catalog[scan_id] would find results instead of runs. "
            f"Set tiled.path to it; {ELSEWHERE}"
        )
    return segments


def results_container(
    client: Node,
    segments: Sequence[str],
    spec: tuple[str, str | None],
    access_tags: list[str] | None,
    raw_uid: str = "",
) -> Node:
    """Return the container for derived runs below a client, made where it is not there.

    `segments` are the keys on the way down, see `results_path`; the last is the container, and
    gets `spec`. Raw runs must not lie there, see `refuse_raw_runs`.
    """
    refuse_raw_runs(client, segments, raw_uid)
    parent = client
    for depth, key in enumerate(segments, start=1):
        if key in parent:
            parent = parent[key]
        else:
            specs = (spec,) if depth == len(segments) else ()
            parent = create_container(parent, key, {}, specs, access_tags)
    return parent


def refuse_raw_runs(client: Node, segments: Sequence[str], raw_uid: str = "") -> None:
    """Raise if the container for derived runs holds raw ones; asks once a connection.

    A run of another tool that names its origin, in `original_run_uid`, is not a raw one; the run
    `raw_uid` is one whatever its specs. The container, at `segments` from the root, need not be
    there.
    """
    known, place = _without_raw_runs.setdefault(client.context, set()), tuple(segments)
    if place in known:
        return
    try:
        container = plain(client[place])
    except KeyError:
        return
    found = _strangers(container)
    if not found and raw_uid:
        found = list(container.search(KeysFilter([raw_uid])).keys()[:1])
    if found:
        raise InvalidInputError(
            f"Container /{'/'.join(segments)}: holds raw runs, {found[0]} for one; expected one "
            "for derived runs alone, otherwise catalog[-1] and catalog[scan_id] would find results "
            "instead of runs. Set tiled.path to another container, for example processed, which "
            f"is made if it is not there; {ELSEWHERE}"
        )
    if len(container):  # the first raw run of an empty one may be on its way
        known.add(place)


def _strangers(container: Node) -> list[str]:
    """Return the key of a run that was derived from none; nothing if the server cannot tell."""
    runs = container.search(SpecsQuery(["BlueskyRun"], [RESULT_SPEC]))
    try:
        return list(runs.search(KeyPresent("start.original_run_uid", exists=False)).keys()[:1])
    except ClientError as error:
        if error.response.status_code != HTTP_BAD_REQUEST:
            raise
        return []


def raw_container(client: Node, path: str) -> Node:
    """Return the container that holds the raw runs."""
    try:
        return client[path]
    except KeyError:
        raise ResultNotFoundError(
            f"Container /{path}: not in the Tiled server, or not for this key. Set tiled.raw_path "
            "to the container that holds the raw runs."
        ) from None


def catalogs_of_runs(container: Node) -> list[str]:
    """Return the keys of what is a catalog of runs in a container."""
    # No search: a server that keeps its top level in memory finds nothing by spec.
    children = plain(container).items()[:MOST_CHILDREN]
    return [key for key, node in children if any(s.name == CATALOG_SPEC[0] for s in node.specs)]


def run_node(container: Node, uid: str) -> Node:
    """Return the node of the one run that a uid or its beginning names."""
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


def start_of(node: Node, uid: str) -> Document:
    """Return the start document of a node; one without is no run, and an error."""
    start = node.metadata.get("start")
    if not isinstance(start, Mapping) or "uid" not in start:
        raise ResultNotFoundError(
            f"Run {uid}: a node without a start document; expected a raw run. Give the uid of one."
        )
    return dict(start)
