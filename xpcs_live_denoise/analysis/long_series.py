"""The result of a series that is longer than its map: from map, band and sums alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.records.results import GammaTable, Result

from .c2 import C2Analysis, PhotonContrast
from .growing_band import GrowingBand
from .paper_rows import PaperRows
from .profiled import ProfiledTwoTime
from .rates import one_time_of_sums


def finish_long(
    of_c2: C2Analysis,
    two_time: ProfiledTwoTime,
    band: GrowingBand,
    paper: PaperRows,
    photon: PhotonContrast | None = None,
) -> Result:
    """Return the final results of a long series.

    Its band keeps the scale of its first frames and the windows of the live run, and was settled
    while the series came: what is left does not grow with it. `paper` are the rows of `band`.
    """
    with one_thread():
        rows = band.finish()
        sums, rates = two_time.age_sums, of_c2.rates
        values, frames_per_bin = two_time.map
        estimates = GammaTable.concatenate(rates.final(sums, two_time.images))
        edges, _ = sums.lag_bins()
        g2 = dataclasses.replace(
            one_time_of_sums(sums, rates.frame_time_s), g2_denoised=band.denoised_g2(edges)
        )
        g2 = of_c2.with_heterogeneity(g2, sums, estimates)
        middles = (np.arange(values.shape[-1]) + 0.5) * frames_per_bin - 0.5
        known = rates.estimated_rates(estimates, middles)
        raw, *denoised = paper.tables(estimates)
        tables = [
            raw,
            estimates,
            *denoised,
            *of_c2.coarse_rows(values, known, paper.scaling, frames_per_bin),
            *rates.whole_series(g2, sums, known),
        ]
        return Result(
            map_values=values.copy(),
            band=rows,
            denoised=None,
            gamma=GammaTable.concatenate(tables),
            g2=g2,
            status=of_c2.status(sums.n_frames, paper.scaling, g2, photon, n_scaled=paper.n_scaled),
            frames_per_bin=frames_per_bin,
        )
