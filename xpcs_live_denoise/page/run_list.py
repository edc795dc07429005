"""The list of runs: one line a result, which of them are replays, and what a word names."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError, one_line
from xpcs_live_denoise.readers import (
    RawRun,
    choose,
    in_words,
    mapping,
    readings,
    scan_id_of,
    scan_ids,
    standing,
    uid_beginning,
)
from xpcs_live_denoise.records.types import Document, Fields

from .run_state import SILENT_S, is_silent, number
from .tiled_http import TiledHttp

LISTED_RUNS = 300  # as many as Tiled gives in one answer
SHORT_UID = 8  # letters of a uid that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs; texts are empty where unknown.

    `time` is the start of the analysis, `raw_time` that of the raw run (0 where unknown), `ended`
    the end of the analysis (0 before), and `heard` when this line was last seen to change, s since
    1970; `n_frames` are in C2 so far. `frame_time_s` is 0 where unknown; `state` is "live",
    "success", "fail" or "abort". `analysed_by` is "live", "serve" or "replay", "" in results of
    earlier versions; `standing` its rank among the results of its run.
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
    analysed_by: str
    standing: int = 1

    def silent(self, now: float) -> bool:
        """Whether the run counts as live but has not changed for long."""
        return self.state == "live" and is_silent(now - self.heard, self.frame_time_s)

    @property
    def short_uid(self) -> str:
        """The letters that name the run on a screen: of the raw run where that is known."""
        return (self.raw_uid or self.uid)[:SHORT_UID]

    @property
    def raw(self) -> RawRun:
        """The raw run; the result itself where that is not known."""
        uid, time = self.raw_uid or self.uid, self.raw_time or self.time
        return RawRun(uid=uid, scan_id=self.scan_id, time=time)


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
        scan_id=str(scan_id_of(start) or ""),
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
        standing=standing(stop if stop.get("exit_status") else None),
        heard=now,
        analysed_by=str(xpcs.get("analysed_by") or ""),
    )
    if before is not None and (before.n_frames, before.state) == (line.n_frames, line.state):
        return dataclasses.replace(line, heard=before.heard)
    return line


def replays(runs: Iterable[RunSummary]) -> frozenset[str]:
    """Return the uids of the results of stored runs that were computed once more.

    Where a result does not tell: it began when another one of the same raw run and detector had
    ended. One that never ended counts until its last frame could have come.
    """
    first: dict[tuple[str, str], float] = {}  # when the first result of a series ended
    found: set[str] = set()
    for run in sorted(runs, key=lambda run: run.time):
        key = (run.raw_uid, run.detector)
        later = bool(run.raw_uid) and key in first and run.time >= first[key]
        if run.analysed_by == "replay" or (later and not run.analysed_by):
            found.add(run.uid)
        n_frames = run.n_expected or run.n_frames
        first.setdefault(key, run.ended or run.time + n_frames * run.frame_time_s + SILENT_S)
    return frozenset(found)


def best_result(runs: Iterable[RunSummary]) -> RunSummary:
    """Return of several results of a raw run the one to show: the newest that succeeded."""
    return max(runs, key=lambda run: (run.standing, run.time))


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
        "by": "replay" if replay else run.analysed_by,
    }


def frames_words(n_frames: int, n_expected: int | None, *, live: bool) -> str:
    """Return how many frames there are: all that were announced, or how many of them."""
    if n_expected and (live or n_frames < n_expected):
        return f"{n_frames} of {n_expected} frames"
    return "1 frame" if n_frames == 1 else f"{n_frames} frames"


# --- what a word in the address names -----------------------------------------------------------


async def find_result(http: TiledHttp, path: str, word: str) -> tuple[str, str]:
    """Return the uid of the result that a word names, and what to say of the choice ("": nothing).

    A word is read as on a command line, see `readings`; what it names is chosen as by `results`.
    Of several results of a raw run the newest that succeeded is meant.

    Raises
    ------
    ResultNotFoundError
        When there is none, or when the letters are those of several raw runs.
    InvalidInputError
        For what names no run.
    TiledUnavailableError
        When the server does not answer.
    """
    meant = readings(word, scan_id_first=True)
    for reading in meant:
        if found := await _derived(http, path, reading):
            raw, note = choose((run.raw for run in found), reading, f"/{path}")
            return best_result(run for run in found if run.raw.uid == raw.uid).uid, note
    raise ResultNotFoundError(
        f"Run {one_line(word, 80)}: no result in /{path}. Looked for "
        f"{', or '.join(map(in_words, meant))}. Expected a run that was taken while LiveDenoise "
        "was subscribed. Choose one from the list."
    )


async def _derived(http: TiledHttp, path: str, reading: int | str) -> list[RunSummary]:
    """Return the results in a container that a reading fits."""

    async def found(*where: tuple[str, str, str | int]) -> list[RunSummary]:
        runs: dict[str, Document] = {}
        for one in where:
            runs |= await http.runs(path, limit=LISTED_RUNS, where=one)
        return [summary(uid, metadata, now=0.0) for uid, metadata in runs.items()]

    if isinstance(reading, int) and reading < 0:
        newest = await http.runs(path, limit=LISTED_RUNS)
        runs = [summary(uid, metadata, now=0.0) for uid, metadata in newest.items()]
        raws = sorted({run.raw for run in runs}, key=lambda raw: raw.time, reverse=True)
        meant = {raw.uid for raw in raws[-reading - 1 :][:1]}
        return [run for run in runs if run.raw.uid in meant]
    if isinstance(reading, int):
        return await found(*(("eq", "start.scan_id", value) for value in scan_ids(reading)))
    keys = ("start.original_run_uid", "start.uid")
    for key in (*keys, "start.xpcs.scan_id"):
        if runs := await found(("eq", key, reading)):
            return runs
    letters = uid_beginning(reading)
    return await found(*(("like", key, f"{letters}%") for key in keys)) if letters else []


def others_of(uid: str, runs: Collection[RunSummary]) -> list[RunSummary]:
    """Return all results of the raw run of a result, by their beginning; none if it is alone."""
    own = next((run for run in runs if run.uid == uid), None)
    if own is None or not own.raw_uid:
        return []
    same = [run for run in runs if run.raw_uid == own.raw_uid]
    return sorted(same, key=lambda run: run.time) if len(same) > 1 else []
