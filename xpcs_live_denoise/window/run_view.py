"""All that a figure shows of one run, and of a live one the sink that keeps it."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import (
    BandRows,
    C2Rows,
    GammaTable,
    Picture,
    Publication,
    Result,
)
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status

logger = logging.getLogger(__name__)

NO_ROI = (0,)  # the labels of a run that has none
MOST_EDGE = 512  # pixels along an edge of a C2 that is drawn
# Entries along an edge of a map that is kept, and of how many ROIs so many: 64 MB.
KEPT_EDGE, MANY_ROIS = 1024, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """All that a figure shows of one run and one ROI (its label) at one time.

    Lines of text, (name, value) pairs of facts, and the panels; no `detector` before the first
    look, or where nobody looked, and no `intensity` or `saxs` where nobody knows it. `n_roi` is how
    many there are to choose from, `time_unit` is that of `RunInfo`.
    """

    title: str
    roi: str
    message: str
    facts: list[tuple[str, str]]
    label: int
    detector: views.DetectorView | None
    two_time: views.TwoTimeView
    g2: views.G2View
    heterogeneity: views.HeterogeneityView
    gamma: views.GammaView
    power_law: views.PowerLawView
    intensity: views.IntensityView | None = None
    saxs: views.SaxsView | None = None
    n_roi: int = 1
    time_unit: str = "s"


class Display(Protocol):
    """What draws a run: a window or a picture file. Called from the sink's thread."""

    def begin(self, run: ShownRun) -> None:
        """Show this run from now on."""
        ...

    def changed(self, run: ShownRun) -> None:
        """Take note that there is something new to draw."""
        ...


class ShownRun:
    """Keeps the newest state of one run and tells the display, if any, when it has changed.

    What it takes is delivered, whether or not it is ever drawn. A display that fails is given up;
    nothing else suffers. `version` is the number of records so far.
    """

    def __init__(self, info: RunInfo, display: Display | None = None) -> None:
        if not info.roi:  # it failed before anybody knew them: an empty one holds the reason
            info = dataclasses.replace(info, roi=NO_ROI, q_inv_angstrom=(np.nan,), n_pixels=(0,))
        self.info = info
        self.version = 0
        self._display = display
        self._lock = threading.Lock()
        self._c2 = LiveC2(info)
        self._gamma: GammaTable | None = None
        self._power_law = views.power_law_view(None, info.roi, info.q_inv_angstrom)
        self._status = Status()
        self._picture: Picture | None = None
        self._trace = views.IntensityTrace(len(info.roi))
        self._end: RunEnd | None = None
        self._notify(begin=True)

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._end is not None

    def write(self, record: Publication | Result) -> None:
        """Take what is new, or the final result in place of all that was provisional."""
        if self._display is None:
            return
        with self._lock:
            self.version += 1
            self._status = record.status
            self._picture = views.for_screen(record.picture) or self._picture
            if (counted := record.intensity) is not None:
                self._trace.add(counted.start, counted.roi_mean)
            if isinstance(record, Result):
                self.info = record.info or self.info  # the time axis is known better by now
                self._c2.take_result(record, self.info)
                self._gamma = record.gamma
            else:
                self._c2.add(record)
                if record.gamma is not None:
                    older = [] if self._gamma is None else [self._gamma]
                    self._gamma = GammaTable.concatenate([*older, record.gamma])
            if record.gamma is not None:
                self._power_law = views.power_law_view(
                    self._gamma, self.info.roi, self.info.q_inv_angstrom
                )
        self._notify()

    def finish(self, end: RunEnd) -> None:
        """Take how the run ended."""
        with self._lock:
            self.version += 1
            self._end, self._status = end, end.status
        self._notify()

    def view(self, roi: int) -> RunView:
        """Return all that is shown of the ROI with this index."""
        with self._lock:
            info, status, picture = self.info, self._status, self._picture
            n_frames = self._c2.n_frames
            phi_deg = info.phi_deg[roi] if info.phi_deg else math.nan
            label, final = info.roi[roi], self.ended or self._c2.result is not None
            # What did not come until the end never comes: it gets no place on the axes.
            n_whole = n_frames if final else max(n_frames, info.n_expected or 0)
            series_s = n_whole * info.frame_time_s
            gamma = views.gamma_view(
                self._gamma, label, end_s=series_s, window=info.window, final=final
            )
            return RunView(
                title=views.run_title(info.start, info.uid, info.detector, self._state()),
                roi=""
                if info.roi == NO_ROI
                else f"{views.roi_title(label, info.q_inv_angstrom[roi], phi_deg)} "
                f"({roi + 1} of {len(info.roi)})",
                message=views.message(
                    "" if self._end is None else self._end.reason, status.message, gamma.caution
                ),
                facts=views.facts(
                    status,
                    roi,
                    n_frames=n_frames,
                    n_expected=info.n_expected,
                    frame_time_s=info.frame_time_s,
                    time_unit=info.time_unit,
                    counts=views.mean_counts(picture, label),
                    live=not self.ended,
                ),
                label=label,
                detector=views.detector_view(picture, label),
                two_time=self._c2.two_time(roi, status, series_s, final=final),
                g2=self._c2.g2(roi, self._gamma, series_s, final=final),
                heterogeneity=views.heterogeneity_view(status, roi, info.frame_time_s, final=final),
                gamma=gamma,
                power_law=self._power_law,
                intensity=views.intensity_view(
                    self._trace,
                    roi,
                    n_pixels=info.n_pixels,
                    n_frames=n_frames,
                    frame_time_s=info.frame_time_s,
                ),
                saxs=None
                if picture is None
                else views.saxs_view(picture.saxs, roi, info.q_inv_angstrom),
                n_roi=len(info.roi),
                time_unit=info.time_unit,
            )

    def _state(self) -> str:
        if self._end is None:
            return ""
        statuses = (self._end.raw_exit_status, self._end.analysis_exit_status)
        worst = next((status for status in statuses if status != "success"), "success")
        return views.STATES.get(worst, "ended")

    def _notify(self, *, begin: bool = False) -> None:
        if self._display is None:
            return
        try:
            if begin:
                self._display.begin(self)
            else:
                self._display.changed(self)
        except Exception:
            self._display = None
            logger.exception("Run %s: the live plot stopped; the rest goes on.", self.info.uid)


