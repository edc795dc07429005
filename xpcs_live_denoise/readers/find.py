"""Finds the result of a run in Tiled, and the raw run that a word on a command line names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tiled.client.constructors import from_context
from tiled.client.utils import ClientError
from tiled.queries import Comparison, Eq, In, Like, SpecsQuery

from xpcs_live_denoise.catalog import Node, catalogs_of_runs, raw_container, run_node
from xpcs_live_denoise.errors import ResultNotFoundError, one_line, short_repr
from xpcs_live_denoise.records.run import RESULT_SPEC

from .client import XPCSResult
from .run_names import EXPECTED, RawRun, choose, in_words, readings, scan_ids, uid_beginning
from .same_run import standing

HTTP_BAD_REQUEST = 400
MOST_FOUND = 200  # analyses of one run, or runs with one scan_id


def results(
    catalog: Node, run: str | int, *, detector: str | None = None, path: str = "processed"
) -> XPCSResult:
    """Return the newest result that was derived from a run, one that succeeded before all others.

    Parameters
    ----------
    catalog
        Any Tiled client of the server: of the root, of the container with the derived runs, or of
        the container with the raw runs. databroker 2's clients are Tiled clients and serve as well.
    run
        The uid of the raw run or of one result, or its first 6 or more letters; an int (or the text
        of a scan_id that is no number) is a scan_id, of several runs that have it the newest, with
        a warning; -1 is the newest run that has a result.
    detector
        Name of the detector or of its data key, for a run of which several were analysed. Without
        it the newest result of any is returned, with a warning that names them.
    path
        Container of the derived runs, looked for from `catalog` upwards to the root; for numbers
        only the nearest one counts.

    Raises
    ------
    ResultNotFoundError
        When nothing was derived from the run, or several runs are meant; says what was looked for,
        and where.
    InvalidInputError
        For what names no run.
    """
    meant = readings(run)
    searched: list[Node] = []
    for container in containers_of_results(catalog, path):
        # A uid is that of one run wherever it lies; a scan_id counts at one beamline only.
        looked_for = [one for one in meant if isinstance(one, str) or len(searched) < 2]
        if not looked_for:
            break
        searched.append(container)
        for reading in looked_for:
            if found := _derived(container, reading):
                raw, note = _one_run(found, reading, catalog, searched)
                if note:
                    warnings.warn(note, stacklevel=2)
                of_run = [node for node in found if _raw_run(node).uid == raw.uid]
                best, notes = _one_detector(of_run, raw, detector, _place(container))
                for note in notes:
                    warnings.warn(note, stacklevel=2)
                return _as_result(best)
    raise _not_found(run, meant, catalog, searched)


def find_raw_run(client: Node, word: str, *, raw_path: str, path: str) -> tuple[str, str]:
    """Return the uid of the raw run that a word on a command line names, and a note or "".

    Digits are a scan_id first; the note names both runs where they are the beginning of a uid as
    well. A result, in the container `path`, names the raw run that it was derived from. `client` is
    that of the root, `raw_path` the container of the raw runs.

    Raises
    ------
    ResultNotFoundError
        When no run is there, or several are meant.
    InvalidInputError
        For what names no run.
    """
    container = raw_container(client, raw_path)
    where, taken, note = _place(container), None, ""
    meant = readings(word, scan_id_first=True)
    for reading in meant:
        runs = _raw_runs(container, reading)
        if isinstance(reading, str):
            for derived in _containers(client, [path]):
                runs += map(_raw_run, _derived(derived, reading))
        if runs and taken is None:
            taken, note = choose(runs, reading, where)
        elif taken and (others := sorted({run.uid for run in runs} - {taken.uid})):
            note += (
                f" Run {word}: taken as {in_words(meant[0])}, {taken}. The uid "
                f"{' and '.join(others)} begins so, too: give more letters of it to have that run."
            )
    if taken is not None:
        return taken.uid, note.strip()
    try:  # a server that cannot search may still know the beginning of a uid
        return str(run_node(container, word).metadata["start"]["uid"]), ""
    except (ResultNotFoundError, KeyError, TypeError):
        raise ResultNotFoundError(
            f"Run {word}: not in {where}. Looked for {', or '.join(map(in_words, meant))}. "
            f"{EXPECTED} The raw runs are where tiled.raw_path says."
        ) from None


def results_of(client: Node, uid: str, data_key: str, *, path: str) -> list[XPCSResult]:
    """Return all results of one raw run's detector in the container `path`, the newest first."""
    found = [node for container in _containers(client, [path]) for node in _derived(container, uid)]
    return [_as_result(node) for node in found if _detector_names(node)[1] == data_key]


