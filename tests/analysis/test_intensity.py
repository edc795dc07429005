"""I(t) and I(q) of a series: of every frame, wherever it came from, and what is not counted."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse, analyse_c2
from xpcs_live_denoise.analysis.detector_image import DetectorImage
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import Intensity

SHAPE = (30, 30)
LABELS = np.repeat([[3], [7]], 450, axis=1).reshape(SHAPE)
ROIS = RoiMap.from_labels(LABELS)


def counts(n, seed=0, dtype=np.uint16):
    rng = np.random.default_rng(seed)
    return rng.poisson(np.where(LABELS == 3, 4.0, 0.5), (n, *SHAPE)).astype(dtype)


def settings(**fields):
    return Settings(**{"detector": "d", "denoise": False, **fields})


def roi_means(frames):
    return np.stack([frames[:, label == LABELS].mean(axis=1) for label in (3, 7)], axis=1)


def pushed(pieces, **fields):
    """The final I(t) of pieces, frames or numbers of missing ones, and the joined live parts."""
    analysis, live, since = Analysis(settings(**fields), ROIS, frame_time_s=1.0), [], 0
    for piece in pieces:
        if isinstance(piece, int):
            analysis.push_gap(piece)
        else:
            analysis.push(piece)
        if analysis.n_frames < since + 40:
            continue
        published = analysis.publish(since)
        since = published.n_frames
        if published.intensity is not None:
            live.append(published.intensity)
    return analysis.finish().intensity, Intensity.concatenate(live)


# The last one is a long series.
@pytest.mark.parametrize(("step", "map_frames"), [(1, 1024), (17, 1024), (130, 1024), (17, 100)])
def test_every_frame_has_the_mean_of_each_roi_and_their_total(step, map_frames):
    frames = counts(130)
    blocks = [frames[start : start + step] for start in range(0, 130, step)]
    final, live = pushed(blocks, map_frames=map_frames)
    assert (final.start, final.stop) == (0, 130)
    np.testing.assert_allclose(final.roi_mean, roi_means(frames), rtol=1e-6)
    np.testing.assert_allclose(final.total, frames.sum(axis=(1, 2)), rtol=1e-6)
    n = live.stop
    assert n >= 80
    np.testing.assert_array_equal(live.roi_mean, final.roi_mean[:n])
    np.testing.assert_array_equal(live.total, final.total[:n])


def test_missing_frames_are_no_numbers_and_what_is_left_out_is_shown():
    frames = counts(200)
    frames[120:124] = 0  # the beam was gone
    final, live = pushed([frames[:20], 3, frames[20:130], 5, frames[130:]])
    at = [*range(20), *range(23, 133), *range(138, 208)]
    assert np.flatnonzero(np.isnan(final.total)).tolist() == [20, 21, 22, *range(133, 138)]
    np.testing.assert_allclose(final.roi_mean[at], roi_means(frames), rtol=1e-6)
    assert (final.total[123:127] == 0).all()
    np.testing.assert_array_equal(live.roi_mean, final.roi_mean[: live.stop])


def test_marked_bad_and_hot_pixels_do_not_count():
    frames = counts(120, dtype=np.uint32)
    expected = roi_means(frames)
    frames[:, 0, 0] = 2**32 - 1  # never measures
    frames[60:, 1, 1] = 2**32 - 1  # no more
    frames[:, 20, 20] = 60_000  # always bright
    final, _ = pushed([frames])
    np.testing.assert_allclose(final.roi_mean, expected, rtol=0.02)


def test_a_roi_that_a_failed_module_covers_is_unknown_and_the_other_goes_on():
    frames = counts(150).astype(np.int32)
    frames[80:, LABELS == 7] = -1
    final, _ = pushed([frames])
    np.testing.assert_allclose(final.roi_mean[90:, 0], roi_means(frames)[90:, 0], rtol=1e-6)
    assert np.isnan(final.roi_mean[90:, 1]).all()
    assert np.isnan(final.roi_mean[80:84]).all()  # frames that had too many bad pixels


def test_what_comes_offline_is_the_same_of_any_source(tmp_path):
    sparse = pytest.importorskip("sparse")
    frames = counts(55)
    wanted = roi_means(frames)
    for given in (frames, iter([frames[:31], frames[31:]]), sparse.COO.from_numpy(frames)):
        result = analyse(given, settings(), rois=ROIS)
        np.testing.assert_allclose(result.intensity.roi_mean, wanted, rtol=1e-6)
        assert result.saxs is None  # nobody knows where the beam is
    assert analyse_c2(result.c2).intensity is None


CENTER = (14.0, 11.0)
GEOMETRY = {
    "beam_center": CENTER,
    "wavelength_angstrom": 1.24,
    "detector_distance_m": 4.0,
    "pixel_size_m": 75e-6,
}


def falling(n=4):
    rows, cols = np.indices(SHAPE)
    ring = np.rint(np.hypot(rows - CENTER[0], cols - CENTER[1]))
    return np.broadcast_to(1000 - 10 * ring, (n, *SHAPE)).astype(np.uint16)


def test_i_of_q_is_the_mean_image_over_rings_without_what_the_mask_leaves_out(tmp_path):
    frames = falling().copy()
    keep = np.ones(SHAPE, bool)
    keep[10:12] = False  # the holder of the beam stop
    frames[:, ~keep] = 3
    np.save(tmp_path / "mask.npy", keep)
    result = analyse(frames, settings(geometry=GEOMETRY, mask=tmp_path / "mask.npy"), rois=ROIS)
    np.testing.assert_allclose(result.saxs.mean, 1000 - 10 * result.saxs.radius_px, rtol=1e-6)
    assert result.saxs.n_pixels.sum() == keep.sum()
    assert np.diff(result.saxs.q_inv_angstrom).min() > 0
    np.testing.assert_allclose(result.picture.mean, frames[0])  # the picture shows all


@pytest.mark.parametrize(("rotate", "flip"), [(0, True), (90, False), (270, True)])
def test_the_orientation_turns_picture_and_mask_and_not_the_rings(rotate, flip):
    turn = OrientationSettings(rotate=rotate, flip_rows=flip)
    keep = np.ones(SHAPE, bool)
    keep[:, 4] = False
    image = DetectorImage(ROIS, turn, keep=keep)
    image.locate(Geometry(**GEOMETRY))
    image.add(np.where(keep, falling(), 0))
    saxs = image.image().saxs
    np.testing.assert_allclose(saxs.mean, 1000 - 10 * saxs.radius_px, rtol=1e-6)


def test_a_beam_center_of_the_rois_alone_gives_i_of_the_radius():
    rois = RoiMap.rings(SHAPE, CENTER, [(3, 6), (8, 11)])
    result = analyse(falling(60), settings(), rois=rois)
    assert np.isnan(result.saxs.q_inv_angstrom).all()
    np.testing.assert_allclose(result.saxs.mean, 1000 - 10 * result.saxs.radius_px, rtol=1e-6)