class _NoDisplay:
    """Draws nothing: who has the run asks for its view."""

    def begin(self, run: ShownRun) -> None:
        """Nothing is shown."""

    def changed(self, run: ShownRun) -> None:
        """Nothing is shown."""


def view_of_result(result: Result, info: RunInfo, roi: int) -> RunView:
    """Return all that a figure shows of the ROI with this index of a final result."""
    shown = ShownRun(info, _NoDisplay())
    shown.write(result)
    end = {"raw_exit_status": "success", "analysis_exit_status": "success", "reason": ""}
    shown.finish(RunEnd(**end, status=result.status))
    return shown.view(roi)


class LiveC2:
    """C2 of every ROI of a run while it grows, map and band, as much as a screen shows."""

    def __init__(self, info: RunInfo) -> None:
        self.result: Result | None = None
        self.n_frames = 0
        self._info = info
        self._maps = self._empty_maps(1)
        self._band = views.C2Band(len(info.roi), info.window)

    def _empty_maps(self, frames_per_bin: int) -> list[views.C2Map]:
        most = KEPT_EDGE if len(self._info.roi) <= MANY_ROIS else MOST_EDGE
        return [views.C2Map(0, most, frames_per_bin=frames_per_bin) for _ in self._info.roi]

    def take_result(self, result: Result, info: RunInfo) -> None:
        """Take the final result, and what is known of the run by then."""
        self.result, self._info = result, info
        values, frames_per_bin = result.map
        self._take_rows(
            C2Rows(start=0, stop=values.shape[1], values=values, frames_per_bin=frames_per_bin)
        )
        self._take_band(result.band)
        self.n_frames = result.band.stop

    def add(self, publication: Publication) -> None:
        """Take new rows; bins and frames that were taken before are written over."""
        self.n_frames = max(self.n_frames, publication.n_frames)
        if publication.c2 is not None:
            self._take_rows(publication.c2)
        if publication.band is not None:
            self._take_band(publication.band)

    def _take_rows(self, rows: C2Rows) -> None:
        if rows.frames_per_bin != self._maps[0].frames_per_bin:
            self._maps = self._empty_maps(rows.frames_per_bin)
        for c2_map, values in zip(self._maps, rows.values, strict=True):
            c2_map.make_room(rows.stop)
            c2_map.patch(values, (rows.start, 0), zero_is_gap=False)

    def _take_band(self, rows: BandRows) -> None:
        self._band.add(rows.start, rows.c2, rows.denoised)

    def two_time(
        self, roi: int, status: Status, series_s: float, *, final: bool
    ) -> views.TwoTimeView:
        """Return what is drawn of C2 of the ROI with this index."""
        info, c2_map = self._info, self._maps[roi]
        made, second = None if self.result is None else self.result.denoised, None
        if made is not None:  # all that was denoised, which may be more than the band
            every = slice(None, None, c2_map.stride)
            second = np.where(made.reached[roi], made.c2[roi], np.nan)[every, every]
        return views.measured_view(
            c2_map,
            self._band if second is None else None,
            second,
            roi_of_band=roi,
            n_frames=self.n_frames,
            frame_time_s=info.frame_time_s,
            most=MOST_EDGE,
            series_s=series_s,
            status=status,
            roi=roi,
            note=views.why_not_denoised(
                self.n_frames, info.window, final=final, has_denoiser=info.model is not None
            ),
            final=final,
        )

    def g2(
        self, roi: int, gamma: GammaTable | None, series_s: float, *, final: bool
    ) -> views.G2View:
        """Return what is drawn of g2 of the ROI with this index, with the fits among its rows."""
        frame_time_s, error = self._info.frame_time_s, None
        if self.result is not None:
            one_time = self.result.g2
            delay_s, raw, error = one_time.delay_s, one_time.g2[roi], one_time.g2_error[roi]
            denoised = None if one_time.g2_denoised is None else one_time.g2_denoised[roi]
        else:
            c2_map = self._maps[roi]
            near, denoised = self._band.g2(roi)
            lags, raw = views.g2_so_far(c2_map.full(self.n_frames), c2_map.entry_frames, near)
            delay_s = lags * frame_time_s
        return views.g2_view(
            delay_s,
            raw,
            denoised,
            raw_error=error,
            table=gamma,
            label=self._info.roi[roi],
            n_frames=self.n_frames,
            frame_time_s=frame_time_s,
            series_s=series_s,
            whole=self.result is not None,
            final=final,
        )
