"""FrameScreen: what reaches C2, what is left out, and what is told."""

from typing import Any

import numpy as np
import pytest

from xpcs_live_denoise import FrameShapeError, RoiMap, simulate_speckle
from xpcs_live_denoise.analysis.screening import FrameScreen
from xpcs_live_denoise.numerics.bad_pixels import BadPixels

ROIS = RoiMap.from_labels(np.repeat([[1], [2]], 450, axis=1).reshape(30, 30))
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 80, relaxation_rate=0.03, mean_counts=3.0, seed=2))
)
STRANGER = next(simulate_speckle(ROIS, 1, relaxation_rate=0.0, mean_counts=3.0, seed=8))[0]


@pytest.fixture
def damaged():
    """Frames 20 to 22 empty, 30 written twice, 40 of another sample, 50 mostly bad."""
    frames = FRAMES.copy()
    frames[20:23] = 0
    frames[30] = frames[29]
    frames[40] = STRANGER
    frames[50, :20] = 65535
    return frames


BAD = [20, 21, 22, 30, 40, 50]


def new_screen(frames, outliers: Any = "mask"):
    first = ROIS.gather(frames[:50])
    screen = FrameScreen(BadPixels(ROIS, first), outliers)
    screen.watch(first)
    return screen


def screened(frames, sizes, outliers: Any = "mask"):
    screen = new_screen(frames, outliers)
    parts = []
    for block in np.split(frames, np.cumsum(sizes)[:-1]):
        parts.append(screen.push(ROIS.gather(block)))
        assert sum(len(part[0]) for part in parts) + screen.n_held == sum(sizes[: len(parts)])
    parts.append(screen.interrupt())
    pixels = np.concatenate([part[0] for part in parts])
    return screen, pixels, np.concatenate([part[1] for part in parts])


@pytest.mark.parametrize("sizes", [[80], [1] * 80, [7] * 11 + [3], [40, 1, 39], [41, 39]])
def test_decisions_do_not_depend_on_how_the_series_was_cut(damaged, sizes):
    screen, pixels, left_out = screened(damaged, sizes)
    assert screen.left_out == BAD
    assert np.flatnonzero(left_out).tolist() == BAD
    assert not pixels[BAD].any()
    kept = np.setdiff1d(np.arange(80), BAD)
    np.testing.assert_array_equal(pixels[kept], ROIS.gather(damaged)[kept])
    assert screen.notes() == screened(damaged, [80])[0].notes()


def test_what_was_left_out_is_told_by_frame_and_reason(damaged):
    (note,) = screened(damaged, [80])[0].notes()
    assert note == (
        "Left out: frames 20-22: no counts (beam dump); frame 30: the same as the frame before; "
        "frame 40: unlike both neighbours, which are alike; frame 50: too many bad pixels."
    )


def test_flag_only_lists_what_can_be_used(damaged):
    screen, pixels, left_out = screened(damaged, [80], "flag")
    assert screen.left_out == [50]
    assert np.flatnonzero(left_out).tolist() == [50]
    np.testing.assert_array_equal(pixels[40], ROIS.gather(STRANGER)[0])
    (note,) = screen.notes()
    assert "kept as the setting `outliers` says" in note
    assert "frame 40" in note


def test_off_looks_for_bad_pixels_alone(damaged):
    screen, pixels, _ = screened(damaged, [80], "off")
    assert screen.left_out == [50]
    np.testing.assert_array_equal(pixels[40], ROIS.gather(STRANGER)[0])


