"""The detector's image: a mean that bad pixels do not ruin, small, turned, and cheap."""

import threading
import time

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap
from xpcs_live_denoise.analysis.detector_image import MOST_PIXELS, DetectorImage
from xpcs_live_denoise.config import OrientationSettings

LABELS = np.zeros((30, 40), int)
LABELS[2:14, 5:] = 1
LABELS[15:28, :20] = 2
ROIS = RoiMap.from_labels(LABELS)


class Clock:
    """Seconds that pass when the test says so, or with every look at the clock."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def seen(image, frames):
    """Add all frames, one by one: they cost nothing on a clock that stands still."""
    for frame in frames:
        image.add(frame[np.newaxis])
    return image.image()


def new_image(*args):
    return DetectorImage(*args, clock=Clock())


def test_the_picture_is_the_mean_of_the_frames_with_the_labels_on_it():
    frames = np.random.default_rng(0).poisson(2.0, (6, 30, 40)).astype(np.uint16)
    picture = seen(new_image(ROIS), frames)
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
    picture = seen(new_image(ROIS), frames)
    assert picture.mean[7, 8] == 3
    assert np.isnan(picture.mean[20, 21])
    assert np.isnan(picture.mean).sum() == 1


def test_a_large_detector_is_binned_and_every_row_has_its_turn():
    shape = (1100, 1030)
    rois = RoiMap.rings(shape, (550, 515), [(100, 200), (300, 400)])
    frame = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint32)
    small = new_image(rois)
    picture = seen(small, np.broadcast_to(frame, (6, *shape)))
    assert picture.binning == 3
    assert max(picture.mean.shape) <= MOST_PIXELS
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
    picture = seen(new_image(ROIS, how), frame[np.newaxis])

    def turned(image):
        image = image[::-1] if flip_rows else image
        image = image[:, ::-1] if flip_cols else image
        return np.rot90(image, rotate // 90)

    np.testing.assert_array_equal(picture.mean, turned(frame))
    np.testing.assert_array_equal(picture.labels, turned(LABELS))


def test_frames_on_the_runengines_thread_are_copied_now_and_then_and_never_shared():
    frames, image = np.ones((3, 30, 40), np.uint16), new_image(ROIS)
    image.offer(frames)
    image.offer(frames)  # too soon
    frames[:] = 9
    shown = image.image()
    assert shown.n_frames == 1
    assert (shown.mean == 1).all()


def test_offered_frames_of_a_large_detector_fill_all_rows():
    shape, clock = (1100, 1030), Clock(step_s=1.0)
    rois = RoiMap.rings(shape, (550, 515), [(100, 200)])
    image = DetectorImage(rois, clock=clock)
    rows = np.broadcast_to(np.arange(shape[0])[:, np.newaxis], shape).astype(np.uint32)
    for _ in range(3):
        image.offer(rows[np.newaxis])
    np.testing.assert_allclose(image.image().mean[:366, 0], np.arange(366) * 3 + 1)


def test_frames_of_another_shape_and_empty_blocks_are_left_alone():
    image = new_image(ROIS)
    image.offer(np.ones((2, 5, 5), np.uint16))
    image.offer(np.ones((0, 30, 40), np.uint16))
    image.add(np.ones((0, 30, 40), np.uint16))
    assert image.image() is None
    assert image.updated() is None


def test_an_image_is_new_where_it_changed_and_the_last_one_is_old_enough():
    clock = Clock()
    image = DetectorImage(ROIS, clock=clock)
    image.add(np.ones((2, 30, 40), np.uint16))
    assert image.updated().n_frames == 1
    clock.now_s = 1.0
    assert image.updated() is None, "nothing was seen since"
    image.add(np.ones((1, 30, 40), np.uint16))
    assert image.updated().n_frames == 2
    image.add(np.ones((1, 30, 40), np.uint16))
    assert image.updated() is None, "too soon"
    clock.now_s = 2.0
    assert image.updated().n_frames == 3


def test_frames_take_no_more_of_the_time_than_they_may():
    clock = Clock(step_s=0.012)  # what a block costs
    image = DetectorImage(ROIS, clock=clock)
    image.add(np.ones((100, 30, 40), np.uint16))
    assert image.image().n_frames == 1, "the cost is not known yet"
    image.add(np.ones((100, 30, 40), np.uint16))
    assert image.image().n_frames == 4, "what is left of 0.05 s"


def test_a_slow_frame_is_not_the_last_one():
    clock = Clock(step_s=0.06)
    image = DetectorImage(ROIS, clock=clock)
    for _ in range(5):
        image.add(np.ones((100, 30, 40), np.uint16))
    assert image.image().n_frames == 1, "it took more than 2 % of the time"
    clock.now_s += 100.0
    image.add(np.ones((100, 30, 40), np.uint16))
    assert image.image().n_frames == 2


def test_two_threads_may_offer_and_read():
    image = DetectorImage(ROIS, clock=Clock(step_s=1.0))
    stop = threading.Event()

    def read():
        while not stop.is_set():
            image.image()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        image.offer(np.full((1, 30, 40), 2, np.uint16))
        time.sleep(1e-4)
    stop.set()
    reader.join()
    shown = image.image()
    assert (shown.mean == 2).all()
    assert shown.n_frames <= 300
