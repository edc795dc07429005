"""The series that the demo measures."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError
from xpcs_live_denoise.simulation import recorded_series, simulated_series


def test_the_simulated_sample_slows_down_and_is_faster_at_larger_q():
    series = simulated_series(40, 3)
    assert series.true_rates.shape == (3, 40)
    assert (np.diff(series.true_rates, axis=1) < 0).all()
    assert (np.diff(series.true_rates, axis=0) > 0).all()
    frames = np.concatenate(list(series.frames()))
    assert frames.shape == (40, *series.rois.shape)
    assert 0.1 < series.rois.gather(frames).mean() < 0.2


@pytest.fixture
def recording(tmp_path):
    rng = np.random.default_rng(2)
    frames = rng.poisson(2.0, (12, 41, 41)).astype(np.uint16)
    file = tmp_path / "series.npz"

    def write(**fields):
        np.savez(file, **{"frames": frames, **fields})
        return file

    return write


def test_a_recorded_series_takes_its_clock_and_its_q_from_the_file(recording):
    file = recording(fps=20.0, px_per_um=3.0, center=np.array([20, 20]))
    series = recorded_series(file, 10, 2)
    assert series.n_frames == 10
    assert series.frame_time_s == 0.05
    radius = 20 * (0.2 + 0.085 / 2)
    expected = 2 * np.pi * radius / 41 * 3.0 * 1e-4
    np.testing.assert_allclose(series.rois.q_inv_angstrom[0], expected)
    assert series.geometry.beam_center == (20.0, 20.0)
    assert len(np.concatenate(list(series.frames()))) == 10


def test_what_the_file_does_not_tell_stays_unknown(recording):
    series = recorded_series(recording(), 100, 2)
    assert series.n_frames == 12
    assert series.frame_time_s is None
    assert np.isnan(series.rois.q_inv_angstrom).all()


def test_of_frames_that_say_everything_twice_one_half_is_taken(recording):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(12, 41, 41))
    mirrored = np.abs(np.fft.fftshift(np.fft.fft2(image), axes=(1, 2))) ** 2
    half = recorded_series(recording(frames=mirrored, center=np.array([20, 20])), 12, 2)
    whole = recorded_series(recording(center=np.array([20, 20])), 12, 2)
    assert (np.nonzero(half.rois.label_array)[0] > 20).all()
    assert half.rois.n_pixels.sum() < 0.55 * whole.rois.n_pixels.sum()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": np.zeros((3, 4))}, r"`frames` of shape \(3, 4\)"),
        ({"frames": np.zeros((0, 4, 4))}, r"`frames` of shape \(0, 4, 4\)"),
        ({"frames": np.full((3, 4, 4), "a")}, "`frames` of shape .* dtype <U1"),
        ({"center": np.array([1, 2, 3])}, r"got `center` \[1 2 3\]; expected 2 number"),
        ({"fps": "fast"}, "got `fps` fast; expected 1 number"),
        ({"fps": 0.0}, r"got `fps` 0.0; expected 1 number\(s\) above 0"),
    ],
)
def test_a_file_without_a_series_is_refused(recording, fields, message):
    with pytest.raises(InvalidInputError, match=message):
        recorded_series(recording(**fields), 10, 2)


def test_the_array_of_an_npy_file_is_the_frames(tmp_path):
    file = tmp_path / "m.npy"
    np.save(file, np.random.default_rng(2).poisson(2.0, (12, 41, 41)).astype(np.uint16))
    series = recorded_series(file, 10, 2)
    assert len(np.concatenate(list(series.frames()))) == series.n_frames == 10
    np.save(file, np.zeros((41, 41)))
    with pytest.raises(InvalidInputError, match=r"m\.npy: got `frames` of shape \(41, 41\)"):
        recorded_series(file, 10, 2)


@pytest.mark.parametrize("content", [None, b"", b"frames", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_recording_is_refused_in_a_sentence(tmp_path, content):
    file = tmp_path / "m.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"m\.npz: cannot be read .*; expected an \.npz"):
        recorded_series(file, 10, 2)


def test_more_rings_than_pixels_are_refused():
    with pytest.raises(InvalidInputError, match="Ask for fewer"):
        simulated_series(10, 500)