def test_the_frames_given_are_not_changed(damaged):
    pixels = ROIS.gather(damaged)
    before = pixels.copy()
    new_screen(damaged).push(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_pixels_that_are_bad_in_the_first_frames_are_left_out_of_all(damaged):
    damaged[:, 3, 3] = 65535
    screen, pixels, _ = screened(damaged, [80])
    assert screen.roi_map.n_pixels.tolist() == [449, 450]
    assert pixels.shape == (80, 899)
    assert "1 pixels of the ROIs are bad" in screen.notes()[0]


def test_first_frames_that_are_mostly_bad_are_left_out_and_the_others_tell(damaged):
    damaged[:2] = 65535
    damaged[2:, 3, 3] = 65535
    for step in (1, 80):
        screen = new_screen(damaged)
        blocks = range(0, 80, step)
        parts = [screen.push(ROIS.gather(damaged[start : start + step])) for start in blocks]
        assert screen.left_out == [0, 1, *BAD]
        assert screen.roi_map.n_pixels.sum() == parts[-1][0].shape[1] == 899


def test_frames_before_the_first_light_are_named_once_there_is_light():
    frames = FRAMES.copy()
    frames[:3] = 0
    screen, _, _ = screened(frames, [1] * 80)
    assert screen.left_out == [0, 1, 2]
    assert "frames 0-2: no counts before the first light" in screen.notes()[0]


def test_a_series_without_any_counts_has_no_outliers():
    assert screened(np.zeros((20, 30, 30), np.uint16), [20])[0].left_out == []


def test_a_thousand_outliers_are_told_in_one_bounded_sentence():
    frames = np.tile(FRAMES, (13, 1, 1))
    frames[100::2] = 0
    (note,) = screened(frames, [len(frames)])[0].notes()
    assert len(note) < 1000
    assert "and 458 more" in note


def test_a_frame_waits_for_the_next_one_only_if_it_looks_strange():
    screen = new_screen(FRAMES)
    pixels = ROIS.gather(np.concatenate([FRAMES[:40], STRANGER[np.newaxis]]))
    assert len(screen.push(pixels[:40])[0]) == 40
    assert screen.n_held == 0
    assert len(screen.push(pixels[40:])[0]) == 0
    assert screen.n_held == 1
    freed = screen.interrupt(5)
    np.testing.assert_array_equal(freed[0], pixels[40:])
    assert not freed[1].any()
    screen.push(np.zeros_like(pixels[:1]))
    assert screen.left_out == [46]


@pytest.mark.parametrize("value", [1e300, 1e-300, 5e-324, np.finfo(float).max, np.inf, -1e300])
@pytest.mark.parametrize("first", [0, 30])
def test_no_number_makes_the_screen_raise(value, first):
    frames = FRAMES.astype(float)
    frames[first:, 5:9] = value
    frames[60:] = value
    screen, pixels, _ = screened(frames, [1] * 80)
    assert len(pixels) == 80
    assert len(screen.notes()) <= 4


def test_no_frames_are_no_frames(damaged):
    screen = new_screen(damaged)
    none = ROIS.gather(damaged[:0])
    assert screen.push(none)[0].shape == (0, 900)
    screen.push(ROIS.gather(damaged[:20]))
    assert screen.push(none)[0].shape == (0, 900)


def test_pixels_of_another_map_are_refused():
    with pytest.raises(FrameShapeError, match=r"expected \(k, 900\) real numbers"):
        new_screen(FRAMES).push(np.zeros((3, 7)))


@pytest.mark.parametrize("sizes", [[80], [1] * 80, [7] * 11 + [3]])
@pytest.mark.parametrize("brightness", [110, 2000])
def test_a_pixel_that_gets_hot_is_covered_and_named_by_row_and_column(sizes, brightness):
    frames = FRAMES.copy()
    frames[60:, 22, 7] = np.random.default_rng(0).poisson(brightness, 20)
    screen, pixels, _ = screened(frames, sizes)
    assert screen.notes()[0] == (
        "Pixels that turned hot are left out: (row 22, column 7) in ROI 2 from frame 63 on."
    )
    assert screen.left_out == ([60, 61, 62] if brightness > 1000 else [])
    where = np.flatnonzero(ROIS.pixels == 22 * 30 + 7)[0]
    np.testing.assert_allclose(pixels[63:, where], pixels[63:, 450:].mean(axis=1), rtol=1e-4)
    assert pixels[60:, where].max() < 8


def test_a_beam_dump_is_found_where_a_dark_image_was_subtracted():
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 1.0, FRAMES.shape)
    for dtype in (np.float32, np.int32):
        frames = np.rint(FRAMES + noise).astype(dtype)
        frames[60:64] = np.rint(noise[60:64])
        screen, _, _ = screened(frames, [80])
        assert screen.left_out == [60, 61, 62, 63]
        assert "Negative numbers come and go in the frames: taken as data" in screen.notes()[0]
        assert "no counts (beam dump)" in screen.notes()[-1]


