"""The list of runs: one line a result, which of them are replays, and what a word names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.records.types import Document, Fields

from .run_state import SILENT_S, is_silent, number
from .tiled_http import TiledHttp

LISTED_RUNS = 300  # as many as Tiled gives in one answer
SHORT_UID = 8  # letters of a uid that are shown
MOST_NAMED = 5  # runs that an error names
# What a part of a uid looks like, and how much of it is enough.
PART_OF_UID = re.compile(r"[0-9a-f][0-9a-f-]{5,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs; texts are empty where unknown.

    `time` is the start of the analysis, `raw_time` that of the raw run (0 where unknown), `ended`
    the end of the analysis (0 before), and `heard` when this line was last seen to change, s since
    1970; `n_frames` are in C2 so far. `frame_time_s` is 0 where unknown; `state` is "live",
    "success", "fail" or "abort".
    """

    uid: str
    raw_uid: str
    scan_id: str
    sample: str
    plan: str
    detector: str
    time: float
    raw_time: float
    ended: float
    n_frames: int
    n_expected: int | None
    frame_time_s: float
    state: str
    heard: float

    def silent(self, now: float) -> bool:
        """Whether the run counts as live but has not changed for long."""
        return self.state == "live" and is_silent(now - self.heard, self.frame_time_s)

    @property
    def short_uid(self) -> str:
        """The letters that name the run on a screen: of the raw run where that is known."""
        return (self.raw_uid or self.uid)[:SHORT_UID]


def summary(
    uid: str, metadata: Fields, *, now: float, before: RunSummary | None = None
) -> RunSummary:
    """Return the line of a run, whatever others may have written into its metadata.

    `now` is the time, s; `before` the line so far.
    """
    start, stop = mapping(metadata.get("start")), mapping(metadata.get("stop"))
    xpcs = mapping(start.get("xpcs"))
    line = RunSummary(
        uid=uid,
        raw_uid=str(start.get("original_run_uid") or ""),
        scan_id=str(start.get("scan_id") or ""),
        sample=views.sample_name(start),
        plan=str(start.get("plan_name") or ""),
        detector=str(xpcs.get("detector") or ""),
        time=number(start.get("time"), 0),
        raw_time=number(xpcs.get("raw_time"), 0),
        ended=number(stop.get("time"), 0),
        n_frames=int(number(metadata.get("n_frames"), 0)),
        n_expected=int(number(xpcs.get("n_expected"), 0)) or None,
        frame_time_s=number(xpcs.get("frame_time_s"), 0),
        state=str(stop.get("exit_status") or "live"),
        heard=now,
    )
    if before is not None and (before.n_frames, before.state) == (line.n_frames, line.state):
        return dataclasses.replace(line, heard=before.heard)
    return line


