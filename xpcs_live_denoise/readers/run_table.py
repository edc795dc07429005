"""The table of many runs: one row a run and ROI, from what their stop documents tell."""

from __future__ import annotations

import datetime
import difflib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from tiled.client.utils import handle_error, retry_context

from xpcs_live_denoise import views
from xpcs_live_denoise.catalog import Node
from xpcs_live_denoise.errors import InvalidInputError, one_line, short_repr
from xpcs_live_denoise.records.run import RESULT_SPEC
from xpcs_live_denoise.records.types import Document, Fields

from .find import containers_of_results
from .run_names import scan_id_of
from .same_run import flattened, labels_of, mapping, standing

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

RUNS_A_REQUEST = 100
DAY_S = 86_400.0
MOST_SECONDS = 1e11  # the year 5138; above it somebody gave milliseconds
# All that the table needs, in the server's own language of queries: no settings, no model card.
NEEDED = (
    "{n_frames: n_frames, stop: stop, start: merge(start || `{}`, {xpcs: {"
    "detector: start.xpcs.detector, image_key: start.xpcs.image_key, "
    "raw_time: start.xpcs.raw_time, analysed_by: start.xpcs.analysed_by, roi: start.xpcs.roi, "
    "q_inv_angstrom: start.xpcs.q_inv_angstrom, phi_deg: start.xpcs.phi_deg, "
    "time_unit: start.xpcs.time_unit, scan_id: start.xpcs.scan_id}})}"
)
# And the settings, which tell results of one run apart.
NEEDED_OF_EACH = NEEDED.replace(
    "scan_id: start.xpcs.scan_id",
    "scan_id: start.xpcs.scan_id, settings: start.xpcs.settings, "
    "settings_hash: start.xpcs.settings_hash",
)
# Columns of a ROI and of a run that its stop document has under `xpcs`.
OF_ROI = (
    "q_inv_angstrom", "phi_deg", "relaxation_rate", "relaxation_rate_error", "alpha", "beta",
    "baseline", "n_ages", "dose",
)  # fmt: skip
OF_RUN = ("exponent", "exponent_error", "diffusion", "diffusion_error", "n_frames", "n_skipped")
COLUMNS = (
    "scan_id", "sample", "roi", *OF_ROI, *OF_RUN, "state", "time", "time_unit", "plan", "detector",
    "uid", "result_uid", "analysed_by", "result", "n_results",
)  # fmt: skip
_SCANS = re.compile(r"\s*(\d{1,18})\s*(?:(?:-|\.\.|:)\s*(\d{1,18})\s*)?")


def runs(
    catalog: Node,
    *,
    sample: object = None,
    since: object = None,
    until: object = None,
    plan: object = None,
    scan_ids: object = None,
    detector: object = None,
    path: str = "processed",
    every_result: bool = False,
    **start_keys: object,
) -> pd.DataFrame:
    """Return a table of many runs, one row a run and ROI, the newest run first.

    It is made of the runs' start and stop documents alone, a request for each hundred runs: no run
    is opened. A run that is on, or was analysed by an earlier version, has NaN for its rates.

    Parameters
    ----------
    catalog
        Any Tiled client of the server, as for `results`.
    sample, plan, detector
        Name of the sample, of the plan, of the detector or its data key; a list: any of them.
    since, until
        When the raw run began: "2026-11-20", "2026-11-20 14:30", a date or datetime, or seconds
        since 1970. Local time unless it says otherwise; `until` a day includes it.
    scan_ids
        A number, "100-200" (both included), or several of these; a range as Python's.
    path
        Container of the derived runs, looked for from `catalog` upwards to the root.
    every_result
        All results of a run, not only the one that `results` takes; the column `result` says which
        is which.
    **start_keys
        Other keys of the start document, T_sample=25 for example; a list: any of the values. Inside
        a mapping with dots, `**{"sample.T": 25}`. 20, 20.0 and "20" are alike.

    Returns
    -------
    pandas.DataFrame
        Columns COLUMNS, then every other key of the start documents that is a number, a text or a
        truth value, as numbers where all are. `relaxation_rate` is the typical Gamma of the
        recommended rows, in 1/`time_unit`; `exponent` that of q over the ROIs, and `diffusion` D of
        Gamma = D q^2 in square angstrom per `time_unit`; `dose` counts a pixel; `state` "live",
        "finished", "failed" or "aborted"; `time` when the raw run began, local. `uid` is that of
        the raw run. Of several results of a run and detector (`n_results`) the newest that
        succeeded is shown. `result` is what that is called: who analysed, and in which settings it
        differs from the oldest one ("reprocess, outliers off") where `every_result` is shown.

    Raises
    ------
    InvalidInputError
        For what is no date or scan_id, and for a key that no run has.
    """
    first, last = seconds_of("since", since), seconds_of("until", until, end_of_day=True)
    if first is not None and last is not None and first > last:
        raise InvalidInputError(
            f"since: got {short_repr(since)}, after until={short_repr(until)}; expected the "
            "earlier of the two as since. Exchange them."
        )
    wanted_scans = None if scan_ids is None else list(scan_ranges(scan_ids))
    needed = NEEDED_OF_EACH if every_result else NEEDED
    # One may come twice: others are written meanwhile.
    documents = dict(_documents(catalog, path, first, needed))
    found = [_run(uid, metadata) for uid, metadata in documents.items()]
    _check_keys(start_keys, found)
    wanted = {"sample": sample, "plan": plan} | start_keys
    kept = [
        run
        for run in _of_runs(found, every=every_result)
        if (first is None or run["time"] >= first)
        and (last is None or run["time"] < last)
        and (wanted_scans is None or _in_ranges(run["scan_id"], wanted_scans))
        and (
            detector is None
            or any(is_any_of(run[name], detector) for name in ("detector", "image_key"))
        )
        and all(
            value is None
            or is_any_of(run[key] if key in ("sample", "plan") else run["keys"].get(key), value)
            for key, value in wanted.items()
        )
    ]
    return _table(kept)


