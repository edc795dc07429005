"""A file of windows whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.model import LAG


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight series of five noisy windows."""
    rng = np.random.default_rng(0)
    gamma = np.geomspace(0.02, 0.12, 8)
    curves = 1 + np.exp(-2 * gamma[:, None] * np.arange(50).clip(1))
    index = np.repeat(np.arange(8), 5)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.6, (40, 1275))
    file = tmp_path_factory.mktemp("data") / "windows.npz"
    np.savez(
        file,
        c2=c2.astype(np.float32),
        target=curves[:, LAG].astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(5), 8),
        experiment=np.zeros(8, int),
    )
    return file
