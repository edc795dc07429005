"""analyse: the live pipeline on a recorded series."""

import h5py
import hdf5plugin
import numpy as np
import pytest
import scipy.sparse
import sparse

from xpcs_live_denoise import (
    FrameShapeError,
    InvalidInputError,
    RoiMap,
    Settings,
    TwoTimeAccumulator,
    UnreadableFramesError,
    analyse,
    fit_power_law,
    save_rois,
    simulate_speckle,
)

ROIS = RoiMap.from_labels(np.repeat([[1, 2]], 200, axis=1).reshape(20, 20))
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 60, relaxation_rate=0.08, mean_counts=2.0, seed=4))
)


@pytest.fixture
def settings(tmp_path):
    save_rois(ROIS, tmp_path / "rois.npz")
    return Settings(detector="d", frame_time_s=0.02, rois=tmp_path / "rois.npz")


def test_an_array_and_an_hdf5_dataset_give_the_same_result(settings, tmp_path):
    with h5py.File(tmp_path / "series.h5", "w") as file:
        file["frames"] = FRAMES
        stored = analyse(file["frames"], settings.model_copy(update={"block_bytes": 9 * 800}))
    result = analyse(FRAMES, settings)
    np.testing.assert_allclose(stored.c2, result.c2, rtol=1e-5)
    np.testing.assert_allclose(stored.denoised.c2, result.denoised.c2, rtol=1e-4)
    assert result.status.message == ""


def test_the_shipped_ensemble_takes_noise_away_and_keeps_the_dynamics(settings):
    result = analyse(FRAMES, settings)
    lags = np.arange(1, 30)
    truth = np.exp(-2 * 0.08 * lags)
    contrast = np.asarray(result.status.contrast)[:, np.newaxis]
    baseline = np.asarray(result.status.baseline)[:, np.newaxis]
    denoised = (result.g2.g2_denoised[:, lags - 1] - baseline) / contrast
    assert np.abs(denoised.mean(0) - truth).mean() < 0.15
    pixels = np.isfinite(result.denoised.spread)
    away = np.abs(np.subtract.outer(np.arange(60), np.arange(60))) >= 20
    assert result.denoised.c2[pixels & away].std() < 0.5 * result.c2[pixels & away].std()


def test_diffusion_on_three_rings_has_an_exponent_near_two_within_its_error():
    q = np.array([0.004, 0.006, 0.009])
    rings = RoiMap.from_labels(
        np.repeat([[1, 2, 3]], 300, axis=1).reshape(30, 30), q_inv_angstrom=q
    )
    made = simulate_speckle(
        rings, 150, relaxation_rate=1500 * q**2, contrast=0.5, mean_counts=2.0, seed=6
    )
    settings = Settings(detector="d", frame_time_s=0.02, denoise=False)
    gamma = analyse(np.concatenate(list(made)), settings, rois=rings).gamma
    law = fit_power_law(gamma)
    assert law.n_roi == 3
    assert abs(law.exponent - 2) < 2.5 * law.exponent_error < 1
    assert fit_power_law(gamma.to_pandas()) == law


def test_the_rois_can_be_passed_and_the_mask_applies_to_them(settings, tmp_path):
    mask = np.ones((20, 20), bool)
    mask[:5] = False
    np.save(tmp_path / "mask.npy", mask)
    masked = settings.model_copy(update={"mask": tmp_path / "mask.npy", "rois": None})
    result = analyse(FRAMES, masked, rois=ROIS)
    expected = analyse(FRAMES, settings, rois=ROIS.with_mask(mask))
    np.testing.assert_array_equal(result.c2, expected.c2)


def test_q_comes_from_the_geometry_where_the_rois_have_none(settings):
    geometry = {
        "beam_center": (10.0, -50.0),
        "wavelength_angstrom": 1.28,
        "detector_distance_m": 5.0,
        "pixel_size_m": 75e-6,
    }
    fields = {**settings.model_dump(), "geometry": geometry}
    q = analyse(FRAMES, Settings(**fields)).gamma.q_inv_angstrom
    assert (q > 0).all()


def test_without_rois_the_error_says_what_to_set():
    with pytest.raises(InvalidInputError, match=r"No ROIs for detector 'd': expected .*rois"):
        analyse(FRAMES, Settings(detector="d"))


