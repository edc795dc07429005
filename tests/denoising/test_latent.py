"""The latent-space distance: what it flags, what it leaves, and when it is not available."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from xpcs_live_denoise.denoising.ensemble import FITTED_CARD_NAME as CARD_NAME
from xpcs_live_denoise.denoising.ensemble import Ensemble, load_ensemble
from xpcs_live_denoise.denoising.evaluation.fitted import triangle_noise
from xpcs_live_denoise.denoising.inference import FusedMembers
from xpcs_live_denoise.denoising.latent import (
    ARRAYS_NAME,
    KERNEL,
    SHIPPED,
    LatentDistance,
    LatentRange,
    latent_distance,
    latent_values,
    learn_latent_range,
    load_latent_range,
    save_latent_range,
)
from xpcs_live_denoise.denoising.model import LAG, to_windows
from xpcs_live_denoise.denoising.training.data import WindowData, load_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import kww

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
TRAINING = DATA / "chx_2tcf_training.npz"
VALIDATION = DATA / "chx_2tcf_validation.npz"
LAGS = np.arange(50).clip(1)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return load_ensemble()


@pytest.fixture(scope="module")
def distance(ensemble: Ensemble) -> LatentDistance:
    found, note = latent_distance(ensemble)
    assert found is not None, note
    return found


@pytest.fixture(scope="module")
def synthetic() -> WindowData:
    rng = np.random.default_rng(0)
    curves = kww(LAGS, np.geomspace(0.02, 0.2, 12)[:, None])
    index = np.repeat(np.arange(12), 20)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.5, (240, 1275))
    return WindowData(
        c2=c2.astype(np.float32),
        target=np.stack([c2[index == k].mean(axis=0) for k in range(12)]).astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(20), 12),
        experiment=np.repeat(np.arange(4), 3),
    )


def triangles(curve: np.ndarray, noise: float, n: int = 40, seed: int = 0) -> np.ndarray:
    """Windows of one g2, lag 0 first, with independent noise; the diagonal is lag-1 values."""
    rng = np.random.default_rng(seed)
    return (curve[LAG] + noise * rng.standard_normal((n, 1275))).astype(np.float32)


def share_flagged(distance: LatentDistance, curve: np.ndarray, noise: float) -> float:
    c2 = triangles(curve, noise)
    return float((distance(to_windows(c2), np.sqrt(triangle_noise(c2))) > 1).mean())


def heterodyne(share: float, rate: float, frequency: float) -> np.ndarray:
    """Scattering of which a share moves, beside a part at rest or in flow."""
    field = share * np.exp(-rate * LAGS)
    return 1 + (1 - share) ** 2 + field**2 + 2 * (1 - share) * field * np.cos(frequency * LAGS)


def two_step(share: float, fast: float, slow: float) -> np.ndarray:
    return 1 + (share * np.exp(-fast * LAGS) + (1 - share) * np.exp(-slow * LAGS)) ** 2


def test_both_forms_of_the_members_give_the_same_latent_numbers(ensemble: Ensemble):
    import safetensors.torch
    import torch

    from xpcs_live_denoise.denoising import ensemble as module

    stacked = safetensors.torch.load_file(module.SHIPPED / module.WEIGHTS_NAME)
    plain = Ensemble(FusedMembers(stacked, torch.device("cpu")), ensemble.info)
    c2 = triangles(kww(LAGS, 0.05), 0.5, n=5)
    got, expected = latent_values(plain, c2), latent_values(ensemble, c2)
    assert got.shape == (ensemble.info["n_members"], 5, 8)
    np.testing.assert_allclose(got, expected, atol=0.02)  # products in single precision


@pytest.mark.skipif(not VALIDATION.exists(), reason="../shared/data is not here")
def test_validation_windows_of_other_experiments_are_like_training(distance: LatentDistance):
    c2 = load_windows(VALIDATION).c2
    noise = np.sqrt(triangle_noise(c2))
    inside = np.concatenate(
        [
            distance(to_windows(c2[i : i + 400]), noise[i : i + 400]) <= 1
            for i in range(0, len(c2), 400)
        ]
    )
    assert inside.mean() >= 0.97
    for low, high in ((0, 0.6), (0.6, 0.9), (0.9, 2.5)):  # at every level of noise
        assert inside[(noise >= low) & (noise < high)].mean() > 0.96


@pytest.mark.parametrize(
    ("rate", "alpha"),
    [(0.01, 1.0), (0.03, 1.0), (0.1, 1.0), (0.1, 0.7), (0.05, 0.5), (0.05, 1.5), (0.1, 1.5)],
)
@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6, 1.0, 2.0])
def test_decays_of_any_common_exponent_are_like_training(
    distance: LatentDistance, rate: float, alpha: float, noise: float
):
    assert share_flagged(distance, kww(LAGS, rate, alpha), noise) <= 0.25


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("frequency", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("noise", [0.1, 0.3, 0.6])
def test_heterodyne_oscillations_are_flagged_up_to_a_noise_of_0_6(
    distance: LatentDistance, share: float, frequency: float, noise: float
):
    assert share_flagged(distance, heterodyne(share, 0.04, frequency), noise) >= 0.75


@pytest.mark.parametrize(
    ("curve", "noise"),
    [
        (two_step(0.3, 0.3, 0.004), 0.2),
        (two_step(0.5, 0.3, 0.004), 0.1),
        (two_step(0.3, 0.8, 0.03), 0.06),
        (two_step(0.5, 0.8, 0.03), 0.06),
        (heterodyne(0.5, 0.06, 0.0), 0.06),
    ],
    ids=["two_step_plateau_0.3", "two_step_plateau_0.5", "two_step_0.3", "two_step_0.5", "static"],
)
def test_two_step_and_static_curves_are_flagged_in_clean_windows_only(
    distance: LatentDistance, curve: np.ndarray, noise: float
):
    assert share_flagged(distance, curve, noise) >= 0.75
    assert share_flagged(distance, curve, 1.0) <= 0.15  # noise hides them, as the docs say


def test_windows_without_a_signal_are_flagged_where_the_noise_is_low(distance: LatentDistance):
    assert share_flagged(distance, np.ones(50), 0.1) >= 0.9


def test_nearer_to_a_training_series_is_a_smaller_distance():
    learned = LatentRange(
        axes=np.eye(8)[None],
        series=np.stack([np.zeros(8), np.full(8, 5.0)])[None],
        noise=np.full((1, 8), 0.5),
        limit=2.0,
        weights_sha256="",
        card={},
    )
    latent = np.zeros((1, 3, 8))
    latent[0, 1, 0] = 1.0
    latent[0, 2] = 5.5
    noise = np.array([1.0, 0.0, 2.0])
    expected = np.array([0, 1 / KERNEL, np.sqrt(8 * 0.25 / (KERNEL**2 + 2.0))]) / 2
    np.testing.assert_allclose(learned.distance(latent, noise), expected, atol=1e-9)


def test_what_was_learned_is_read_again_and_leaves_most_training_windows(
    ensemble: Ensemble, synthetic: WindowData, tmp_path: Path
):
    made = learn_latent_range(ensemble, synthetic, "synthetic")
    folder = save_latent_range(made, tmp_path / "here")
    found, note = latent_distance(ensemble, folder)
    assert found is not None
    assert note == ""
    got = found(to_windows(synthetic.c2), np.sqrt(triangle_noise(synthetic.c2)))
    assert 0.98 <= (got <= 1.01).mean() < 1
    read = load_latent_range(folder)
    assert read.card["trained_on"]["inputs"] == 240
    np.testing.assert_allclose(read.series, made.series, rtol=1e-3, atol=1e-3)


def test_statistics_of_other_weights_make_the_distance_unavailable_and_say_so(
    ensemble: Ensemble, tmp_path: Path
):
    other = dataclasses.replace(load_latent_range(), weights_sha256="0" * 64)
    found, note = latent_distance(ensemble, save_latent_range(other, tmp_path))
    assert found is None
    assert "belong to the weights 000000000000" in note
    found, note = latent_distance(ensemble, tmp_path / "nowhere")
    assert found is None
    assert "cannot be read" in note
    found, note = latent_distance(object())
    assert found is None
    assert "no ensemble of this package" in note


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path):
    folder = save_latent_range(load_latent_range(), tmp_path)
    (folder / CARD_NAME).write_text('{"sha256": "0", "weights_sha256": "0"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is not the file that card"):
        load_latent_range(folder)
    (folder / ARRAYS_NAME).write_bytes(b"nothing")
    with pytest.raises(InvalidInputError, match="Expected latent_range"):
        load_latent_range(folder)


@pytest.mark.skipif(not TRAINING.exists(), reason="../shared/data is not here")
def test_the_shipped_statistics_are_what_the_training_data_give(ensemble: Ensemble):
    made = learn_latent_range(ensemble, load_windows(TRAINING), TRAINING.name)
    shipped = load_latent_range()
    assert shipped.limit == pytest.approx(made.limit, rel=1e-3)
    np.testing.assert_allclose(shipped.noise, made.noise, rtol=1e-2)
    assert shipped.card["trained_on"] == made.card["trained_on"]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 200_000
