"""The detector's picture: a mean that bad pixels do not ruin, small, turned, and cheap."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap
from xpcs_live_denoise.analysis.detector_image import MOST_EDGE, DetectorPicture
from xpcs_live_denoise.config import OrientationSettings

LABELS = np.zeros((30, 40), int)
LABELS[2:14, 5:] = 1
LABELS[15:28, :20] = 2
ROIS = RoiMap.from_labels(LABELS)


def seen(picture, frames):
    """Look at all frames, whatever it costs."""
    for frame in frames:
        picture._budget_s, picture._cost_s = 1.0, 0.0
        picture.see(frame[np.newaxis])
    return picture.picture()


def test_the_picture_is_the_mean_of_the_frames_with_the_labels_on_it():
    frames = np.random.default_rng(0).poisson(2.0, (6, 30, 40)).astype(np.uint16)
    picture = seen(DetectorPicture(ROIS), frames)
    assert (picture.binning, picture.n_frames) == (1, 6)
    np.testing.assert_allclose(picture.mean, frames.mean(axis=0))
    np.testing.assert_array_equal(picture.labels, LABELS)


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [("uint16", 65535), ("uint32", 2**32 - 1), ("int32", -1), ("int32", 2**31 - 1),
     ("float32", np.nan), ("float64", -5.0)],
)  # fmt: skip
def test_a_value_that_is_no_count_is_left_out_of_the_mean(dtype, bad):
    frames = np.full((4, 30, 40), 3, dtype)
    frames[:2, 7, 8] = bad
    frames[:, 20, 21] = bad
    picture = seen(DetectorPicture(ROIS), frames)
    assert picture.mean[7, 8] == 3
    assert np.isnan(picture.mean[20, 21])
    assert np.isnan(picture.mean).sum() == 1


def test_a_large_detector_is_binned_and_every_row_has_its_turn():
    shape = (1100, 1030)
    rois = RoiMap.rings(shape, (550, 515), [(100, 200), (300, 400)])
    frame = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint32)
    small = DetectorPicture(rois)
    picture = seen(small, np.broadcast_to(frame, (6, *shape)))
    assert picture.binning == 3
    assert max(picture.mean.shape) <= MOST_EDGE
    assert picture.labels.shape == picture.mean.shape == (367, 344)
    whole = frame[:1098, :1029].reshape(366, 3, 343, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(picture.mean[:366, :343], whole)
    assert set(np.unique(picture.labels)) == {0, 1, 2}
    assert picture.labels[550 // 3, (515 + 150) // 3] == 1


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_cols", [False, True])
def test_picture_and_labels_are_flipped_first_and_rotated_then(rotate, flip_rows, flip_cols):
    frame = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    how = OrientationSettings(flip_rows=flip_rows, flip_cols=flip_cols, rotate=rotate)
    picture = seen(DetectorPicture(ROIS, how), frame[np.newaxis])

    def turned(image):
        image = image[::-1] if flip_rows else image
        image = image[:, ::-1] if flip_cols else image
        return np.rot90(image, rotate // 90)

    np.testing.assert_array_equal(picture.mean, turned(frame))
    np.testing.assert_array_equal(picture.labels, turned(LABELS))


def test_frames_on_the_runengines_thread_are_copied_now_and_then_and_never_shared():
    frames = np.ones((3, 30, 40), np.uint16)
    picture = DetectorPicture(ROIS)
    picture.offer(frames)
    picture.offer(frames)  # too soon
    frames[:] = 9
    shown = picture.picture()
    assert shown.n_frames == 1
    assert (shown.mean == 1).all()


def test_frames_of_another_shape_and_empty_blocks_are_left_alone():
    picture = DetectorPicture(ROIS)
    picture.offer(np.ones((2, 5, 5), np.uint16))
    picture.offer(np.ones((0, 30, 40), np.uint16))
    picture.see(np.ones((0, 30, 40), np.uint16))
    assert picture.picture() is None
    assert picture.news() is None


def test_a_picture_that_has_not_changed_is_no_news():
    picture = DetectorPicture(ROIS)
    picture.see(np.ones((2, 30, 40), np.uint16))
    assert picture.news().n_frames == 1
    assert picture.news() is None
    picture._next_news = float("-inf")
    assert picture.news() is None, "nothing was seen since"
    seen(picture, np.ones((1, 30, 40), np.uint16))
    assert picture.picture().n_frames == 2


def test_looking_takes_no_more_of_the_time_than_it_may():
    picture = DetectorPicture(ROIS)
    picture.see(np.ones((1, 30, 40), np.uint16))
    picture._budget_s, picture._cost_s = 0.0, 10.0
    picture.see(np.ones((5, 30, 40), np.uint16))
    assert picture.picture().n_frames == 1
    picture._budget_s, picture._cost_s = 1.0, 0.012  # the budget is capped: 4 looks
    picture.see(np.ones((100, 30, 40), np.uint16))
    assert picture.picture().n_frames == 5