def select_raw_runs(
    client: Node,
    *,
    raw_path: str,
    detector: str,
    since: float | None = None,
    until: float | None = None,
    sample: str | None = None,
    scan_ids: Sequence[tuple[int, int]] = (),
) -> list[RawRun]:
    """Return the raw runs that fit all that is given, the oldest first.

    `since` and `until` are seconds since 1970, `scan_ids` ranges with both ends. Runs whose start
    names other detectors alone are left out. A sample, or a scan_id, is the same as number or text.
    """
    runs = raw_container(client, raw_path).search(SpecsQuery([], [RESULT_SPEC]))
    runs = runs.search(Comparison("gt", "start.time", 0.0 if since is None else since))
    if until is not None:
        runs = runs.search(Comparison("lt", "start.time", until))
    parts = [runs]
    if sample is not None:
        parts = [one.search(Eq("start.sample", value)) for one in parts for value in _spelt(sample)]
    if scan_ids:
        parts = [
            one
            for part in parts
            for first, last in scan_ids
            for one in _with_scan_ids(part, first, last)
        ]
    by_uid: dict[str, RawRun] = {}
    for node in (node for part in parts for node in part.values()):
        start = node.metadata.get("start") or {}
        if detector in (start.get("detectors") or [detector]):
            run = RawRun.from_start(start, of_result=False)
            by_uid[run.uid] = run
    return sorted(by_uid.values(), key=lambda run: run.time)


def _spelt(word: str) -> list[Any]:
    """Return how a start document may write a word: numbers are written as either."""
    spelt: list[Any] = [word]
    for kind in (int, float):
        try:
            spelt.append(kind(word))
        except ValueError:
            continue
    return spelt


def _with_scan_ids(runs: Node, first: int, last: int) -> list[Node]:
    key = "start.scan_id"
    found = [runs.search(Comparison("ge", key, first)).search(Comparison("le", key, last))]
    if last - first < MOST_FOUND:  # written as text they have no order
        found.append(runs.search(In(key, [str(number) for number in range(first, last + 1)])))
    return found


# --- where runs are --------------------------------------------------------------------------


def containers_of_results(catalog: Node, path: str) -> Iterator[Node]:
    """Yield the containers that may hold the results, `catalog` itself first."""
    yield catalog
    here = [part for part in catalog.path_parts if part]
    above = ("/".join((*here[:depth], path)) for depth in range(len(here), -1, -1))
    yield from _containers(from_context(catalog.context), above)


def _containers(root: Node, paths: Any) -> Iterator[Node]:
    for path in paths:
        try:
            yield root[tuple(part for part in path.split("/") if part)]
        except KeyError:
            continue


def _place(container: Node) -> str:
    return "/" + "/".join(part for part in container.path_parts if part)


def _raw_places(catalog: Node, searched: Sequence[Node], stored: str | None = None) -> list[Node]:
    """Return the containers that may hold the raw runs: `catalog`, and those beside the results.

    `stored` is where a result says that they are.
    """
    root = from_context(catalog.context)
    paths = [_place(catalog), f"/{stored.strip('/')}"] if stored else [_place(catalog)]
    above = dict.fromkeys(_place(container).rpartition("/")[0] for container in searched)
    for place in above:
        for beside in _containers(root, [place]):
            paths += [f"{place}/{key}" for key in catalogs_of_runs(beside)]
    return list(_containers(root, dict.fromkeys(paths)))


