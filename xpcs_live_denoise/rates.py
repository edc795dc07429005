"""Rows of Gamma(t) from C2 and g2: fits the paper's model and says what each source may claim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numerics.kww import fit_age_cuts, fit_ages, fit_g2
from .numerics.rois import RoiMap
from .records import GammaTable, OneTime

# Where the published ensemble can be trusted, per frame (Konstantinova et al. 2021).
TRUSTED_RATES = (0.01, 0.15)
# Fits of denoised C2 stop here: longer lags have one or two windows only.
DENOISED_MAX_LAG = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFitter:
    """Fits the C2 of one series; knows its ROIs and its clock.

    Attributes
    ----------
    rois
        Labels and q of the rows.
    frame_time_s
        Frame period, s.
    """

    rois: RoiMap
    frame_time_s: float

    def some_ages(
        self,
        c2: NDArray[Any],
        ages: NDArray[np.integer[Any]],
        *,
        contrast: NDArray[Any],
        source: str,
        max_lag: int,
        offset: int,
    ) -> GammaTable:
        """Fit cuts of one frame at `ages` of a square of C2 that starts at frame `offset`."""
        table = fit_age_cuts(
            c2, ages, beta=contrast, width=1, frame_time_s=self.frame_time_s, max_lag=max_lag
        )
        table = table.replace(
            age_frame=table.age_frame + offset, age_s=table.age_s + offset * self.frame_time_s
        )
        return self._label(table, source)

    def all_ages(
        self, c2: NDArray[Any], *, contrast: NDArray[Any], source: str, max_lag: int | None = None
    ) -> GammaTable:
        """Fit a cut of one frame at every frame of the series."""
        table = fit_ages(c2, beta=contrast, frame_time_s=self.frame_time_s, max_lag=max_lag)
        return self._label(table, source)

    def series(self, one_time: OneTime, n_frames: int) -> list[GammaTable]:
        """Fit g2 of the whole series with beta free: raw, and denoised where there is one."""
        raw = fit_g2(one_time.g2, g2_error=one_time.g2_error, frame_time_s=self.frame_time_s)
        tables = [self._label(raw, "series_raw").replace(width=n_frames)]
        if one_time.g2_denoised is not None:
            curves = one_time.g2_denoised[:, :DENOISED_MAX_LAG]
            n_averaged = n_frames - np.arange(1.0, curves.shape[1] + 1)
            denoised = fit_g2(curves, weights=n_averaged, frame_time_s=self.frame_time_s)
            tables.append(self._label(denoised, "series_denoised").replace(width=n_frames))
        return tables

    def _label(self, table: GammaTable, source: str) -> GammaTable:
        """Give rows their ROI's label and q; take from denoised rows what they cannot claim."""
        index = table.roi - 1
        table = table.replace(
            roi=self.rois.labels[index],
            q_inv_angstrom=self.rois.q_inv_angstrom[index],
            source=source,
        )
        return self._without_error_bars(table) if "denoised" in source else table

    def _without_error_bars(self, table: GammaTable) -> GammaTable:
        """Mark rows from denoised C2: its noise is not independent, residuals say nothing of it."""
        low, high = TRUSTED_RATES
        per_frame = table.relaxation_rate * self.frame_time_s
        in_range = table.converged & (per_frame > low) & (per_frame < high)
        reason = np.where(
            ~table.converged, "not_converged", np.where(in_range, "no_error_bar", "out_of_range")
        )
        return table.replace(
            relaxation_rate_error=math.nan,
            alpha_error=math.nan,
            baseline_error=math.nan,
            beta_error=math.nan,
            error_kind="none",
            reduced_chi_square=math.nan,
            in_range=in_range,
            recommended=False,
            reason=reason,
        )