def mapping(value: object) -> Fields:
    """Return a value that should be a mapping; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def replays(runs: Iterable[RunSummary]) -> frozenset[str]:
    """Return the uids of the results of stored runs that were computed once more.

    That is a result which began when another one of the same raw run and detector had ended. One
    that never ended counts until its last frame could have come.
    """
    first: dict[tuple[str, str], float] = {}  # when the first result of a series ended
    found: set[str] = set()
    for run in sorted(runs, key=lambda run: run.time):
        key = (run.raw_uid, run.detector)
        if run.raw_uid and key in first and run.time >= first[key]:
            found.add(run.uid)
        n_frames = run.n_expected or run.n_frames
        first.setdefault(key, run.ended or run.time + n_frames * run.frame_time_s + SILENT_S)
    return frozenset(found)


def best_result(runs: Iterable[RunSummary]) -> RunSummary:
    """Return of several results of a raw run the one to show: the newest finished one."""
    return max(runs, key=lambda run: (run.state != "live", run.time))


def list_line(run: RunSummary, *, silent: bool, replay: bool) -> Document:
    """Return one line of the list of runs; `silent`: nothing has been heard of it for long."""
    return {
        "uid": run.uid,
        "raw": run.raw_uid,
        "short": run.short_uid,
        "scan": run.scan_id,
        "sample": run.sample,
        "plan": run.plan,
        "detector": run.detector,
        "time": run.time,
        "taken": run.raw_time,
        "frames": frames_words(run.n_frames, run.n_expected, live=run.state == "live"),
        "state": "live" if run.state == "live" else views.STATES.get(run.state, "ended"),
        "silent": silent,
        "replay": replay,
    }


def frames_words(n_frames: int, n_expected: int | None, *, live: bool) -> str:
    """Return how many frames there are: all that were announced, or how many of them."""
    if n_expected and (live or n_frames < n_expected):
        return f"{n_frames} of {n_expected} frames"
    return "1 frame" if n_frames == 1 else f"{n_frames} frames"


# --- what a word in the address names -----------------------------------------------------------


async def find_result(http: TiledHttp, path: str, word: str) -> tuple[str, str]:
    """Return the uid of the result that a word names, and what to say of the choice ("": nothing).

    A word is the uid of a raw run or of a result, the first 6 or more letters of one, or a scan id.
    Of a scan id that was used again the newest raw run is meant; of several results of a raw run
    the newest finished one.

    Raises
    ------
    ResultNotFoundError
        When there is none, or when the letters are those of several raw runs.
    TiledUnavailableError
        When the server does not answer.
    """
    if word.isascii() and word.isdigit():
        for scan_id in (int(word), word):  # some beamlines write it as text
            runs = await _search(http, path, ("eq", "start.scan_id", scan_id))
            if runs:
                return _newest_scan(word, runs)
    runs = await _search(http, path, ("eq", "start.original_run_uid", word))
    if runs:
        return best_result(runs).uid, ""
    if word and "/" not in word:
        try:
            await http.metadata(f"{path}/{word}")
        except ResultNotFoundError:
            pass
        else:
            return word, ""
    if PART_OF_UID.fullmatch(word.lower()):
        return await _by_letters(http, path, word.lower())
    raise _not_found(word, path)


async def _search(
    http: TiledHttp, path: str, where: tuple[str, str, str | int]
) -> list[RunSummary]:
    found = await http.runs(path, limit=LISTED_RUNS, where=where)
    return [summary(uid, metadata, now=0.0) for uid, metadata in found.items()]


def _newest_scan(word: str, runs: Sequence[RunSummary]) -> tuple[str, str]:
    """Return the result of the raw run that was taken last; a replay makes no run newer."""
    began: dict[str, float] = {}
    for run in runs:
        at = run.raw_time or run.time
        began[run.raw_uid] = min(at, began.get(run.raw_uid, at))
    newest = max(began, key=lambda raw_uid: began[raw_uid])
    note = ""
    if len(began) > 1:
        note = f"{len(began)} runs have the scan id {word}: this is the newest of them."
    return best_result(run for run in runs if run.raw_uid == newest).uid, note


async def _by_letters(http: TiledHttp, path: str, word: str) -> tuple[str, str]:
    of_raw = await _search(http, path, ("like", "start.original_run_uid", f"{word}%"))
    own = await _search(http, path, ("like", "start.uid", f"{word}%"))
    raw_uids = {run.raw_uid for run in of_raw}
    others = [run for run in own if run.raw_uid not in raw_uids]
    names = sorted(raw_uids | {run.uid for run in others})
    if not names:
        raise _not_found(word, path)
    if len(names) > 1:
        more = "" if len(names) <= MOST_NAMED else f" and {len(names) - MOST_NAMED} more"
        raise ResultNotFoundError(
            f"Run {word}: these are the first letters of {len(names)} runs "
            f"({', '.join(names[:MOST_NAMED])}{more}). Give more letters."
        )
    return best_result(of_raw or others).uid, ""


def _not_found(word: str, path: str) -> ResultNotFoundError:
    return ResultNotFoundError(
        f"Run {word[:80]}: no result in /{path}. Expected the uid of a run that was taken while "
        "LiveDenoise was subscribed, or of its result (the first 6 letters are enough), or its "
        "scan id. Choose one from the list."
    )


def others_of(uid: str, runs: Collection[RunSummary]) -> list[RunSummary]:
    """Return all results of the raw run of a result, by their beginning; none if it is alone."""
    own = next((run for run in runs if run.uid == uid), None)
    if own is None or not own.raw_uid:
        return []
    same = [run for run in runs if run.raw_uid == own.raw_uid]
    return sorted(same, key=lambda run: run.time) if len(same) > 1 else []
