"""One run of `reprocess`: a task that any process can do, and that leaves nothing half done.

Whoever does it writes the result to Tiled, too: what is stored is stored, whatever becomes of the
scheduler or of the process that asked for it, and no frames or C2 travel between processes.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.errors import ResultInUseError, XpcsError, text_of

from .recompute import recompute, stored_documents

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise
    from xpcs_live_denoise.readers import XPCSResult
    from xpcs_live_denoise.records.run import RunInfo
    from xpcs_live_denoise.sinks import Claim, ClaimedSink, ClaimTimes

# Of the uids of derived runs, which follow from what they are computed from.
UIDS = uuid.UUID("5f0c1f0e-6d0b-4f6e-9b57-3c1d1a6f8e21")
LOOK_S = 0.2
MAY_BE_RUNNING_S = 3600.0  # so long after its start a run without a stop may still be taken


class State(StrEnum):
    """What became of a run."""

    DONE = "done"
    SKIPPED = "skipped"  # a result with these settings is there
    FAILED = "failed"
    TAKEN = "taken"  # another job computes it
    PENDING = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One ROI of a run before and after; rates in 1/`time_unit`, NaN where there is none.

    `n_before` and `n_after` are recommended rows. A result before in another unit has no rate here.
    """

    roi: int
    q_inv_angstrom: float
    gamma_before: float = math.nan
    gamma_before_error: float = math.nan
    gamma_after: float = math.nan
    gamma_after_error: float = math.nan
    n_before: int = 0
    n_after: int = 0
    time_unit: str = "s"

    @property
    def in_errors(self) -> float:
        """How far Gamma moved, in units of the larger error: both are of the same frames."""
        if not (self.gamma_before > 0 and self.gamma_after > 0):
            return math.nan
        errors = (
            self.gamma_before_error / self.gamma_before,
            self.gamma_after_error / self.gamma_after,
        )
        if not (largest := max(errors)) > 0:
            return math.nan
        return math.log(self.gamma_after / self.gamma_before) / largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run to compute again.

    Attributes
    ----------
    uid, scan_id
        Of the raw run.
    settings
        Of the analysis.
    skip_done
        Leave it if a finished result with the same settings is there, however old.
    job_began
        Seconds since 1970: what was computed with these settings since then is left in any case.
    times
        Of claims; None: the usual ones.
    """

    uid: str
    scan_id: str
    settings: Settings
    skip_done: bool
    job_began: float
    times: ClaimTimes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task; `derived` is the uid of the result, `reason` why there is none."""

    uid: str
    scan_id: str
    state: State
    reason: str = ""
    derived: str = ""
    supersedes: tuple[str, ...] = ()
    changes: tuple[Change, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @classmethod
    def of(cls, task: Task, state: State, **fields: Any) -> Outcome:
        """Return the outcome of a task."""
        return cls(uid=task.uid, scan_id=task.scan_id, state=state, **fields)

    def as_json(self) -> dict[str, Any]:
        """Return what the status file says of the run."""
        fields = asdict(self)
        del fields["changes"]
        return fields


def warmed_up(settings: Settings) -> None:
    """Load what every run needs, so that the first one of a process is as quick as later ones."""
    from xpcs_live_denoise import live, readers, sinks
    from xpcs_live_denoise.analysis import open_ensemble
    from xpcs_live_denoise.numerics import compiled

    _ = (live.LiveDenoise, readers.results, sinks.TiledSink)  # faces load what they are asked for
    compiled.prepare()
    open_ensemble(settings)


def reprocess_run(task: Task) -> Outcome:
    """Compute a run again and store it as a new derived run; whatever goes wrong is the outcome."""
    began = time.monotonic()
    try:
        outcome = _reprocess(task)
    except ResultInUseError as error:
        outcome = Outcome.of(task, State.TAKEN, reason=text_of(error))
    except Exception as error:  # of this run alone: the others go on
        reason = text_of(error)
        if not isinstance(error, XpcsError):
            reason = f"{type(error).__name__}: {reason}"
        outcome = Outcome.of(task, State.FAILED, reason=reason)
    return replace(outcome, seconds=round(time.monotonic() - began, 2))


def _reprocess(task: Task) -> Outcome:
    from xpcs_live_denoise.analysis import open_ensemble
    from xpcs_live_denoise.catalog import connect, refuse_raw_runs, results_path
    from xpcs_live_denoise.config import settings_hash

    settings, tiled = task.settings, task.settings.tiled
    segments = results_path(tiled.path, tiled.raw_path)
    client = connect(tiled)
    try:
        refuse_raw_runs(client, segments, task.uid)
        earlier = finished_results(client, task.uid, settings)
        ensemble, _ = open_ensemble(settings)
        same = settings_hash(settings)
        for result in earlier:
            if _is_done(task, result, same, denoises=ensemble is not None):
                return _outcome(task, State.SKIPPED, client, result.start["uid"])
        supersedes = tuple(result.start["uid"] for result in earlier)
        derived = str(uuid.uuid5(UIDS, " ".join([task.uid, settings.data_key, same, *supersedes])))
        _compute(task, client, derived, supersedes, ensemble)
        return _outcome(task, State.DONE, client, derived)
    finally:
        client.context.close()


def finished_results(client: Node, uid: str, settings: Settings) -> list[XPCSResult]:
    """Return the results of a run that were computed to their end, the newest first."""
    from xpcs_live_denoise.readers import analysis_status, results_of

    return [
        result
        for result in results_of(client, uid, settings.data_key, path=settings.tiled.path)
        if analysis_status(_stop(result)) == "success"
    ]


def _stop(result: XPCSResult) -> dict[str, Any]:
    metadata: Any = result.metadata
    return metadata.get("stop") or {}


def _is_done(task: Task, result: XPCSResult, same: str, *, denoises: bool) -> bool:
    xpcs = result.xpcs
    if xpcs.get("settings_hash") != same or (denoises and not xpcs.get("model")):
        return False
    return task.skip_done or float(_stop(result).get("time", 0.0)) >= task.job_began


def _compute(
    task: Task, client: Node, derived: str, supersedes: tuple[str, ...], ensemble: Any
) -> None:
    """Compute a run and store it as `derived`; raise if it is not stored."""
    from xpcs_live_denoise.catalog import run_node
    from xpcs_live_denoise.live import LiveDenoise, Timings
    from xpcs_live_denoise.sinks import Claim, ClaimedSink, TiledSink

    settings, tiled, timings = task.settings, task.settings.tiled, Timings()
    raw = run_node(client[tiled.raw_path], task.uid).metadata
    age_s = time.time() - float(raw["start"]["time"])
    if raw.get("stop") is None and age_s < MAY_BE_RUNNING_S:
        raise XpcsError(
            f"It began {age_s / 60:.0f} minutes ago and has no stop document: it may still be "
            "taken. Reprocess it when it has ended."
        )
    documents = stored_documents(settings, client, task.uid)
    claim, sinks = Claim(task.times), list[ClaimedSink]()

    def sink(info: RunInfo) -> ClaimedSink:
        writes = TiledSink(
            replace(info, supersedes=supersedes),
            client=client,
            path=tiled.path,
            raw_path=tiled.raw_path,
            access_tags=tiled.access_tags,
            uid=derived,
            claim=claim,
        )
        sinks.append(ClaimedSink(writes, claim))
        return sinks[-1]

    live = LiveDenoise(
        settings,
        sinks=[sink],
        raw=client,
        timings=timings,
        ensemble=ensemble,
        report=None,
        analysed_by="reprocess",
    )
    try:
        _take_over(client, tiled.path, derived, claim)
        _, status = recompute(
            live, documents, settings, lambda: _wait(live, sinks), timings.give_up_s, timings
        )
    finally:
        claim.release()
    if sinks and sinks[-1].why is not None:
        raise sinks[-1].why
    if not sinks or not sinks[-1].is_stored:
        raise XpcsError(f"Its result could not be stored. {status.message}".strip())


def _take_over(client: Node, path: str, derived: str, claim: Claim) -> None:
    """Claim what a process that died has left of a result, before anything is computed."""
    from xpcs_live_denoise.catalog import plain

    try:
        left = client[(*(part for part in path.split("/") if part), derived)]
    except KeyError:
        return
    claim.hold(plain(left))


def _wait(live: LiveDenoise, sinks: Sequence[ClaimedSink]) -> bool:
    """Wait until the run is stored; False if it will not be."""
    while not live.wait(LOOK_S):
        if sinks and isinstance(sinks[-1].why, ResultInUseError):
            return False
    return bool(sinks) and sinks[-1].is_stored


# --- what changed ------------------------------------------------------------------------------


def _outcome(task: Task, state: State, client: Node, derived: str) -> Outcome:
    """Return the outcome of a run whose result is there, compared with what it superseded."""
    from xpcs_live_denoise.readers import analysis_status, results

    path = task.settings.tiled.path
    new = results(client, derived, path=path)
    supersedes = tuple(new.xpcs.get("supersedes") or ())
    if analysis_status(_stop(new)) != "success":
        reason = f"The analysis failed; {derived} is what there is. {_stop(new).get('reason', '')}"
        return Outcome.of(task, State.FAILED, reason=reason.strip(), derived=derived)
    before = results(client, supersedes[0], path=path) if supersedes else None
    return Outcome.of(
        task,
        state,
        derived=derived,
        supersedes=supersedes,
        changes=tuple(changes(new, before)),
    )


def changes(new: XPCSResult, before: XPCSResult | None) -> list[Change]:
    """Return what each ROI of two results tells of Gamma, by the typical rates of both."""
    rois = dict(zip(new.xpcs["roi"], new.xpcs["q_inv_angstrom"], strict=True))
    comparable = before is not None and before.time_unit == new.time_unit
    after, earlier = _rates(new), _rates(before) if before is not None and comparable else {}
    nothing = (math.nan, math.nan, 0)
    return [
        Change(
            roi=roi,
            q_inv_angstrom=math.nan if q is None else q,
            gamma_before=earlier.get(roi, nothing)[0],
            gamma_before_error=earlier.get(roi, nothing)[1],
            gamma_after=after.get(roi, nothing)[0],
            gamma_after_error=after.get(roi, nothing)[1],
            n_before=earlier.get(roi, nothing)[2],
            n_after=after.get(roi, nothing)[2],
            time_unit=new.time_unit,
        )
        for roi, q in rois.items()
    ]


def _rates(result: XPCSResult) -> dict[int, tuple[float, float, int]]:
    """Return Gamma, its error and the number of recommended rows of each ROI that has any."""
    from xpcs_live_denoise.numerics.fits import typical_rates

    table = result.gamma_table(recommended=True)
    if table.empty:
        return {}
    typical = typical_rates(table)
    return {
        int(roi): (math.exp(log), math.exp(log) * error, int(n))
        for roi, log, error, n in zip(
            typical.roi, typical.ln_rate, typical.ln_rate_error, typical.n_ages, strict=True
        )
    }
