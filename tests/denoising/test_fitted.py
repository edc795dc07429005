"""What training windows taught: the shipped file, and that it can be made and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.ensemble import FITTED_CARD_NAME as CARD_NAME
from xpcs_live_denoise.denoising.evaluation.fitted import (
    ARRAYS_NAME,
    SHIPPED,
    learn,
    load_fitted,
    save_fitted,
    triangle_noise,
)
from xpcs_live_denoise.denoising.evaluation.methods import principal_components
from xpcs_live_denoise.denoising.model import LAG, to_windows
from xpcs_live_denoise.denoising.training.data import WindowData, load_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.window_bayes import window_noise

TRAINING = Path(__file__).resolve().parents[2] / "../shared/data/chx_2tcf_training.npz"


@pytest.fixture(scope="module")
def data() -> WindowData:
    rng = np.random.default_rng(0)
    curves = 1 + np.exp(-2 * np.geomspace(0.02, 0.2, 12)[:, None] * np.arange(50).clip(1))
    index = np.repeat(np.arange(12), 20)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.5, (240, 1275))
    target = np.stack([c2[index == k].mean(axis=0) for k in range(12)])
    return WindowData(
        c2=c2.astype(np.float32),
        target=target.astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(20), 12),
        experiment=np.repeat(np.arange(4), 3),
    )


def test_what_was_learned_is_read_again(data: WindowData, tmp_path: Path):
    made = learn(data, "synthetic")
    read = load_fitted(save_fitted(made, tmp_path / "here"))
    np.testing.assert_allclose(read.prior.weight, made.prior.weight, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(read.components, made.components)
    assert read.prior.error_scale == pytest.approx(made.prior.error_scale)
    assert read.card["trained_on"]["inputs"] == 240


def test_the_prior_lies_where_the_training_fits_are(data: WindowData):
    prior = learn(data, "synthetic").prior
    rate = np.exp(prior.ln_rate)
    by_rate = prior.weight.sum(axis=1)
    assert by_rate[(rate > 0.012) & (rate < 0.3)].sum() > 0.75
    assert np.diag(prior.lag_covariance)[:40].max() < 0.005  # the noise is white


def test_components_are_orthonormal_and_what_they_hold_is_nearer_to_the_target(data: WindowData):
    made = learn(data, "synthetic")
    np.testing.assert_allclose(made.components @ made.components.T, np.eye(8), atol=1e-5)
    held = principal_components(data.c2, made.center, made.components)
    target = data.target[data.target_index]
    assert np.mean((held - target) ** 2) < 0.2 * np.mean((data.c2 - target) ** 2)


def test_the_noise_of_triangles_is_that_of_their_windows(data: WindowData):
    np.testing.assert_allclose(triangle_noise(data.c2), window_noise(to_windows(data.c2)))


def test_files_that_do_not_belong_together_are_refused(data: WindowData, tmp_path: Path):
    folder = save_fitted(learn(data, "synthetic"), tmp_path)
    (folder / CARD_NAME).write_text('{"sha256": "0"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is not the file that card"):
        load_fitted(folder)
    (folder / ARRAYS_NAME).write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="Expected fitted"):
        load_fitted(folder)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_fitted(tmp_path / "nowhere")


@pytest.mark.skipif(not TRAINING.exists(), reason="../shared/data is not here")
def test_the_shipped_file_is_what_the_training_data_give():
    shipped, made = load_fitted(), learn(load_windows(TRAINING), TRAINING.name)
    np.testing.assert_allclose(shipped.prior.weight, made.prior.weight, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(
        shipped.prior.lag_covariance, made.prior.lag_covariance, rtol=1e-3, atol=1e-7
    )
    assert shipped.card["trained_on"] == made.card["trained_on"]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 200_000