# --- what fits a name ------------------------------------------------------------------------


def _found(
    container: Node, *queries: Any, newest_by: str = "start.time", most: int = MOST_FOUND
) -> list[Node]:
    """Return the runs that fit all queries, the newest first; none if the server cannot search."""
    try:
        for query in queries:
            container = container.search(query)
        return list(container.sort((newest_by, -1)).values()[:most])
    except ClientError as error:
        if error.response.status_code != HTTP_BAD_REQUEST:
            raise
        return []


def _derived(container: Node, reading: int | str) -> list[Node]:
    """Return the results in a container that a reading fits."""
    ours = SpecsQuery([RESULT_SPEC])  # other tools name a run's origin in the same way
    if isinstance(reading, int):
        if reading >= 0:
            return _with_scan_id(container, ours, reading)
        return _results_of_newest_run(container, ours, -reading)
    keys = ("start.original_run_uid", "start.uid")
    for key in (*keys, "start.xpcs.scan_id"):
        if found := _found(container, ours, Eq(key, reading)):
            return found
    if letters := uid_beginning(reading):
        return [node for key in keys for node in _found(container, ours, Like(key, f"{letters}%"))]
    return []


def _with_scan_id(container: Node, kind: Any, reading: int) -> list[Node]:
    keys = (Eq("start.scan_id", value) for value in scan_ids(reading))
    return [node for key in keys for node in _found(container, kind, key)]


def _results_of_newest_run(container: Node, ours: Any, number: int) -> list[Node]:
    """Return the results of the raw run that is `number` from the last, 1 for the last."""
    key, most = "start.xpcs.raw_time", min(MOST_FOUND, 20 * number)
    # Results of before schema 2 have no raw_time.
    found = _found(container, ours, Comparison("gt", key, 0.0), newest_by=key, most=most)
    found += _found(container, ours, most=most)
    by_run: dict[str, list[Node]] = {}
    for node in sorted(found, key=lambda node: _raw_run(node).time, reverse=True):
        by_run.setdefault(_raw_run(node).uid, []).append(node)
    return list(by_run.values())[number - 1] if number <= len(by_run) else []


def _raw_runs(container: Node, reading: int | str) -> list[RawRun]:
    """Return the raw runs in a container that a reading fits."""
    began, found = Comparison("gt", "start.time", 0.0), list[Node]()
    others = SpecsQuery([], [RESULT_SPEC])
    if isinstance(reading, int):
        if reading >= 0:
            found = _with_scan_id(container, others, reading)
        else:
            found = _found(container, others, began)[-reading - 1 : -reading]
    else:
        found = _found(container, others, Eq("start.uid", reading))
        found = found or _found(container, others, Eq("start.scan_id", reading))
        if not found and (letters := uid_beginning(reading)):
            found = _found(container, others, Like("start.uid", f"{letters}%"))
    starts = (node.metadata.get("start") or {} for node in found)
    return [RawRun.from_start(start, of_result=False) for start in starts]


# --- which of them ---------------------------------------------------------------------------


def _raw_run(result: Node) -> RawRun:
    return RawRun.from_start(result.metadata["start"], of_result=True)


def _one_run(
    found: Sequence[Node], reading: int | str, catalog: Node, searched: Sequence[Node]
) -> tuple[RawRun, str]:
    """Return the raw run that is meant, and a note; see `choose`.

    Raises ResultNotFoundError also where the newest run with a scan_id has no result: that of an
    older one would be taken for it.
    """
    runs = list(map(_raw_run, found))
    analysed = {run.uid for run in runs}
    if isinstance(reading, int) and reading >= 0:
        stored = found[0].metadata["start"].get("xpcs", {}).get("raw_path")
        for place in _raw_places(catalog, searched, stored):
            runs += _raw_runs(place, reading)
    run, note = choose(runs, reading, _place(searched[-1]))
    if run.uid not in analysed:
        older = ", ".join(str(one) for one in runs if one.uid in analysed)
        raise ResultNotFoundError(
            f"Scan {reading}: the newest run with this scan_id, {run}, has no result; expected one "
            f"that was analysed. {_replay(run)} For an older one give its uid: {older}."
        )
    return run, note