def table_of(documents: Mapping[str, Fields], *, every: bool = False) -> pd.DataFrame:
    """Return the table of results by uid, of what NEEDED leaves of their metadata.

    `every`: all results of each run, and what NEEDED_OF_EACH leaves.
    """
    found = (_run(uid, metadata) for uid, metadata in documents.items())
    return _table(_of_runs(found, every=every))


def _documents(
    catalog: Node, path: str, first: float | None, needed: str
) -> Iterator[tuple[str, Fields]]:
    """Yield uid and metadata of the results, of the nearest container that has any."""
    searched = getattr(catalog, "_queries_as_params", {})  # the user has chosen already
    for container in [catalog] if searched else containers_of_results(catalog, path):
        empty = True
        for item in _pages(container, first, searched, needed):
            metadata = item["attributes"]["metadata"]
            empty = False
            yield item["id"], metadata.get("selected", metadata)
        if not empty:
            return


def _pages(
    container: Node, first: float | None, searched: Mapping[str, list[str]], needed: str
) -> Iterator[Document]:
    """Yield what a container has of each result, the newest first."""
    params: Document = {
        "page[limit]": RUNS_A_REQUEST,
        "sort": "-start.time",
        "fields": "metadata",
        "select_metadata": needed,
        "filter[specs][condition][include]": [json.dumps([RESULT_SPEC])],
        "filter[specs][condition][exclude]": ["[]"],
    }
    if first is not None:
        # When it was analysed: later than it was taken, by clocks that may differ.
        params["filter[comparison][condition][operator]"] = ["ge"]
        params["filter[comparison][condition][key]"] = ["start.time"]
        params["filter[comparison][condition][value]"] = [json.dumps(first - DAY_S)]
    for name, values in searched.items():
        params[name] = [*params.get(name, ()), *values]
    http, url = container.context.http_client, container.item["links"].get("search")
    offset, found = 0, [Document()] * RUNS_A_REQUEST
    while url and len(found) >= RUNS_A_REQUEST:
        for attempt in retry_context():
            with attempt:
                answer: Any = http.get(url, params={**params, "page[offset]": offset})
                found = cast(Any, handle_error(answer)).json()["data"]
        yield from found
        offset += len(found)


# --- one run ----------------------------------------------------------------------------------


