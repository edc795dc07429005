"""Measure until Gamma is known: a stub for plans, and a wrapper that ends a plan by itself."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.utils import RequestStop, ensure_generator

from xpcs_live_denoise.errors import InvalidInputError, short_repr

from .known import NOTHING, KnownRates, Why

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from .callback import LiveDenoise


logger = logging.getLogger(__name__)

LONGEST_LOOK_S = 2.0  # that counts from one look to the next


class _Watch:
    """Looks at what is known of a run, and says when it is enough.

    It is the newest run of `live` that is being measured at the first look that finds one.
    """

    def __init__(
        self,
        live: LiveDenoise,
        *,
        rate_error: float,
        most_frames: int | None,
        most_dose: float | None,
        rois: Sequence[int] | None,
        patience_s: float,
    ) -> None:
        for name, value in (
            ("rate_error", rate_error),
            ("most_frames", most_frames),
            ("most_dose", most_dose),
            ("patience_s", patience_s),
        ):
            if value is not None and not value > 0:
                raise InvalidInputError(
                    f"until_known: got {name}={short_repr(value)}; expected a number above 0."
                )
        self._live = live
        self._rate_error, self._rois = rate_error, rois
        self._most_frames, self._most_dose = most_frames, most_dose
        self._patience_s = patience_s
        self._uid: str | None = None  # of the run, once it is measured
        self._n_frames, self._looked, self._quiet_s = -1, time.monotonic(), 0.0

    def look(self) -> KnownRates:
        """Return what is known now; `why` is "" while it is not enough."""
        if self._uid is None and (measured := self._live.measured):
            self._uid = measured[-1]
        found = None if self._uid is None else self._live.rates.get(self._uid)
        if self._uid is None or found is None:
            return dataclasses.replace(NOTHING, why=self._silence(0))
        return dataclasses.replace(found, why=self._why(self._uid, found))

    def _why(self, uid: str, found: KnownRates) -> Why:
        wanted = found.roi if self._rois is None else self._rois
        if not found.roi:
            return self._silence(0)
        if unknown := set(wanted) - set(found.roi):
            raise InvalidInputError(
                f"until_known: got the ROI {sorted(unknown)[0]}; expected of {list(found.roi)}."
            )
        errors = [found.rate_error.get(roi, np.inf) for roi in wanted]
        if errors and all(error <= self._rate_error for error in errors):
            return "known"
        # The sample has had the frames that wait for the analysis, too.
        n_seen = max(self._live.status[uid].n_seen, found.n_frames)
        if self._most_frames is not None and n_seen >= self._most_frames:
            return "most_frames"
        doses = [found.dose.get(roi, 0.0) / max(found.n_frames, 1) * n_seen for roi in wanted]
        if self._most_dose is not None and any(dose >= self._most_dose for dose in doses):
            return "most_dose"
        if uid not in self._live.measured:
            return "ended"
        return self._silence(found.n_frames)

    def _silence(self, n_frames: int) -> Why:
        now = time.monotonic()
        # A RunEngine that is paused does not look; that time does not count.
        since_s, self._looked = min(now - self._looked, LONGEST_LOOK_S), now
        self._quiet_s = 0.0 if n_frames != self._n_frames else self._quiet_s + since_s
        self._n_frames = n_frames
        return "no_news" if self._quiet_s > self._patience_s else ""


def until_known(
    live: LiveDenoise,
    detectors: Sequence[Any] = (),
    *,
    rate_error: float = 0.1,
    most_frames: int | None = None,
    most_dose: float | None = None,
    rois: Sequence[int] | None = None,
    poll_s: float = 0.2,
    patience_s: float = 60.0,
) -> MsgGenerator[KnownRates]:
    """Take frames until Gamma of the ROIs is known, inside the run of a plan.

    With `detectors` frame after frame is triggered and read. Without, it only waits, for a detector
    that the plan has triggered or kicked off; the plan stops it afterwards. (An Eiger is followed
    where the start document names it in `detectors`, as that of bluesky's own plans does.) It never
    waits for ever: it ends with the run, at a limit, or where nothing is analysed for `patience_s`.

    Parameters
    ----------
    live
        The callback, subscribed to the RunEngine.
    detectors
        Staged detectors of which one trigger is one frame.
    rate_error
        Standard error of ln Gamma (0.1: ten per cent of Gamma) of the typical rate of each ROI (see
        `fit_power_law`) that is good enough.
    most_frames, most_dose
        Frames, and counts a pixel of any of the ROIs, at which it ends anyway; frames that wait for
        the analysis count.
    rois
        Labels of the ROIs; by default all.
    poll_s, patience_s
        Seconds between two looks, and without any news.

    Returns
    -------
    KnownRates
        What is known, and in `why` why it ended.

    Raises
    ------
    InvalidInputError
        For a ROI that the run has not, and for limits that are not above 0.
    """
    watch = _Watch(
        live,
        rate_error=rate_error,
        most_frames=most_frames,
        most_dose=most_dose,
        rois=rois,
        patience_s=patience_s,
    )
    return _until(watch, detectors, most_frames, poll_s)


def _until(
    watch: _Watch, detectors: Sequence[Any], most_frames: int | None, poll_s: float
) -> MsgGenerator[KnownRates]:
    n_taken, looked = 0, -np.inf
    while True:
        if detectors:
            if most_frames is not None and n_taken >= most_frames:
                break  # taken, if not all analysed
            yield from bps.trigger_and_read(list(detectors))
            n_taken += 1
        else:
            yield from bps.sleep(poll_s)
        if time.monotonic() - looked >= poll_s:
            looked = time.monotonic()
            known = watch.look()
            if known.why:
                return known
    known = watch.look()
    return dataclasses.replace(known, why=known.why or "most_frames")


def stop_when_known(
    plan: Any,
    live: LiveDenoise,
    *,
    device: Any = None,
    rate_error: float = 0.1,
    most_frames: int | None = None,
    most_dose: float | None = None,
    rois: Sequence[int] | None = None,
    poll_s: float = 0.2,
    patience_s: float = 60.0,
) -> MsgGenerator[Any]:
    """Return a plan that ends itself, as a success, when Gamma of the ROIs is known.

    ``RE(stop_when_known(bp.count([camera], num=5000), live, rate_error=0.05))``

    It looks on from a thread, as a suspender does, so that the plan need not know of it. The plan
    ends behind the event that is taken then, with its own cleaning up. A detector that takes its
    whole series in one trigger is given as `device`: its ``stop(success=True)`` is called, and the
    plan goes on with the frames that it has.

    Parameters
    ----------
    plan
        Any plan with one run.
    device
        What to stop, if the plan waits for it: an ophyd device, whose `stop` is no coroutine.
        Without it a plan that saves no events goes on to its end.
    live, rate_error, most_frames, most_dose, rois, poll_s, patience_s
        As of `until_known`. Without news the plan goes on.

    Returns
    -------
    MsgGenerator
        Its return value is that of the plan, None where it was ended.
    """
    watch = _Watch(
        live,
        rate_error=rate_error,
        most_frames=most_frames,
        most_dose=most_dose,
        rois=rois,
        patience_s=patience_s,
    )
    return _stopped(ensure_generator(plan), watch, device, poll_s)


def _stopped(plan: Any, watch: _Watch, device: Any, poll_s: float) -> MsgGenerator[Any]:
    enough, over = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def look_on() -> None:
        try:
            while not over.wait(poll_s):
                if watch.look().why in ("known", "most_frames", "most_dose"):
                    enough.set()
                    if device is not None and not over.is_set():
                        device.stop(success=True)
                    return
        except InvalidInputError as error:  # shown by the plan, whose thread is another one
            failed.append(error)
            enough.set()
        except Exception:  # of a good scan
            logger.exception("Gamma is not watched any more; the plan goes on to its end.")

    threading.Thread(target=look_on, name="until known", daemon=True).start()
    try:
        return (yield from _ended_by(plan, enough, failed))
    finally:
        over.set()


def _ended_by(plan: Any, enough: threading.Event, failed: list[Exception]) -> Iterator[Any]:
    """Pass a plan's messages on; behind an event that comes when it is enough, end the plan."""
    answer: Any = None
    error: BaseException | None = None
    stopping = False
    while True:
        try:
            message = plan.send(answer) if error is None else plan.throw(error)
        except StopIteration as end:
            return end.value
        except RequestStop:
            if stopping:
                return None
            raise
        answer, error = None, None
        try:
            answer = yield message
        except GeneratorExit:
            plan.close()
            raise
        except BaseException as raised:  # of the RunEngine, for the plan to see
            error = raised
            continue
        if enough.is_set() and not stopping and message.command == "save":
            stopping, error = True, failed[0] if failed else RequestStop()
