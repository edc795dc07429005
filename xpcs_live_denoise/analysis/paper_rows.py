"""The paper's fits of a long series, made while it is measured from what is final of its band."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.coarsening import band_noise
from xpcs_live_denoise.numerics.windows import WindowScaling
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import BoolArray, FloatArray

from .rates import SeriesRates, defer


class PaperRows:
    """Fits of cuts of one frame of a long series, raw and denoised, one for each row of its sums.

    beta* and baseline* (`scaling`) are those of its first `n_scaled` frames. Its state is the rows
    so far, the noise of the windows behind the denoised ones, and the next age, frames. When rows
    of the sums come to hold twice as many ages, every second one is kept.
    """

    def __init__(self, rates: SeriesRates, scaling: WindowScaling, n_scaled: int) -> None:
        self.scaling = scaling
        self.n_scaled = n_scaled
        self.next_age = 0
        self._rates = rates
        self._step = 1
        self._raw: list[GammaTable] = []
        self._denoised: list[GammaTable] = []
        self._noise: list[FloatArray] = []  # of the denoised rows

    def add(
        self, raw: FloatArray, denoised: FloatArray | None, start: int, until: int, step: int
    ) -> None:
        """Fit the ages up to `until` that have not been fitted, every `step` frames.

        `raw` and `denoised` are rows of the band from frame `start` on, (n_roi, k, width).
        """
        if step > self._step:
            self._thin(step)
        ages = np.arange(-(-self.next_age // step) * step, until, step, dtype=np.int64)
        if not ages.size:
            self.next_age = max(until, self.next_age)
            return
        contrast = self.scaling.contrast
        # All or nothing: where memory is refused, these ages are fitted with the next ones.
        of_raw = self._rates.band_ages(raw, start, ages, RowSource.RAW, contrast)
        if denoised is not None:
            of_denoised = self._rates.band_ages(denoised, start, ages, RowSource.DENOISED, contrast)
            noise = band_noise(raw, start, self.scaling, ages.astype(np.float64))
            self._denoised.append(of_denoised)
            self._noise.append(noise.reshape(-1))
        self._raw.append(of_raw)
        self.next_age = max(until, self.next_age)

    def _thin(self, step: int) -> None:
        """Keep the rows at multiples of `step`."""

        def kept(table: GammaTable) -> BoolArray:
            return table.age_frame % step == 0

        self._step = step
        self._noise = [
            noise[kept(table)] for noise, table in zip(self._noise, self._denoised, strict=True)
        ]
        for tables in (self._raw, self._denoised):
            tables[:] = [table.select(kept(table)) for table in tables]

    def tables(self, estimates: GammaTable) -> list[GammaTable]:
        """Return the rows by ROI and age: raw ones, and denoised ones where there are any.

        `estimates` are the estimator's, which one row each stands for.
        """
        tables: list[GammaTable] = []
        if self._raw:
            raw = _by_roi(GammaTable.concatenate(self._raw))
            tables.append(defer(raw, estimates, self._step))
        if self._denoised:
            joined = GammaTable.concatenate(self._denoised)
            judged = self._rates.judged(joined, estimates, np.concatenate(self._noise))
            tables.append(_by_roi(judged))
        return tables


def _by_roi(table: GammaTable) -> GammaTable:
    return table.select(np.lexsort((table.age_frame, table.roi)))
