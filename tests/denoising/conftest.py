"""Files of windows whose truth is known, written once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.window_series import write_series
from xpcs_live_denoise.denoising.training.data import WindowData, simulate_windows
from xpcs_live_denoise.numerics.windows import LAG


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file to train on."""
    return write_series(tmp_path_factory.mktemp("data") / "training.npz", seed=1)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file to choose by."""
    return write_series(tmp_path_factory.mktemp("data") / "validation.npz", seed=2)


@pytest.fixture(scope="session")
def simulated() -> WindowData:
    """Return 150 simulated windows, each an experiment of its own."""
    return simulate_windows(150, seed=3)
