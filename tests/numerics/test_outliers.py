"""OutlierDetector: what it finds, and what it must leave alone."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, simulate_speckle
from xpcs_live_denoise.numerics.outliers import (
    BEAM_DUMP,
    BURST,
    COSMIC,
    DARK,
    DROP,
    DUPLICATE,
    STRAY,
    OutlierDetector,
)

LABELS = np.repeat(np.arange(1, 5), 15)[:, np.newaxis] * np.ones((1, 60), int)
ROIS = RoiMap.from_labels(LABELS)


def speckle(n, rate=0.03, counts=2.0, rois=ROIS, **options):
    options = {"seed": 1, **options}
    return np.concatenate(
        list(simulate_speckle(rois, n, relaxation_rate=rate, mean_counts=counts, **options))
    )


def verdicts(frames, rois=ROIS, gaps=()):
    """One verdict a frame, "" for those that belong, None for gaps."""
    pixels = rois.gather(frames)
    detector = OutlierDetector(rois.n_pixels, counts=frames.dtype.kind in "ui")
    found = []
    for index, frame in enumerate(pixels):
        if index in gaps:
            found += [*detector.interrupt(), None]
            continue
        sums = np.array([frame[one].sum(dtype=float) for one in rois.slices])
        found += detector.see(frame, sums, float(frame.max()))
    return found + detector.interrupt(), detector


def flagged(frames, **options):
    found, _ = verdicts(frames, **options)
    assert len(found) == len(frames)
    return {index: reason for index, reason in enumerate(found) if reason}


@pytest.fixture(scope="module")
def frames():
    return speckle(80)


@pytest.mark.parametrize("counts", [0.02, 2.0])
def test_frames_without_counts_are_a_beam_dump_however_soon_they_come(counts):
    frames = speckle(60, counts=counts)
    frames[3] = frames[40:44] = 0
    assert flagged(frames) == dict.fromkeys((3, 40, 41, 42, 43), BEAM_DUMP)


def test_frames_before_the_beam_is_open_are_told_apart_from_few_counts():
    frames = speckle(30)
    frames[:4] = 0
    found, detector = verdicts(frames)
    assert found == [DARK] * 4 + [""] * 26
    assert detector.dawn
    _, detector = verdicts(speckle(30, counts=0.0003))
    assert not detector.dawn


def test_a_frame_that_lost_most_of_its_intensity_is_found(frames):
    frames = frames.copy()
    frames[50] //= 8
    assert flagged(frames) == {50: DROP}


def test_a_burst_in_one_roi_is_found_and_so_is_one_pixel_far_above_all(frames):
    frames = frames.copy()
    frames[50, 20:25] += 40  # a third of the second ROI
    frames[60, 7, 7] = 600
    assert flagged(frames) == {50: BURST, 60: COSMIC}


def test_moderate_changes_are_no_outliers_and_known_levels_are_none_either():
    frames = speckle(120, counts=10.0)
    frames[40:60] = frames[40:60] * 2
    frames[60:80] = frames[60:80] // 2
    frames[90] = frames[90] // 3
    assert flagged(frames) == {}


@pytest.mark.parametrize(("factor", "reason"), [(10, BURST), (0.1, DROP)])
def test_a_jump_that_lasts_becomes_the_new_level_and_going_back_is_known(factor, reason):
    frames = speckle(120, counts=20.0)
    frames[40:80] = np.random.default_rng(0).poisson(frames[40:80] * factor)
    found, detector = verdicts(frames)
    assert found == [""] * 40 + [reason] * 9 + [""] * 71
    assert detector.new_levels == 1


def test_a_beam_that_flickers_is_no_new_level():
    frames = speckle(100, counts=10.0)
    frames[40:60] = frames[40:60] * np.array([4, 16, 64, 4, 16] * 4)[:, None, None]
    found, detector = verdicts(frames)
    assert found[40:60] == [BURST] * 20
    assert detector.new_levels == 0


@pytest.mark.parametrize("counts", [0.02, 2.0])
@pytest.mark.parametrize("at", [1, 30])
def test_a_frame_written_twice_is_found_at_once_or_with_the_next(counts, at):
    frames = speckle(60, rate=0.0, counts=counts)
    frames[at] = frames[at - 1]
    assert flagged(frames) == {at: DUPLICATE}


def test_a_frozen_detector_is_found_and_an_image_that_never_changed_is_not():
    frames = speckle(40)
    frames[30:] = frames[29]
    assert flagged(frames) == dict.fromkeys(range(30, 40), DUPLICATE)
    assert flagged(np.repeat(frames[:1], 20, axis=0)) == {}
    assert flagged(np.ones((20, 60, 60), np.uint16)) == {}


def test_equal_frames_of_hardly_any_counts_are_no_duplicates():
    rois = RoiMap.from_labels(np.ones((5, 5), int))
    frames = speckle(300, rois=rois, counts=0.05)
    assert (np.diff(frames, axis=0) == 0).all(axis=(1, 2)).any()
    assert flagged(frames, rois=rois) == {}


def test_a_frame_unlike_its_neighbours_is_found_when_they_are_alike(frames):
    frames = frames.copy()
    frames[50] = speckle(1, seed=9)[0]
    assert flagged(frames) == {50: STRAY}


def test_a_real_rearrangement_is_kept(frames):
    other = speckle(40, seed=9)
    assert flagged(np.concatenate([frames[:40], other])) == {}


def test_a_stray_frame_beside_a_gap_or_at_the_end_cannot_be_told_and_is_kept(frames):
    frames = frames.copy()
    frames[50] = frames[79] = speckle(1, seed=9)[0]
    assert flagged(frames, gaps=(51,)) == {}


def test_a_stray_frame_before_one_that_is_bad_itself_is_kept(frames):
    frames = frames.copy()
    frames[50] = speckle(1, seed=9)[0]
    frames[51] = 0
    assert flagged(frames) == {51: BEAM_DUMP}


def test_after_the_dynamics_became_fast_nothing_is_held_against_them():
    rate = np.r_[np.full(40, 0.01), np.full(60, 1.0)]
    assert flagged(speckle(100, rate=rate)) == {}


def test_floating_point_frames_are_judged_without_counting_statistics(frames):
    frames = frames / 1e4
    frames[30] = 0
    frames[40] *= 20
    frames[60] = frames[59]
    assert flagged(frames) == {30: BEAM_DUMP, 40: BURST, 60: DUPLICATE}


@pytest.mark.parametrize("counts", [0.02, 0.3, 5.0])
@pytest.mark.parametrize("rate", [0.0, 0.03, 1.0])
@pytest.mark.parametrize(("contrast", "size"), [(1.0, 1.0), (0.2, 3.0)])
def test_ordinary_series_have_no_outliers(counts, rate, contrast, size):
    frames = speckle(150, rate=rate, counts=counts, contrast=contrast, speckle_size=size)
    assert flagged(frames) == {}


def test_small_rois_with_few_speckles_have_no_outliers():
    labels = np.zeros((30, 30), int)
    labels[:8, :8], labels[20:22, 20:22] = 1, 2
    rois = RoiMap.from_labels(labels)
    for counts in (0.02, 0.5, 10.0):
        frames = speckle(400, rate=0.2, counts=counts, rois=rois, speckle_size=3.0)
        assert set(flagged(frames, rois=rois).values()) <= {DARK}
