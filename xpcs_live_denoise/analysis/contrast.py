"""The contrast as three methods see it, side by side: where they differ, a scale may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpcs_live_denoise.numerics.contrast import photon_contrast
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.types import Array, FloatArray


class Contrasts:
    """Estimates of beta of one series; its state is what the first frame told.

    Parameters
    ----------
    rois
        The ROIs.
    """

    def __init__(self, rois: RoiMap) -> None:
        self._rois = rois
        self._photon: tuple[FloatArray, FloatArray] | None = None
        self._nothing = np.full(rois.n_roi, np.nan)

    def see(self, pixels: Array) -> None:
        """Take the counts of the first frame, shape (k, n_pixels); later ones are not looked at."""
        if self._photon is None and len(pixels):
            self._photon = photon_contrast(pixels[:1], self._rois)

    def estimates(
        self, c2: Array, series: Sequence[SeriesFit | None]
    ) -> dict[str, tuple[float, ...]]:
        """Return beta of every ROI by three methods, each with its standard error.

        Parameters
        ----------
        c2
            Shape (n_roi, n, n).
        series
            The fit of the whole series of each ROI, None where there is none yet.

        Returns
        -------
        dict
            "intercept" (lag 0 of the whole-series fit), "lag_1" (g2(1) - 1, below beta where the
            dynamics are fast), "photon" (negative binomial counts of the first frame), and the same
            with "_error". Each (n_roi,), NaN where unknown.
        """
        g2, error, _ = g2_from_c2(c2, max_lag=1)
        some = g2.shape[1] > 0
        photon, photon_error = self._photon or (self._nothing, self._nothing)
        found = {
            "intercept": [np.nan if fit is None else fit.beta for fit in series],
            "intercept_error": [np.nan if fit is None else fit.beta_error for fit in series],
            "lag_1": g2[:, 0] - 1 if some else self._nothing,
            "lag_1_error": error[:, 0] if some else self._nothing,
            "photon": photon,
            "photon_error": photon_error,
        }
        return {name: tuple(float(value) for value in values) for name, values in found.items()}