def test_frames_that_do_not_fit_the_rois_are_refused(settings):
    with pytest.raises(FrameShapeError, match=r"got shape \(k, 20, 19\)"):
        analyse(FRAMES[:, :, 1:], settings)


def test_a_list_of_frames_is_a_series(settings):
    np.testing.assert_array_equal(
        analyse(list(FRAMES[:9]), settings).c2, analyse(FRAMES[:9], settings).c2
    )


@pytest.mark.parametrize("n_thresholds", [1, 2])
@pytest.mark.parametrize("kind", ["array", "blocks", "dataset"])
def test_of_several_thresholds_the_setting_chooses_and_an_axis_of_one_is_no_matter(
    settings, tmp_path, n_thresholds, kind
):
    frames = np.stack([FRAMES[:9], FRAMES[9:18]][:n_thresholds], axis=1)
    chosen = settings.model_copy(update={"threshold": n_thresholds if n_thresholds > 1 else None})
    expected = analyse(frames[:, -1], settings).c2
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        given = {
            "array": frames,
            "blocks": iter([frames[:4], frames[4:]]),
            "dataset": file.create_dataset("frames", data=frames),
        }[kind]
        np.testing.assert_array_equal(analyse(given, chosen).c2, expected)


def test_of_several_thresholds_nobody_chose_is_an_error_that_names_the_setting(settings):
    with pytest.raises(UnreadableFramesError, match="expected the setting `threshold`, 1 to 3"):
        analyse(FRAMES[:9].reshape(3, 3, 20, 20), settings)


@pytest.mark.parametrize("frames", [FRAMES[0], FRAMES[:0], 5])
def test_what_is_no_series_is_refused(settings, frames):
    with pytest.raises(FrameShapeError, match=r"expected \(n, rows, cols\) with n > 0"):
        analyse(frames, settings)


def test_a_flat_field_is_divided_out_and_its_dead_pixels_are_left_out(settings, tmp_path):
    flat = np.random.default_rng(1).uniform(0.5, 1.5, (20, 20))
    flat[0, :3] = 0
    np.save(tmp_path / "flat.npy", flat)
    uneven = np.random.default_rng(2).poisson(5 * FRAMES * flat)
    with_flat = settings.model_copy(update={"flat_field": tmp_path / "flat.npy", "denoise": False})
    result = analyse(uneven, with_flat)
    assert "3 pixels of the ROIs are left out" in result.status.message
    plain = analyse(5 * FRAMES, with_flat.model_copy(update={"flat_field": None}))
    np.testing.assert_allclose(np.median(result.g2.g2), np.median(plain.g2.g2), atol=0.02)


@pytest.mark.parametrize("content", [np.ones((3, 3)), np.zeros((20, 20)), None])
def test_a_flat_field_that_cannot_be_used_is_said_and_the_series_analysed(
    settings, tmp_path, content
):
    if content is not None:
        np.save(tmp_path / "flat.npy", content)
    fields = {"flat_field": tmp_path / "flat.npy", "denoise": False}
    result = analyse(FRAMES, settings.model_copy(update=fields))
    assert "No flat field: " in result.status.message
    np.testing.assert_array_equal(
        result.c2, analyse(FRAMES, settings.model_copy(update={"denoise": False})).c2
    )


def test_without_a_frame_time_rows_are_per_frame_and_say_so(settings):
    plain = settings.model_copy(update={"denoise": False})
    known, unknown = (
        analyse(FRAMES, plain.model_copy(update={"frame_time_s": time})) for time in (0.02, None)
    )
    assert all("per_frame" in caution.split() for caution in unknown.gamma.caution)
    assert not any("per_frame" in caution for caution in known.gamma.caution)
    for name, factor in (("relaxation_rate", 0.02), ("relaxation_rate_error", 0.02), ("age_s", 50)):
        per_frame = factor * getattr(known.gamma, name)
        np.testing.assert_allclose(getattr(unknown.gamma, name), per_frame, rtol=1e-9)
    np.testing.assert_allclose(unknown.g2.delay_s, np.arange(1, len(unknown.g2.delay_s) + 1))
    np.testing.assert_allclose(known.g2.delay_s, 0.02 * unknown.g2.delay_s)


