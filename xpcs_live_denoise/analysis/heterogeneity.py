"""Dynamical heterogeneity of the ROIs of a series: of one now and then, of all at the end."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.estimator.heterogeneity import Heterogeneity, heterogeneity
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.threads import spread
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.run import RoiHeterogeneity
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .rates import BEST_FIRST

# A live run looks at a ROI anew after so many frames more, and after this share more, or that where
# rows of the sums hold several frames: one look takes 17 ms for 350 frames and 50 ms for 2,000.
_LEAST_FRAMES, _GROWTH, _LONG_GROWTH = 50, 1.2, 1.5
_DIGITS = 4  # of what is shown


class RoisHeterogeneity:
    """The newest heterogeneity of each ROI of a series, which is its state.

    `labels` (n_roi,) are those of the rows of Gamma(t) that tell contrast and rate.
    """

    def __init__(self, labels: IntArray, frame_time_s: float) -> None:
        self._labels = labels
        self._frame_time_s = frame_time_s
        self._n_frames = [0] * len(labels)  # at the last look
        self._newest = [RoiHeterogeneity()] * len(labels)

    @property
    def newest(self) -> tuple[RoiHeterogeneity, ...]:
        """What is known of each ROI."""
        return tuple(self._newest)

    @property
    def notes(self) -> list[str]:
        """A sentence that names the ROIs where it was found; none without such a ROI."""
        pairs = zip(self._labels.tolist(), self._newest, strict=True)
        found = [(label, one) for label, one in pairs if one.found]
        if not found:
            return []
        labels = ", ".join(str(label) for label, _ in found)
        by = ", ".join(f"{one.spread:.2f} +- {one.spread_error:.2f}" for _, one in found)
        verb = "is" if len(found) == 1 else "are"
        return [f"ROI {labels} {verb} dynamically heterogeneous: ln Gamma fluctuates by {by}."]

    def look(self, sums: AgeSums, gamma: GammaTable, rois: range) -> None:
        """Look at the ROI that has waited longest, if the series has grown enough since then.

        `gamma` has the estimator's newest rows of `rois`, among which it is.
        """
        roi = min(rois, key=self._n_frames.__getitem__)
        before, growth = self._n_frames[roi], _GROWTH if sums.row_frames == 1 else _LONG_GROWTH
        if sums.n_frames >= max(before + _LEAST_FRAMES, growth * before):
            self._look_at(roi, sums, gamma)

    def whole(
        self, sums: AgeSums, gamma: GammaTable, lags: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Look at every ROI of a whole series.

        Returns chi at some lags, frames, and its standard error, each (n_roi, n_lag).
        """
        at = np.rint(lags).astype(np.int64) - 1
        chi, error = np.full((2, len(self._labels), len(lags)), np.nan)
        looks = spread(lambda roi: self._look_at(roi, sums, gamma), range(len(self._labels)))
        for roi, found in enumerate(looks):
            if found is not None and at.size:
                chi[roi] = found.at_lags(found.fast, int(at[-1]) + 1)[at]
                error[roi] = found.at_lags(found.fast_error, int(at[-1]) + 1)[at]
        return chi, error

    def _look_at(self, roi: int, sums: AgeSums, gamma: GammaTable) -> Heterogeneity | None:
        self._n_frames[roi] = sums.n_frames
        rows = _typical_rows(gamma, int(self._labels[roi]))
        if rows is None:
            self._newest[roi] = RoiHeterogeneity()
            return None
        found = heterogeneity(
            sums,
            roi,
            beta=float(np.median(rows.beta)),
            alpha=float(np.median(rows.alpha)),
            rate=float(np.median(rows.relaxation_rate)) * self._frame_time_s,
        )
        self._newest[roi] = _shown(found)
        return found


def _typical_rows(gamma: GammaTable, label: int) -> GammaTable | None:
    """Return the rows of the path of a ROI, else those of cuts; None without contrast."""
    known = gamma.converged & (gamma.reason != "no_contrast") & (gamma.beta > 0)
    for source in BEST_FIRST:
        rows = gamma.select(known & (gamma.roi == label) & (gamma.source == source))
        if len(rows):
            return rows
    return None


def _shown(found: Heterogeneity) -> RoiHeterogeneity:
    known = np.isfinite(found.fast) & np.isfinite(found.fast_error)
    lag = (found.edges[:-1] + found.edges[1:] - 1) / 2

    def rounded(values: FloatArray) -> tuple[float, ...]:
        return tuple(float(f"{value:.{_DIGITS}g}") for value in values[known])

    return RoiHeterogeneity(
        lag=tuple(lag[known].tolist()),
        chi=rounded(found.fast),
        chi_error=rounded(found.fast_error),
        spread=found.spread,
        spread_error=found.spread_error,
        found=found.found,
        upper_bound=found.upper_bound,
    )
