"""Files in the data format are read, others are refused, and windows can be simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.training.data import WindowData, load_windows, simulate_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import LAG, one_time


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "c2": rng.normal(1, 0.1, (6, 1275)).astype(np.float32),
        "target": rng.normal(1, 0.1, (2, 1275)).astype(np.float32),
        "target_index": np.array([0, 0, 0, 0, 1, 1], np.int32),
        "window": np.array([0, 1, 2, 3, 0, 1], np.int16),
        "experiment": np.array([4, 9], np.int16),
        "roi": np.array([0, 1], np.int16),
    }


def write(path: Path, **changes: np.ndarray | None) -> Path:
    content = arrays() | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def test_a_file_is_read_with_its_hash(tmp_path: Path):
    data = load_windows(write(tmp_path / "data.npz"))
    np.testing.assert_array_equal(data.c2, arrays()["c2"])
    assert len(data) == 6
    assert data.n_cuts.tolist() == [4, 2]
    assert len(data.sha256) == 64


def test_experiments_are_taken_apart_with_their_inputs(tmp_path: Path):
    part = load_windows(write(tmp_path / "data.npz")).of_experiments(np.array([9]))
    np.testing.assert_array_equal(part.c2, arrays()["c2"][4:])
    assert part.target_index.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_point_types_are_converted(tmp_path: Path, dtype: type):
    data = load_windows(write(tmp_path / "data.npz", c2=arrays()["c2"].astype(dtype)))
    assert data.c2.dtype == np.float32


nan = arrays()["c2"]
nan[3, 7] = np.nan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": None, "window": None}, "lacks target, window"),
        ({"c2": arrays()["c2"][:, :1225]}, r"c2 has shape \(6, 1225\); expected \(n, 1275\)"),
        ({"c2": np.ones((6, 50, 50), np.float32)}, r"c2 has shape \(6, 50, 50\)"),
        ({"c2": arrays()["c2"][:0]}, r"c2 has shape \(0, 1275\)"),
        ({"c2": nan}, "c2 has NaN or infinite values in 1 of 6 rows"),
        ({"c2": np.ones((6, 1275), int)}, "c2 has dtype int64; expected floating point"),
        ({"target": np.full((2, 1275), np.inf)}, "target has NaN or infinite values in 2 of 2"),
        ({"target_index": np.zeros(5, int)}, r"target_index has shape \(5,\); expected \(6,\)"),
        ({"target_index": np.zeros(6)}, "target_index has dtype float64; expected integer"),
        ({"target_index": np.array([0, 0, 0, 0, 1, 2])}, "runs from 0 to 2; expected .* 0 to 1"),
        ({"target_index": np.array([-1, 0, 0, 0, 1, 1])}, "runs from -1 to 1"),
        ({"window": np.zeros((6, 1), int)}, r"window has shape \(6, 1\); expected \(6,\)"),
        ({"experiment": np.zeros(6, int)}, r"experiment has shape \(6,\); expected \(2,\)"),
        ({"window": np.array([None] * 6)}, "cannot be read"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, message: str):
    path = write(tmp_path / "data.npz", **changes)
    with pytest.raises(InvalidInputError, match=f"Data file .*data.npz: .*{message}"):
        load_windows(path)


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes | None):
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"cannot be read \(.*Expected an .npz with c2"):
        load_windows(path)


def test_a_single_array_is_refused(tmp_path: Path):
    path = tmp_path / "data.npy"
    np.save(path, np.ones(3))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_windows(path)


def test_the_mean_of_many_simulated_inputs_is_that_of_their_targets(simulated: WindowData):
    difference = one_time(simulated.c2 - simulated.target)  # (150, 49)
    error = difference.std(axis=0) / np.sqrt(len(simulated))
    # Normalising by the mean of 900 speckles takes about 1 / 900 from C2.
    assert (np.abs(difference.mean(axis=0)) < 4 * error + 0.005).all()


def test_simulated_noise_runs_from_clean_to_noisier_than_the_contrast(simulated: WindowData):
    noise = (simulated.c2 - simulated.target).std(axis=1)
    assert noise.min() < 0.25
    assert noise.max() > 2
    assert np.ptp(one_time(simulated.target)[:, 0]) > 0.5  # slow ones and fast ones


def test_the_same_seed_gives_the_same_windows():
    first, again, other = (simulate_windows(2, seed=seed).c2 for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any(axis=1).all()


def test_the_diagonal_holds_values_of_lag_1(simulated: WindowData):
    window = simulated.c2[0]
    assert np.isin(window[LAG == 0], window[LAG == 1]).all()


def test_no_windows_cannot_be_simulated():
    with pytest.raises(InvalidInputError, match="n is 0; expected at least 1"):
        simulate_windows(0)