def _replay(run: RawRun) -> str:
    return f"`xpcs-live-denoise replay {run.uid} --config xpcs.yml` analyses it."


def _one_detector(
    found: Sequence[Node], raw: RawRun, detector: str | None, where: str
) -> tuple[Node, list[str]]:
    """Return the best result of a detector (see `standing`), the newest of several, and notes.

    Without `detector` that of any, and a note names them; another one of a newer that failed.
    """
    all_names = set(map(_detector_names, found))
    named = " and ".join(f"{name} ({key})" for name, key in sorted(all_names))
    if detector is not None:
        found = [node for node in found if detector in _detector_names(node)]
        if not found:
            raise ResultNotFoundError(
                f"Run {raw}: no result of the detector {short_repr(detector)} in {where}; expected "
                f"one that was analysed: {named}. Give detector= one of these names."
            )
    best = max(found, key=lambda node: (standing(_stop(node)), node.metadata["start"]["time"]))
    notes: list[str] = []
    if detector is None and len(all_names) > 1:
        notes.append(
            f"Run {raw}: has results of {len(all_names)} detectors, {named}. That of "
            f"{_detector_names(best)[1]} is taken{_by(best)}; give detector= one of these names to "
            "choose."
        )
    same = [node for node in found if _detector_names(node) == _detector_names(best)]
    newest = max(same, key=lambda node: node.metadata["start"]["time"])
    if standing(_stop(newest)) < min(1, standing(_stop(best))):
        uids = [node.metadata["start"]["uid"] for node in (newest, best)]
        reason = one_line(str((_stop(newest) or {}).get("reason") or "no reason is known"), 200)
        notes.append(
            f"Run {raw}: its newest result, {uids[0]}{_by(newest)}, failed: {reason} The one of "
            f"before, {uids[1]}{_by(best)}, is taken; for the other one give its uid."
        )
    return best, notes


def _stop(result: Node) -> Any:
    return result.metadata.get("stop")


def _by(result: Node) -> str:
    """Return how a result was made, where it tells."""
    known = result.metadata["start"].get("xpcs", {}).get("analysed_by")
    return f" (analysed by: {known})" if known else ""


def _detector_names(result: Node) -> tuple[str, str]:
    """Return the names of the detector and of its data key."""
    xpcs = result.metadata["start"].get("xpcs", {})
    return str(xpcs.get("detector", "")), str(xpcs.get("image_key", ""))


def _not_found(
    run: object, meant: Sequence[int | str], catalog: Node, searched: Sequence[Node]
) -> ResultNotFoundError:
    """Return the error of a run without result; says whether the raw run is there."""
    places = ", ".join(dict.fromkeys(map(_place, searched)))
    looked = ", or ".join(map(in_words, meant))
    remedy = (
        "Expected a run that was taken while LiveDenoise was subscribed; give path=... if results "
        "lie elsewhere."
    )
    for container in _raw_places(catalog, searched):
        for reading in meant:
            if runs := _raw_runs(container, reading):
                raw, _ = choose(runs, reading, _place(container))
                remedy = f"The raw run is in {_place(container)}: {raw}. {_replay(raw)}"
    return ResultNotFoundError(f"Run {run}: no result in {places}. Looked for {looked}. {remedy}")


def _as_result(client: Node) -> XPCSResult:
    if isinstance(client, XPCSResult):
        return client
    # A client that was made before this package was installed knows no special class.
    result: Any = XPCSResult(
        client.context, item=client.item, structure_clients=client.structure_clients
    )
    return result
