"""The detector's image: the mean of all frames, whole at the end, small and cheap before."""

import threading
import time

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap
from xpcs_live_denoise.analysis import detector_image
from xpcs_live_denoise.analysis.detector_image import DetectorImage
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


def test_pixels_that_the_file_marks_are_unknown_and_belong_to_no_roi():
    image, bad = new_image(ROIS), np.zeros((30, 40), bool)
    bad[3, 6], bad[29, 39] = True, True
    assert image.leave_out(bad) == (
        "pixel_mask of the detector's file: 1 pixels of the ROIs are left out.",
    )
    picture = seen(image, np.full((2, 30, 40), 7, np.uint16))
    np.testing.assert_array_equal(np.isnan(picture.mean), bad)
    np.testing.assert_array_equal(picture.labels, np.where(bad, 0, LABELS))
    assert image.rois.n_pixels.sum() == ROIS.n_pixels.sum() - 1


def test_a_large_detector_is_binned_live_and_whole_at_the_end():
    shape = (1100, 1030)
    rois = RoiMap.rings(shape, (550, 515), [(100, 200), (300, 400)])
    frame = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.uint32)
    image = new_image(rois)
    image.add(np.broadcast_to(frame, (6, *shape)))
    live, final = image.updated(), image.image()
    assert (live.binning, live.mean.shape) == (3, (367, 344))
    assert live.labels.shape == live.mean.shape
    whole = frame[:1098, :1029].reshape(366, 3, 343, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(live.mean[:366, :343], whole)
    assert set(np.unique(live.labels)) == {0, 1, 2}
    assert live.labels[550 // 3, (515 + 150) // 3] == 1
    assert (final.binning, final.n_frames) == (1, 6)
    np.testing.assert_array_equal(final.mean, frame)
    np.testing.assert_array_equal(final.labels, rois.label_array)


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


def test_frames_on_the_runengines_thread_are_copied_and_never_shared():
    frames, image = np.ones((3, 30, 40), np.uint16), new_image(ROIS)
    image.offer(frames)
    image.offer(frames)
    frames[:] = 9
    image.add_offered()
    shown = image.image()
    assert shown.n_frames == 6
    assert (shown.mean == 1).all()


def test_frames_of_another_shape_and_empty_blocks_are_left_alone():
    image = new_image(ROIS)
    image.offer(np.ones((2, 5, 5), np.uint16))
    image.offer(np.ones((0, 30, 40), np.uint16))
    image.add(np.ones((0, 30, 40), np.uint16))
    image.add_offered()
    assert image.image() is None
    assert image.updated() is None


def test_an_image_is_new_where_it_changed_and_the_last_one_is_old_enough():
    clock = Clock()
    image = DetectorImage(ROIS, clock=clock)
    image.add(np.ones((2, 30, 40), np.uint16))
    assert image.updated().n_frames == 2
    clock.now_s = 2.0
    assert image.updated() is None, "nothing was seen since"
    image.add(np.ones((1, 30, 40), np.uint16))
    assert image.updated().n_frames == 3
    image.add(np.ones((1, 30, 40), np.uint16))
    assert image.updated() is None, "too soon"
    clock.now_s = 4.0
    assert image.updated().n_frames == 4


def offered(image, n_events, frames):
    for _ in range(n_events):
        image.offer(frames)
    image.add_offered()
    return image.image().n_frames


def test_copies_take_no_more_of_the_runengines_time_than_they_may():
    rois = RoiMap.from_labels(np.ones((1000, 1000), int))
    clock, frames = Clock(step_s=0.001), np.ones((1, 1000, 1000), np.uint16)
    image = DetectorImage(rois, clock=clock)
    at_once = offered(image, 40, frames)
    assert 8 <= at_once <= 12, "0.01 s at once"
    clock.now_s += 0.5
    assert 4 <= offered(image, 40, frames) - at_once <= 7, "then 1 % of the time"


def test_a_copy_that_had_to_wait_for_another_thread_does_not_keep_others_from_being_made():
    clock, frames = Clock(step_s=0.1), np.ones((1, 30, 40), np.uint16)
    image = DetectorImage(ROIS, clock=clock)
    assert offered(image, 1, frames) == 1
    clock.step_s = 0.0
    for n in range(2, 20):
        clock.now_s += 0.02  # to the next event
        assert offered(image, 1, frames) == n


def test_a_frame_too_large_for_the_time_at_once_is_not_the_last_one(monkeypatch):
    monkeypatch.setattr(detector_image, "MOST_AT_ONCE_S", 1e-7)
    clock, frames = Clock(step_s=1e-6), np.ones((1, 30, 40), np.uint16)
    image = DetectorImage(ROIS, clock=clock)
    assert offered(image, 5, frames) == 1
    clock.now_s += 1.0
    assert offered(image, 5, frames) == 2


@pytest.mark.parametrize(("room", "n_taken"), [(5, 5), (0.5, 1)])
def test_frames_that_wait_for_a_busy_worker_are_bounded_but_one_is_always_taken(
    monkeypatch, room, n_taken
):
    frames, image = np.ones((1, 30, 40), np.uint16), new_image(ROIS)
    monkeypatch.setattr(detector_image, "MOST_BYTES", int(room * frames.nbytes))
    assert offered(image, 20, frames) == n_taken
    assert offered(image, 20, frames) == 2 * n_taken, "the worker has taken what waited"


def test_two_threads_may_offer_and_read():
    image = DetectorImage(ROIS, clock=Clock(step_s=1.0))
    stop = threading.Event()

    def read():
        while not stop.is_set():
            image.add_offered()
            image.image()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(300):
        image.offer(np.full((1, 30, 40), 2, np.uint16))
        time.sleep(1e-4)
    stop.set()
    reader.join()
    image.add_offered()
    shown = image.image()
    assert (shown.mean == 2).all()
    assert 1 <= shown.n_frames <= 300


def test_a_pixel_mask_that_leaves_a_roi_without_pixels_is_said_and_not_used():
    rois = RoiMap.from_labels([[1, 1, 0], [2, 0, 0]])
    image = DetectorImage(rois)
    (sentence,) = image.leave_out(np.array([[False, False, False], [True, False, False]]))
    assert "labels [2] keep no pixel" in sentence
    assert sentence.endswith("It is not used.")
    assert image.rois is rois
