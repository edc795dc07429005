"""A small data file of noisy KWW series, for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xpcs_live_denoise.numerics.windows import LAG


def write_series(path: Path, seed: int, n_series: int = 24, n_cuts: int = 6) -> Path:
    """Write series of noisy KWW curves in the data format; four series are an experiment."""
    rng = np.random.default_rng(seed)
    gamma = np.exp(rng.uniform(np.log(0.01), np.log(0.2), n_series))
    curves = 1 + np.exp(-2 * gamma[:, None] * np.arange(50).clip(1))  # (n_series, 50)
    index = np.repeat(np.arange(n_series), n_cuts)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.5, (len(index), 1275))
    np.savez(
        path,
        c2=c2.astype(np.float32),
        target=np.stack([c2[index == i].mean(axis=0) for i in range(n_series)]).astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(n_cuts), n_series),
        experiment=np.arange(n_series) // 4,
    )
    return path
