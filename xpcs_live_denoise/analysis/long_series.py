"""The result of a series that is longer than its map: from map, band and sums alone."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.records.results import GammaTable, Result

from .c2 import C2Analysis, PhotonContrast, Refusals, copied
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
    refusals = Refusals()
    with one_thread():
        rows = refusals.of("the band's last rows", band.finish, band.no_rows)
        sums, rates = two_time.age_sums, of_c2.rates
        values, frames_per_bin = two_time.map
        estimates = of_c2.estimates(sums, two_time.images, (), refusals)
        edges, _ = sums.lag_bins()
        g2 = dataclasses.replace(
            one_time_of_sums(sums, rates.frame_time_s), g2_denoised=band.denoised_g2(edges)
        )
        g2 = of_c2.with_heterogeneity(g2, sums, estimates, refusals)
        middles = (np.arange(values.shape[-1]) + 0.5) * frames_per_bin - 0.5
        known = rates.estimated_rates(estimates, middles)

        def of_cuts() -> list[GammaTable]:
            raw, *denoised = paper.tables(estimates)
            return [raw, estimates, *denoised]

        tables = refusals.of("rows of the paper's fits", of_cuts, lambda: [estimates])
        tables += refusals.of(
            "coarse rows",
            lambda: of_c2.coarse_rows(values, known, paper.scaling, frames_per_bin),
            lambda: [],
        )
        tables += rates.whole_series(g2, sums, known)
        status = of_c2.status(sums.n_frames, paper.scaling, g2, photon, n_scaled=paper.n_scaled)
        message = " ".join(filter(None, (status.message, refusals.note)))
        return Result(
            map_values=copied(values),
            band=rows,
            denoised=None,
            gamma=GammaTable.concatenate(tables),
            g2=g2,
            status=dataclasses.replace(status, message=message),
            frames_per_bin=frames_per_bin,
        )
