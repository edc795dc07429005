"""denoise_frames: counts in, expected counts out; what is not measured keeps its value."""

import json
import shutil

import numpy as np
import pytest

from xpcs_live_denoise import denoise_frames, load_frame_denoiser
from xpcs_live_denoise.denoising.frames.denoiser import SHIPPED
from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError

CENTER = (20.0, 25.0)
ROWS, COLS = np.indices((72, 90))
RADIUS = np.hypot(ROWS - CENTER[0], COLS - CENTER[1])
RATE = 0.15 + 0.6 * np.exp(-(((RADIUS - 30) / 4) ** 2))


@pytest.fixture(scope="module")
def model():
    return load_frame_denoiser("small")


@pytest.fixture
def counts():
    return np.random.default_rng(1).poisson(RATE).astype(np.uint16)


def excess(made, rate=RATE):
    made = np.maximum(made, 1e-3)
    return (2 * (rate * np.log(rate / made) - (rate - made))).mean()


def test_expected_counts_are_nearer_to_the_truth_than_a_running_or_an_azimuthal_mean(model, counts):
    from xpcs_live_denoise.denoising.evaluation.frame_methods import azimuthal_mean, gaussian

    (image,) = denoise_frames(counts, center=CENTER, model=model)
    every, rng = np.ones(RATE.shape, bool), np.random.default_rng(0)
    rivals = [one(counts.astype(float), every, CENTER, rng) for one in (gaussian, azimuthal_mean)]
    assert excess(image.denoised) < min(excess(made) for made in rivals)
    assert image.denoised.sum() == pytest.approx(counts.sum(), rel=0.05)
    assert not image.kept.any()
    np.testing.assert_array_equal(image.measured, counts)


@pytest.mark.parametrize(
    ("dtype", "mark"),
    [
        (np.uint16, 2**16 - 1),
        (np.uint32, 2**32 - 2),
        (np.float32, np.nan),
        (np.float64, np.inf),
        (np.int32, -1),
    ],
)
def test_a_pixel_without_a_measurement_keeps_its_value_and_is_marked(model, counts, dtype, mark):
    frames = counts.astype(dtype)
    frames[10:12] = mark
    frames[40, 50] = mark
    (image,) = denoise_frames(frames, center=CENTER, model=model)
    bad = np.zeros(RATE.shape, bool)
    bad[10:12] = bad[40, 50] = True
    np.testing.assert_array_equal(image.kept, bad)
    np.testing.assert_array_equal(image.denoised[bad], frames[bad].astype(np.float32))
    assert np.isfinite(image.denoised[~bad]).all()
    # The numbers of such pixels change nothing of the others.
    mask = ~bad
    (masked,) = denoise_frames(counts, center=CENTER, mask=mask, model=model)
    np.testing.assert_allclose(masked.denoised[mask], image.denoised[mask], rtol=1e-5)


def test_an_image_of_which_nothing_was_measured_is_given_back_with_a_note(model):
    (image,) = denoise_frames(np.full((20, 20), np.nan), model=model)
    assert image.kept.all()
    assert "no pixel was measured" in image.note


def test_the_trust_says_where_other_photons_confirm_structure():
    rng = np.random.default_rng(2)
    rate = np.full((96, 96), 0.3)
    rate[8:12, 8:12] = 6.0  # in the first block only
    (image,) = denoise_frames(rng.poisson(rate), model="small")
    assert image.evidence is not None
    assert image.evidence.shape == (3, 3)
    assert image.evidence[0, 0] > 5
    assert np.abs(image.evidence[1:, 1:]).max() < 4
    assert image.error is not None
    assert image.error.shape == rate.shape


def test_rings_of_a_denoised_image_predict_photons_that_took_no_part(model):
    rng = np.random.default_rng(3)
    images = denoise_frames(rng.poisson(RATE, (4, *RATE.shape)), center=CENTER, model=model)
    pulls = np.concatenate([one.rings.pull for one in images])
    assert np.mean(np.abs(pulls[np.isfinite(pulls)]) < 2) > 0.9
    for image in images:
        made, error = image.rings.denoised, image.rings.measured_error
        some = image.rings.n_pixels > 300
        assert (np.abs(made - image.rings.measured) < 2.5 * error)[some].all()


