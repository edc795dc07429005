"""What the live window shows: the newest state of a run, and snapshots of it for one ROI."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.fits import typical_rates
from xpcs_live_denoise.records.results import (GammaTable, Picture, Publication, Result, RunEnd, RunInfo, Status)

from .plot_c2 import ShownC2

# Sources of rows by the estimator, whose recommendation counts.
BAYES = ("bayes", "bayes_early")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a figure shows of one ROI at one time; nobody changes it any more.

    Attributes
    ----------
    version
        Rises with every record of the run.
    info
        The run.
    roi
        Index of the ROI.
    n_frames
        Frames in C2.
    c2, c2_denoised
        Shape (m, m), NaN where nothing is known: every `step`-th frame. None: not denoised.
    step
        Frames between two rows of `c2`.
    g2, g2_error, g2_denoised
        At lags 1, 2, ...; the error is None while the run is on.
    gamma
        Rows of this ROI that no better one has replaced; None before the first.
    typical_rates
        Shape (n_roi,), 1/s: of the recommended rows, comparable between ROIs; NaN where unknown.
    status
        The newest.
    picture
        The detector; None before the first look.
    end
        How the run ended; None while it is on.
    final
        Whether this is the final result.
    """

    version: int
    info: RunInfo
    roi: int
    n_frames: int
    c2: NDArray[np.float32]
    c2_denoised: NDArray[np.float32] | None
    step: int
    g2: NDArray[np.float64]
    g2_error: NDArray[np.float64] | None
    g2_denoised: NDArray[np.float64] | None
    gamma: GammaTable | None
    typical_rates: NDArray[np.float64]
    status: Status
    picture: Picture | None
    end: RunEnd | None
    final: bool


class PlotState:
    """The newest state of one run: the worker writes it, whoever draws takes snapshots.

    Parameters
    ----------
    info
        The run.

    Attributes
    ----------
    version
        Number of records so far.
    """

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        self.version = 0
        self._lock = threading.Lock()
        self._c2 = ShownC2(len(info.roi), info.n_expected, info.window)
        self._status = Status()
        self._picture: Picture | None = None
        self._gamma: GammaTable | None = None
        self._rates = np.full(len(info.roi), np.nan)
        self._result: Result | None = None
        self._end: RunEnd | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._end is not None

    def add(self, record: Publication | Result | RunEnd) -> None:
        """Take what came; it replaces what it is newer than."""
        with self._lock:
            self.version += 1
            if isinstance(record, RunEnd):
                self._end = record
                self._status = record.status
                return
            self._status = record.status
            self._picture = record.picture or self._picture
            if isinstance(record, Result):
                self._c2.finish(record)
                self._result = record
                self._gamma = record.gamma
            else:
                self._add_news(record)
            if self._gamma is not None and record.gamma is not None:
                self._rates = _rates_by_roi(self._gamma, self.info.roi)

    def _add_news(self, news: Publication) -> None:
        if news.c2 is not None:
            self._c2.add_rows(news.c2)
        for band in news.bands:
            self._c2.add_band(band)
        if news.gamma is not None:
            tables = [news.gamma] if self._gamma is None else [self._gamma, news.gamma]
            self._gamma = GammaTable.concatenate(tables)

    def snapshot(self, roi: int) -> Snapshot:
        """Return the state of the ROI with this index."""
        with self._lock:
            c2, denoised = self._c2.images(roi)
            g2, g2_denoised = self._c2.g2(roi)
            g2_error = None
            if self._result is not None:
                one_time = self._result.g2
                g2, g2_error = one_time.g2[roi], one_time.g2_error[roi]
                all_denoised = one_time.g2_denoised
                g2_denoised = None if all_denoised is None else all_denoised[roi]
            return Snapshot(
                version=self.version,
                info=self.info,
                roi=roi,
                n_frames=self._c2.n_frames,
                c2=c2,
                c2_denoised=denoised,
                step=self._c2.step,
                g2=g2,
                g2_error=g2_error,
                g2_denoised=g2_denoised,
                gamma=_shown_rows(self._gamma, self.info.roi[roi]),
                typical_rates=self._rates,
                status=self._status,
                picture=self._picture,
                end=self._end,
                final=self._result is not None,
            )


def _shown_rows(table: GammaTable | None, label: int) -> GammaTable | None:
    """Return the converged rows of a ROI; those said early only where nothing is said later."""
    if table is None:
        return None
    rows = table.select((table.roi == label) & table.converged)
    late = rows.age_frame[rows.source == "bayes"]
    return rows.select((rows.source != "bayes_early") | ~np.isin(rows.age_frame, late))


def _rates_by_roi(table: GammaTable, labels: tuple[int, ...]) -> NDArray[np.float64]:
    """Return one rate a ROI from what is recommended, 1/s."""
    good = table.recommended & table.converged & np.isin(table.source, BAYES)
    if not good.any():
        return np.full(len(labels), np.nan)
    ages, at_age = np.unique(table.age_frame[good], return_inverse=True)
    at_roi = np.searchsorted(np.array(labels), table.roi[good])
    rates: NDArray[Any] = np.full((len(labels), len(ages)), np.nan)
    rates[at_roi, at_age] = table.relaxation_rate[good]
    return typical_rates(rates)
