"""The paper's fits of a long series, made while it is measured from what is final of its band."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.coarsening import band_noise
from xpcs_live_denoise.numerics.threads import spread
from xpcs_live_denoise.numerics.windows import WindowScaling
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .rates import SeriesRates, defer

_PARTS = 4  # of the ages that are fitted at once, for as many threads


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
        bands = {RowSource.RAW: raw}
        if denoised is not None:
            bands[RowSource.DENOISED] = denoised
        parts = [part for part in np.array_split(ages, _PARTS) if part.size]
        pieces = [(source, band, part) for source, band in bands.items() for part in parts]

        def fit(piece: tuple[RowSource, FloatArray, IntArray]) -> GammaTable:
            source, band, part = piece
            return self._rates.band_ages(band, start, part, source, self.scaling.contrast)

        # All or nothing: where memory is refused, these ages are fitted with the next ones.
        found = spread(fit, pieces)
        if denoised is not None:
            noise = band_noise(raw, start, self.scaling, ages.astype(np.float64))
            # In the order of the rows: part by part.
            columns = np.split(noise, np.cumsum([len(part) for part in parts[:-1]]), axis=1)
            self._noise += [part.reshape(-1) for part in columns]
        self._raw += found[: len(parts)]
        self._denoised += found[len(parts) :]
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