def test_the_picture_is_the_mean_of_all_frames(settings):
    result = analyse(FRAMES, settings.model_copy(update={"denoise": False, "block_bytes": 5000}))
    assert (result.picture.n_frames, result.picture.binning) == (60, 1)
    np.testing.assert_allclose(result.picture.mean, FRAMES.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(result.picture.labels, ROIS.label_array)


@pytest.mark.parametrize("master", ["s_1_master.h5", "s_1_data_000001.h5"])
def test_pixels_that_the_eiger_file_of_a_dataset_marks_are_left_out(settings, tmp_path, master):
    bad = np.zeros((20, 20), np.uint32)
    bad[3, 5:8] = 1
    with h5py.File(tmp_path / "s_1_data_000001.h5", "w") as file:
        file["entry/data/data"] = FRAMES
    with h5py.File(tmp_path / master, "a") as file:
        file["entry/instrument/detector/pixel_mask"] = bad
    plain = settings.model_copy(update={"denoise": False})
    with h5py.File(tmp_path / "s_1_data_000001.h5") as file:
        result = analyse(file["entry/data/data"], plain)
    assert "pixel_mask of the detector's file: 3 pixels of the ROIs are left out." in (
        result.status.message
    )
    np.testing.assert_array_equal(np.isnan(result.picture.mean), bad != 0)
    expected = analyse(FRAMES, plain, rois=ROIS.with_mask(bad == 0))
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-6)


# --- series of any length -----------------------------------------------------------------------

LONG = {"map_frames": 50, "denoise": False, "block_bytes": 4000}


def generated(sizes):
    """Blocks of the series, one after the other; sizes below 0 are blocks of another shape."""
    at = 0
    for size in sizes:
        if size < 0:
            yield np.zeros((-size, 20, 7))
        else:
            yield FRAMES[at : at + size]
        at += abs(size)


@pytest.mark.parametrize(
    "frames",
    [
        generated([7, 1, 40, 12]),
        [FRAMES[:7], FRAMES[7:]],
        (frame for frame in FRAMES),
        [frame.tolist() for frame in FRAMES],
    ],
    ids=["blocks", "a list of blocks", "single frames", "nested lists"],
)
def test_what_brings_frames_one_after_the_other_is_a_series(settings, frames):
    long = settings.model_copy(update=LONG)
    result, expected = analyse(frames, long), analyse(FRAMES, long)
    np.testing.assert_allclose(result.map_values, expected.map_values, rtol=1e-5)
    assert (result.frames_per_bin, result.band.stop) == (2, 60)
    assert result.picture.n_frames == 60
    np.testing.assert_allclose(
        result.gamma.relaxation_rate, expected.gamma.relaxation_rate, rtol=1e-3
    )


def test_a_block_of_another_shape_is_a_gap_and_named(settings):
    result = analyse(generated([20, -5, 30, -1]), settings.model_copy(update=LONG))
    assert result.band.stop == 56
    assert result.status.skipped == ((20, 25), (55, 56))
    assert "Block 2 is a gap of 5: Frames: got shape (k, 20, 7)" in result.status.message
    assert "Block 4 is a gap of 1: " in result.status.message


def test_many_blocks_of_another_shape_do_not_fill_the_message(settings):
    result = analyse(generated([20, *[-1] * 12]), settings.model_copy(update=LONG))
    assert "Block 6 is a gap of 1: " in result.status.message
    assert "Block 7 is" not in result.status.message
    assert "And 7 more blocks like that." in result.status.message


@pytest.mark.parametrize("frames", [generated([-5, 20]), iter(()), generated([0]), {}])
def test_without_a_frame_that_fits_there_is_no_series(settings, frames):
    with pytest.raises(
        FrameShapeError, match=r"expected .*\(.*rows, cols\)|got shape \(k, 20, 7\)"
    ):
        analyse(frames, settings.model_copy(update=LONG))


class Halver:
    def denoise(self, windows):
        return (windows + 1) / 2, np.full_like(windows, 0.2)


