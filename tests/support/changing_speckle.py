"""Series of one ROI whose Gamma changes in known ways, simulated once a worker."""

import functools

import numpy as np

from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

AGES = np.arange(350)
RATES = {
    "constant": np.full(350, 0.05),
    "ageing": 0.2 * 0.1 ** (AGES / 349),
    "oscillating": 0.05 * 2.2 ** np.sin(2 * np.pi * AGES / 40),
    "burst": np.where((AGES >= 170) & (AGES < 180), 0.5, 0.03),
}


@functools.cache
def speckle(name, seed, counts=0.3, n_pixel=4000, size=1.0):
    """Sums of C2 of one ROI, contrast 0.2."""
    shape = (50, n_pixel // 50)
    rois = RoiMap.from_labels(np.ones(shape, np.int64))
    two_time = TwoTimeAccumulator(rois, sums=True, n_frames=350)
    frames = simulate_speckle(
        rois,
        350,
        relaxation_rate=RATES[name],
        contrast=0.2,
        mean_counts=counts,
        speckle_size=size,
        seed=seed,
    )
    for block in frames:
        two_time.append(block)
    return two_time.age_sums