def test_numbers_that_are_no_photons_are_denoised_without_a_word_of_trust(model, counts):
    (image,) = denoise_frames(counts * 1.5, model=model)
    assert image.error is None
    assert "no whole photons" in image.note


def test_images_outside_of_what_models_were_trained_for_are_noted(model):
    rng = np.random.default_rng(4)
    few, many = denoise_frames(
        np.stack([rng.poisson(one, (32, 32)) for one in (0.001, 200.0)]), model=model, trust=False
    )
    assert "sum more frames" in few.note
    assert "good enough" in many.note
    assert many.denoised.mean() == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("shape", [(16, 16), (17, 250), (31, 33)])
def test_small_images_of_any_size_are_denoised(model, shape):
    (image,) = denoise_frames(np.random.default_rng(5).poisson(1.0, shape), model=model)
    assert image.denoised.shape == shape
    assert image.denoised.mean() == pytest.approx(1.0, rel=0.3)


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (15, 40), (3, 0, 20)])
def test_images_smaller_than_the_network_sees_are_refused(model, shape):
    with pytest.raises(InvalidInputError, match="expected at least 16 x 16 pixels"):
        denoise_frames(np.ones(shape), model=model)


@pytest.mark.parametrize(
    "frames", [np.ones(5), np.ones((2, 2, 20, 20)), np.ones((20, 20), complex)]
)
def test_what_is_no_image_is_refused(model, frames):
    with pytest.raises(InvalidInputError, match="expected counts"):
        denoise_frames(frames, model=model)


def test_a_mask_of_another_detector_and_a_center_that_is_none_are_refused(model, counts):
    with pytest.raises(FrameShapeError, match="the images have"):
        denoise_frames(counts, mask=np.ones((5, 5)), model=model)
    with pytest.raises(InvalidInputError, match="row and column of the direct beam"):
        denoise_frames(counts, center=(np.nan, 3), model=model)


def test_an_image_denoised_in_parts_equals_the_whole(model, monkeypatch):
    from xpcs_live_denoise.denoising.frames import denoiser

    rng = np.random.default_rng(6)
    counts, valid = rng.poisson(0.5, (512, 48)), np.ones((512, 48), bool)
    whole = model.expected(counts, valid, (0.0, 0.0))
    monkeypatch.setattr(denoiser, "ONE_THREAD", 0)
    monkeypatch.setattr(denoiser, "PIXELS_AT_ONCE", 256 * 48)
    np.testing.assert_allclose(model.expected(counts, valid, (0.0, 0.0)), whole, rtol=2e-3)


def test_the_large_model_takes_images_that_it_denoises_in_time():
    model = load_frame_denoiser()
    assert set(model.info) == {"large", "small"}
    assert model.name_for((500, 500)) == "large"
    assert model.name_for((2167, 2070)) == "small"


def test_shipped_weights_are_small():
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*.safetensors")) < 10e6


def test_weights_of_another_kind_are_refused(tmp_path):
    from xpcs_live_denoise.denoising.ensemble import SHIPPED as WINDOWS

    with pytest.raises(InvalidInputError, match="lacks network"):
        load_frame_denoiser(WINDOWS)
    with pytest.raises(InvalidInputError, match="Expected a folder with"):
        load_frame_denoiser(tmp_path / "nowhere")
    shutil.copytree(SHIPPED / "small", tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model_card.json").read_text())
    (tmp_path / "m" / "model_card.json").write_text(json.dumps({**card, "network": "vdsr"}))
    with pytest.raises(InvalidInputError, match="does not hold the weights of the network 'vdsr'"):
        load_frame_denoiser(tmp_path / "m")
    (tmp_path / "m" / "model_card.json").write_text(json.dumps({**card, "network": "fc-dae"}))
    with pytest.raises(InvalidInputError, match="expected one of irunet, light, vdsr"):
        load_frame_denoiser(tmp_path / "m")