def _run(uid: str, metadata: Fields) -> Document:
    """Return what the table says of a run, whatever others may have written into its metadata."""
    start, stop = mapping(metadata.get("start")), mapping(metadata.get("stop"))
    xpcs, summary = mapping(start.get("xpcs")), mapping(stop.get("xpcs"))
    began = number(xpcs.get("raw_time"))
    if math.isnan(began):  # of before schema 2: a little earlier
        began = number(start.get("time"), 0.0)
    state = views.STATES.get(str(stop.get("exit_status")), "ended") if stop else "live"
    own = flattened({name: value for name, value in start.items() if name not in OWN_KEYS})
    keys = {name: value for name, value in own if value is not None}
    known = {name: number(summary.get(name)) for name in OF_RUN}
    if math.isnan(known["n_frames"]):
        known["n_frames"] = number(metadata.get("n_frames"), 0.0)
    labels = summary.get("roi") or xpcs.get("roi") or [math.nan]
    return {
        **known,
        "scan_id": scan_id_of(start),
        "sample": views.sample_name(start),
        "labels": list(map(number, labels if isinstance(labels, list) else [labels])),
        "of_roi": {name: summary.get(name) or xpcs.get(name) for name in OF_ROI},
        "state": state,
        "time": began,
        "analysed": number(start.get("time"), 0.0),
        "time_unit": str(summary.get("time_unit") or xpcs.get("time_unit") or "s"),
        "plan": str(start.get("plan_name") or ""),
        "detector": str(xpcs.get("detector") or ""),
        "image_key": str(xpcs.get("image_key") or ""),
        "uid": str(start.get("original_run_uid") or ""),
        "result_uid": uid,
        "analysed_by": str(xpcs.get("analysed_by") or ""),
        "result": str(xpcs.get("analysed_by") or ""),
        "n_results": 1,
        "standing": standing(stop),
        "start": start,
        "keys": keys,
    }


# Of a result's start document, what is no key of the raw run's.
OWN_KEYS = ("uid", "time", "original_run_uid", "derived_from", "xpcs")
_SHOWN_KEYS = ("scan_id", "sample", "plan_name")  # that have a column of their own