def test_a_dim_series_is_kept_where_a_dark_image_was_subtracted():
    noise = np.random.default_rng(0).normal(0.02, 0.3, FRAMES.shape).astype(np.float32)
    assert screened(noise, [80])[0].left_out == []


PART = (slice(3, 10), slice(0, 20))  # of ROI 1: 140 of 450 pixels


@pytest.mark.parametrize("sizes", [[80], [1] * 80, [7] * 11 + [3], [61, 19]])
@pytest.mark.parametrize(("dtype", "mark"), [("uint16", 65535), ("float32", np.nan), ("int32", -1)])
def test_a_part_of_the_detector_that_fails_midway_costs_four_frames(sizes, dtype, mark):
    frames = FRAMES.astype(dtype)
    frames[60:, *PART] = mark
    screen, pixels, _ = screened(frames, sizes)
    assert screen.left_out == [60, 61, 62, 63]
    assert screen.notes()[0] == (
        "Pixels that turned bad (no number, negative, or the detector's bad-pixel value) are left "
        "out while they are so: 140 pixels of ROI 1 from frame 60 on."
    )
    good = np.ones((30, 30), bool)
    good[PART] = False
    good = good.ravel()[ROIS.pixels]
    good[450:] = False
    of_rest = pixels[:, :450].var(axis=1)[64:] / pixels[:, :450].mean(axis=1)[64:]
    expected = ROIS.gather(FRAMES)[64:, good]
    np.testing.assert_allclose(of_rest, expected.var(axis=1) / expected.mean(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(pixels[64:, 450:], ROIS.gather(FRAMES)[64:, 450:])


def test_few_pixels_that_turn_bad_cost_no_frame_and_are_named():
    frames = FRAMES.copy()
    frames[60:, 22, 7] = 65535
    frames[65, 3, 3] = 65535
    screen, _, _ = screened(frames, [80])
    assert screen.left_out == []
    (note,) = screen.notes()
    assert note.endswith("while they are so: (row 22, column 7) in ROI 2 from frame 60 on.")


def test_a_part_of_the_detector_that_comes_back_is_used_again():
    frames = FRAMES.copy()
    frames[55:65, *PART] = 65535
    screen, pixels, _ = screened(frames, [80])
    assert screen.left_out == [55, 56, 57, 58]
    np.testing.assert_array_equal(pixels[65:], ROIS.gather(FRAMES)[65:])


def test_a_roi_that_fails_midway_is_empty_and_the_others_go_on():
    frames = FRAMES.copy()
    frames[60:, :15] = 65535
    screen, pixels, _ = screened(frames, [80])
    assert screen.left_out == [60, 61, 62, 63]
    assert not pixels[64:, :450].any()
    np.testing.assert_array_equal(pixels[64:, 450:], ROIS.gather(FRAMES)[64:, 450:])


def test_frames_without_a_good_pixel_stay_left_out():
    frames = FRAMES.copy()
    frames[55:70] = 65535
    assert screened(frames, [80])[0].left_out == list(range(55, 70))


@pytest.mark.parametrize("value", [1000, 5, 65535])
def test_a_pixel_that_is_always_the_same_is_named(value):
    frames = FRAMES.copy()
    frames[:, 22, 7] = value
    assert screened(frames, [80])[0].notes()[0].endswith(": (row 22, column 7) in ROI 2.")