@pytest.mark.parametrize("map_frames", [50, 512])
def test_the_band_of_all_frames_is_in_a_file(settings, tmp_path, map_frames):
    frames = np.concatenate([FRAMES, FRAMES[::-1]] * 2)
    chosen = settings.model_copy(update={"map_frames": map_frames, "outliers": "off"})
    path = tmp_path / "band.h5"
    result = analyse(iter(frames), chosen, ensemble=Halver(), band_file=path)
    assert [one.name for one in tmp_path.glob("band*")] == ["band.h5"]
    with h5py.File(path) as file:
        c2, denoised, spread = (file[name][:] for name in ("c2", "denoised", "spread"))
        assert dict(file.attrs)["frame_time_s"] == 0.02
        np.testing.assert_array_equal(file.attrs["contrast"], result.status.contrast)
    accumulator = TwoTimeAccumulator(ROIS)
    accumulator.append(frames)
    assert result.status.n_skipped == 0
    np.testing.assert_allclose(c2, accumulator.band, rtol=1e-5)
    assert denoised.shape == spread.shape == c2.shape
    inside = np.isfinite(spread)
    assert inside[:, 49:].mean() > 0.9
    np.testing.assert_array_equal(denoised[~inside], c2[~inside])
    last = result.band
    assert (last.start > 0) == (map_frames == 50)
    np.testing.assert_array_equal(denoised[:, last.start :], last.denoised)


def test_a_band_file_that_cannot_be_made_is_said_before_anything_is_computed(settings, tmp_path):
    with pytest.raises(InvalidInputError, match=r"band_file .*nowhere.*cannot be written"):
        analyse(FRAMES, settings, band_file=tmp_path / "nowhere" / "band.h5")


def test_a_full_disk_costs_the_band_file_only(settings, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.Dataset, "__setitem__", full)
    result = analyse(FRAMES, settings, ensemble=Halver(), band_file=tmp_path / "band.h5")
    assert "could not be written (No space left on device)" in result.status.message
    assert len(result.gamma)
    assert list(tmp_path.glob("*band*")) == []


def test_a_series_that_breaks_off_leaves_no_half_of_a_file(settings, tmp_path):
    def broken():
        yield FRAMES[:55]
        raise RuntimeError("the beam is gone")

    with pytest.raises(RuntimeError, match="the beam is gone"):
        analyse(broken(), settings.model_copy(update=LONG), band_file=tmp_path / "band.h5")
    assert list(tmp_path.glob("*band*")) == []


@pytest.mark.parametrize("kind", ["COO", "CSR", "blocks of COO"])
def test_a_sparse_series_gives_the_result_of_its_dense_frames(kind):
    frames = np.random.default_rng(4).poisson(0.3, (60, *ROIS.shape)).astype(np.uint16)
    given = {
        "COO": sparse.COO(frames),
        "CSR": scipy.sparse.csr_array(frames.reshape(60, -1)),
        "blocks of COO": (sparse.COO(frames[start : start + 7]) for start in range(0, 60, 7)),
    }[kind]
    settings = Settings(detector="cam", denoise=False)
    result, expected = (analyse(one, settings, rois=ROIS) for one in (given, frames))
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-6)
    np.testing.assert_allclose(result.picture.mean, expected.picture.mean)


def test_a_sparse_series_is_divided_by_the_profile_that_its_frames_tell():
    intensity = np.broadcast_to(np.linspace(0.2, 3.0, ROIS.shape[1]), ROIS.shape)
    frames = np.random.default_rng(4).poisson(intensity, (120, *ROIS.shape)).astype(np.uint16)
    settings = Settings(detector="cam", denoise=False)
    result, expected, uneven = (
        analyse(series, settings.model_copy(update={"profile": profile}), rois=ROIS)
        for series, profile in (
            (sparse.COO(frames), "auto"),
            (frames, "auto"),
            (sparse.COO(frames), "off"),
        )
    )
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-5)
    away = ~np.eye(120, dtype=bool)
    assert (uneven.c2[:, away].mean(axis=1) > 1.03).all()
    np.testing.assert_allclose(result.c2[:, away].mean(axis=1), 1, atol=0.01)


def test_a_damaged_chunk_of_a_dataset_is_a_gap(tmp_path):
    frames = np.random.default_rng(4).poisson(2.0, (60, *ROIS.shape)).astype(np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = hdf5plugin.Bitshuffle(cname="lz4")
        data = file.create_dataset("x", data=frames, chunks=(1, *ROIS.shape), **options)
        data.id.write_direct_chunk((12, 0, 0), b"no chunk of bitshuffle" * 20)
    with h5py.File(tmp_path / "a.h5") as file:
        result = analyse(file["x"], Settings(detector="cam", denoise=False), rois=ROIS)
    assert result.status.skipped == ((12, 13),)
    assert "a.h5, dataset '/x': frame 12: the chunk cannot be decompressed" in result.status.message