def number(value: object, otherwise: float = math.nan) -> float:
    """Return a value that should be a number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return otherwise
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return otherwise
    return found if math.isfinite(found) else otherwise


def _of_runs(found: Iterable[Document], *, every: bool) -> list[Document]:
    """Return of several results of a run and detector the best, see `standing`; or all, labelled.

    Of several that are as good that is the newest.
    """
    by_run: dict[tuple[str, str], list[Document]] = {}
    for run in found:
        by_run.setdefault((run["uid"] or run["result_uid"], run["image_key"]), []).append(run)
    kept: list[Document] = []
    for same in by_run.values():
        same.sort(key=lambda run: (run["standing"], run["analysed"]), reverse=True)
        shown = same if every else same[:1]
        labels = labels_of([run["start"] for run in shown]) if every else [same[0]["result"]]
        kept += [
            run | {"n_results": len(same), "result": label}
            for run, label in zip(shown, labels, strict=True)
        ]
    return kept


# --- what was asked for ------------------------------------------------------------------------


def is_any_of(value: object, wanted: object) -> bool:
    """Whether a value is the wanted one, or one of several; 20, 20.0 and "20" are alike."""
    if alike(value, wanted):
        return True
    if isinstance(wanted, str | bytes | Mapping) or not isinstance(wanted, Iterable):
        return False
    return any(alike(value, one) for one in cast("Iterable[object]", wanted))


def alike(value: object, wanted: object) -> bool:
    """Whether two values are the same as a person reads them: as numbers, or as text."""
    item = getattr(wanted, "item", None)  # numpy's numbers
    if callable(item) and not getattr(wanted, "shape", ()):
        wanted = item()
    if value is None or wanted is None:
        return False
    a, b = number(value), number(wanted)
    if not (math.isnan(a) or math.isnan(b)):
        return math.isclose(a, b, rel_tol=1e-9)
    if isinstance(wanted, tuple):
        wanted = list(cast("tuple[object, ...]", wanted))
    if isinstance(value, list) or isinstance(wanted, list):
        return value == wanted
    return str(value).strip().lower() == str(wanted).strip().lower()


def seconds_of(name: str, given: Any, *, end_of_day: bool = False) -> float | None:
    """Return a time as seconds since 1970; of a day its beginning, or its end."""
    if given is None:
        return None
    expected = (
        'expected a day such as "2026-11-20", a time such as "2026-11-20 14:30", a datetime, or '
        "seconds since 1970"
    )
    wrong = InvalidInputError(f"{name}: got {short_repr(given)}; {expected}.")
    try:
        given = _python_time(given)
    except ValueError:
        raise wrong from None
    if isinstance(given, datetime.datetime):
        return given.timestamp()
    if isinstance(given, datetime.date):
        day = datetime.datetime.combine(given, datetime.time())
        # Not 24 hours on: days with a change of the clocks are shorter or longer.
        return (day + datetime.timedelta(days=end_of_day)).timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise wrong
    if abs(given) > MOST_SECONDS:
        raise InvalidInputError(f"{name}: got {given:g}; {expected}. These are milliseconds?")
    return float(given)


def _python_time(given: Any) -> Any:
    """Return a time as a date, a datetime or a number; ValueError for a text that is none."""
    if hasattr(given, "to_pydatetime"):  # pandas
        return given.to_pydatetime()
    if type(given).__name__ == "datetime64":  # numpy
        given = str(given)
    if not isinstance(given, str):
        return given.item() if hasattr(given, "item") and not given.shape else given
    text = given.strip()
    if re.fullmatch(r"-?\d{9,}(\.\d*)?|\d+\.\d*", text):
        return float(text)
    # In the one order of its parts that nobody can misread.
    if not re.match(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError(text)
    if len(text) == len("2026-11-20"):
        return datetime.date.fromisoformat(text)
    return datetime.datetime.fromisoformat(text[:26] if text[26:].isdigit() else text)


def scan_ranges(given: object) -> Iterator[tuple[int, int]]:
    """Yield ranges of scan_ids, both ends included."""
    if isinstance(given, range) and len(given) and abs(given.step) == 1:
        yield min(given), max(given)
        return
    index = getattr(given, "__index__", None)
    if index is not None and not isinstance(given, bool):
        yield int(index()), int(index())
        return
    if isinstance(given, str):
        for part in given.split(","):
            match = _SCANS.fullmatch(part)
            if match is None:
                break
            first, last = int(match[1]), int(match[2] or match[1])
            yield min(first, last), max(first, last)
        else:
            return
    elif isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        for one in cast("Iterable[object]", given):
            yield from scan_ranges(one)
        return
    raise InvalidInputError(
        f'scan_ids: got {short_repr(given)}; expected a number, a range such as "100-200", or '
        "several of these."
    )


def _in_ranges(scan_id: object, ranges: Iterable[tuple[int, int]]) -> bool:
    value = number(scan_id)
    return any(first <= value <= last for first, last in ranges)


def _check_keys(asked: Iterable[str], found: Iterable[Document]) -> None:
    """Raise where somebody asks for a key that no run has."""
    known = {key for run in found for key in run["keys"]}
    for key in asked:
        if not known or key in known:
            continue
        names = sorted(known)
        lower = {name.lower(): name for name in names}
        close = difflib.get_close_matches(key.lower(), lower, 3, 0.6)
        remedy = (
            f"Did you mean {' or '.join(repr(lower[one]) for one in close)}?"
            if close
            else f"They have: {', '.join(map(one_line, names[:30]))}"
            f"{', ...' if len(names) > 30 else ''}."
        )
        raise InvalidInputError(
            f"Start key {short_repr(key)}: got no run with it; expected a key of the runs' start "
            f"documents. {remedy}"
        )


# --- the table ---------------------------------------------------------------------------------


def _table(found: list[Document]) -> pd.DataFrame:
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs]

    found = sorted(found, key=lambda run: run["time"], reverse=True)
    names = dict.fromkeys(
        key
        for run in found
        for key, value in run["keys"].items()
        if key not in _SHOWN_KEYS and isinstance(value, bool | int | float | str)
    )
    rows: list[Document] = []
    for run in found:
        fixed = {name: run.get(name) for name in COLUMNS}
        keys = {key_column(name): run["keys"].get(name) for name in names}
        for at, label in enumerate(run["labels"]):
            of_roi = {name: _entry(values, at) for name, values in run["of_roi"].items()}
            rows.append({**fixed, "roi": label, **of_roi, **keys})
    table = pd.DataFrame(rows, columns=[*COLUMNS, *map(key_column, names)])
    for name in ("scan_id", *map(key_column, names)):
        table[name] = as_numbers(table[name])
    for name in (*OF_ROI, *OF_RUN):
        table[name] = table[name].astype(float)
    table["roi"] = as_numbers(table["roi"])
    for name in ("n_frames", "n_results"):
        table[name] = table[name].fillna(0).astype(int)
    table["time"] = pd.to_datetime(list(map(datetime.datetime.fromtimestamp, table["time"])))
    return table


def key_column(key: str) -> str:
    """Return the column of a start key; behind "start." where the table has one of that name."""
    return f"start.{key}" if key in COLUMNS else key


def _entry(values: object, at: int) -> float:
    if not isinstance(values, list | tuple):
        return math.nan
    entries = cast("list[object]", values)
    return number(entries[at]) if at < len(entries) else math.nan


def as_numbers(column: Any) -> Any:
    """Return a column as numbers where all that is there is a number, also as text."""
    there = column[column.notna()]
    if not len(there) or any(math.isnan(number(value)) for value in there):
        return column
    values = column.map(number)
    whole = len(there) == len(column) and all(float(value).is_integer() for value in values)
    return values.astype(int) if whole else values
