"""Sums by age and lag bin are those of C2, however it came, and blocks are left out exactly."""

import tracemalloc

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import (
    bin_of_lag,
    bin_of_level_lag,
    lag_bin_edges,
    mean_level_lags,
)
from xpcs_live_denoise.numerics.estimator.sums import MOST_ROWS, AgeSums
from xpcs_live_denoise.numerics.g2 import age_cuts
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import N_BLOCK, TwoTimeAccumulator


def rois_and_frames(n_frames=90, seed=3):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 1, 2, 2, 2], 8).reshape(6, 8)
    return RoiMap.from_labels(labels), rng.poisson(2.0, (n_frames, 6, 8))


def accumulate(rois, frames, step, gap=None):
    accumulator = TwoTimeAccumulator(rois, dtype="float64", sums=True, map_frames=5000)
    for start in range(0, len(frames), step):
        if gap is not None and start == gap:
            accumulator.append_gap(step)
        else:
            accumulator.append(frames[start : start + step])
    return accumulator


def assert_same_cuts(one, other):
    for name in ("mean", "n_entries", "noise", "mean_age", "longest_lag"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9)


def test_the_first_bins_hold_one_lag_and_no_lag_is_left_out():
    edges = lag_bin_edges(349)
    assert edges[:8].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert edges[-1] > 349
    bins = bin_of_lag(edges)
    assert (np.diff(bins) >= 0).all()
    assert len(np.unique(bins)) == len(edges) - 1


def test_a_longer_series_has_the_same_bins_and_some_more():
    short, long = lag_bin_edges(60), lag_bin_edges(4000)
    np.testing.assert_array_equal(short, long[: len(short)])


@pytest.mark.parametrize("width", [1, 3, 9, 41])
def test_cuts_of_a_c2_hold_the_entries_of_age_cuts_and_the_same_noise(width):
    rois, frames = rois_and_frames()
    c2 = accumulate(rois, frames, 90).c2
    expected = age_cuts(c2, width=width)
    edges = lag_bin_edges(89)
    for roi in range(2):
        cuts = AgeSums.from_c2(c2).cuts(roi, np.arange(90), width)
        count = np.pad(expected.n_pixels[roi], ((0, 0), (0, edges[-1] - 90)))
        total = np.nan_to_num(np.pad(expected.mean[roi], ((0, 0), (0, edges[-1] - 90))) - 1) * count
        number = np.add.reduceat(count, edges[:-1] - 1, axis=1)
        np.testing.assert_array_equal(cuts.n_entries, number)
        sums = np.add.reduceat(total, edges[:-1] - 1, axis=1)
        np.testing.assert_allclose(cuts.mean, sums / np.maximum(number, 1), atol=1e-12)
        np.testing.assert_allclose(cuts.noise, expected.noise[roi])
        np.testing.assert_allclose(cuts.mean_age, expected.mean_age[roi], atol=0.26)


def plain_tables(c2, row_frames):
    """Sums and numbers by row and lag bin of one C2 (n, n), level by level, by the book."""
    n = len(c2)
    n_bin = len(lag_bin_edges(n - 1)) - 1
    sums, counts = np.zeros((2, -(-n // row_frames), n_bin + 12))
    for power in range(n.bit_length()):
        size = 2**power
        for later in range(n // size):
            for lag in range(1, 50):
                lag_bin, earlier = bin_of_level_lag(power)[lag], later - lag
                if lag_bin < 0 or earlier < 0:
                    continue
                rows = slice(size * earlier, size * (earlier + 1))
                block = c2[rows, size * later : size * (later + 1)]
                known = np.isfinite(block)
                first = (size * (2 * later - lag)) // 2
                for age in range(first, first + size):
                    sums[age // row_frames, lag_bin] += (block[known] - 1).sum() / size
                    counts[age // row_frames, lag_bin] += known.sum() / size
    return sums[:, :n_bin], counts[:, :n_bin]


@pytest.mark.parametrize("gap", [None, 70])
def test_sums_are_those_of_block_means_at_every_level(gap):
    rois, frames = rois_and_frames(301)
    frames[33:36, :, :4] = 0
    accumulator = accumulate(rois, frames, 10, gap=gap)
    for roi in range(2):
        sums, counts = plain_tables(accumulator.c2[roi], 1)
        cuts = accumulator.age_sums.cuts(roi, np.arange(301), 1)
        np.testing.assert_allclose(cuts.n_entries, counts, rtol=1e-6)
        np.testing.assert_allclose(cuts.mean, sums / np.maximum(counts, 1e-9), atol=1e-6)


def test_the_mean_lag_of_what_levels_measure_is_told():
    edges = lag_bin_edges(3000)
    lags = mean_level_lags(edges)
    for power in range(7):
        bins = bin_of_level_lag(power)
        for one in set(bins.tolist()) - {-1}:
            assert lags[one] == 2**power * np.flatnonzero(bins == one).mean()
            assert edges[one] <= lags[one] + 0.5
            assert lags[one] < edges[one + 1]


def test_rows_are_added_in_pairs_when_a_series_has_very_many():
    rois = RoiMap.from_labels([[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]])
    frames = np.random.default_rng(3).poisson(3.0, (400, 1, 12))
    n = MOST_ROWS + 100
    accumulator = TwoTimeAccumulator(rois, dtype="float64", sums=True, map_frames=100)
    accumulator.append(frames)
    accumulator.append_gap(n - 420)
    accumulator.append(frames[:20])
    sums = accumulator.age_sums
    assert (sums.n_frames, sums.row_frames, sums.n_rows) == (n, 2, n // 2)
    short = TwoTimeAccumulator(rois, dtype="float64", sums=True)
    short.append(frames)
    cuts, plain = sums.cuts(1, np.arange(180), 1), short.age_sums.cuts(1, np.arange(360), 1)
    total = (plain.mean * plain.n_entries).reshape(180, 2, -1).sum(axis=1)
    count = plain.n_entries.reshape(180, 2, -1).sum(axis=1)
    np.testing.assert_allclose(cuts.n_entries[:, :32], count[:, :32])
    np.testing.assert_allclose((cuts.mean * cuts.n_entries)[:, :32], total[:, :32], atol=1e-9)
    assert cuts.row_frames == 2
    assert sums.series(1).longest_lag > 300


def test_the_sums_of_a_hundred_thousand_frames_of_ten_rois_take_a_quarter_of_a_gigabyte():
    tracemalloc.start()
    try:
        sums = AgeSums(10, N_BLOCK)
        for n_frames in (1000, 10_000, 100_000):
            sums.reserve(n_frames)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sums.row_frames == 64
    assert taken < 0.25e9


@pytest.mark.parametrize("step", [1, 7])
def test_a_series_appended_in_parts_has_the_sums_of_one_appended_at_once(step):
    rois, frames = rois_and_frames(84)
    parts, whole = (accumulate(rois, frames, k).age_sums for k in (step, 84))
    for roi in range(2):
        for width in (3, 65):
            one, other = (sums.cuts(roi, np.arange(84), width) for sums in (parts, whole))
            assert_same_cuts(one, other)
            np.testing.assert_allclose(one.left_out, other.left_out, atol=1e-5)


def test_sums_of_a_c2_are_those_that_came_with_its_frames_gaps_included():
    rois, frames = rois_and_frames(84)
    accumulator = accumulate(rois, frames, 7, gap=35)
    from_c2 = AgeSums.from_c2(accumulator.c2)
    cuts, came = (sums.cuts(1, np.arange(84), 5) for sums in (from_c2, accumulator.age_sums))
    short = cuts.edges[:-1] < 49
    np.testing.assert_allclose(cuts.mean[:, short], came.mean[:, short], atol=1e-9)
    np.testing.assert_array_equal(cuts.n_entries[:, short], came.n_entries[:, short])
    assert cuts.left_out is None
    full = AgeSums.from_c2(accumulate(rois, frames, 7).c2).cuts(1, np.arange(84), 5)
    assert (cuts.n_entries.sum(axis=1) < full.n_entries.sum(axis=1)).any()


def test_leaving_a_block_out_is_c2_of_the_remaining_pixels():
    rois, frames = rois_and_frames(40)
    sums = accumulate(rois, frames, 8).age_sums
    first, n_pixels = rois.slices[1].start, int(rois.n_pixels[1])
    pixels = rois.gather(frames)[:, rois.slices[1]].astype(float)
    assert first == rois.n_pixels[0]
    for block in (0, 3, N_BLOCK - 1):
        keep = np.ones(n_pixels, bool)
        keep[block * n_pixels // N_BLOCK : (block + 1) * n_pixels // N_BLOCK] = False
        rest = pixels[:, keep] / pixels[:, keep].mean(axis=1, keepdims=True)
        expected = AgeSums.from_c2(rest @ rest.T / keep.sum()).cuts(0, np.arange(40), 9)
        got = sums.cuts(1, np.arange(40), 9).left_out[..., block]
        np.testing.assert_allclose(got, expected.mean, atol=1e-5)


def test_blocks_change_c2_by_rounding_only():
    rois, frames = rois_and_frames(60)
    with_sums = accumulate(rois, frames, 7)
    without = TwoTimeAccumulator(rois, dtype="float64")
    without.append(frames)
    np.testing.assert_allclose(with_sums.c2, without.c2, rtol=1e-13)


def test_scikit_beams_engine_keeps_sums_without_blocks():
    rois, frames = rois_and_frames(20)
    accumulator = TwoTimeAccumulator(rois, engine="skbeam", dtype="float64", sums=True)
    accumulator.append(frames)
    cuts = accumulator.age_sums.cuts(0, [10], 9)
    assert cuts.left_out is None
    assert_same_cuts(cuts, accumulate(rois, frames, 20).age_sums.cuts(0, [10], 9))


def test_an_accumulator_without_sums_says_how_to_have_them():
    rois, _ = rois_and_frames(1)
    with pytest.raises(InvalidInputError, match="sums=True"):
        _ = TwoTimeAccumulator(rois).age_sums


@pytest.fixture(scope="module")
def grown():
    """Sums of 330 frames with a gap, 100 rows at most, and the same with room for all rows."""
    rois, frames = rois_and_frames(330)
    frames[200:205, :, 1:3] = 0  # the first ROI is dark
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpcs_live_denoise.numerics.estimator.sums.MOST_ROWS", 100)
        short = accumulate(rois, frames, 11, gap=220)
    return short.age_sums, accumulate(rois, frames, 11, gap=220).age_sums


def test_the_newest_rows_stay_as_short_as_they_were(grown):
    short, full = grown
    assert (short.row_frames, short.recent.row_frames) == (4, 1)
    recent = short.recent
    assert 50 <= recent.n_rows <= 100
    assert recent.first + recent.n_frames == short.n_frames == 330
    for roi in range(2):
        rows = np.arange(recent.n_rows)
        # Bins of lags that no frame before the first row of `recent` has a part in.
        inside = [np.full(len(rows), edge) for edge in (0, recent.n_rows)]
        one = recent.cuts(roi, rows, 1, inside)
        two = full.cuts(roi, rows + recent.first, 1, np.add(inside, recent.first))
        n_bin = len(one.lag)
        np.testing.assert_allclose(one.n_entries, two.n_entries[:, :n_bin], rtol=1e-6)
        np.testing.assert_allclose(one.mean, two.mean[:, :n_bin], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(one.left_out, two.left_out[:, :n_bin], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.noise[30:], two.noise[30:], rtol=1e-9)


def test_the_shortest_rows_that_reach_back_far_enough_are_found(grown):
    short, whole = grown
    first = short.recent.first
    assert short.rows_from(first) is short.recent
    assert short.rows_from(first - 1) is short
    assert whole.rows_from(0) is whole
    noisy = short.with_noise(np.array([2.0, 3.0]))
    ratio = noisy.recent.cuts(1, [40], 1).noise / short.recent.cuts(1, [40], 1).noise
    assert ratio == pytest.approx(3)


def test_sums_of_a_whole_c2_have_all_rows_as_short_as_they_were():
    rois, frames = rois_and_frames()
    c2 = accumulate(rois, frames, 90).c2
    sums = AgeSums.from_c2(c2, most_rows=30)
    assert (sums.row_frames, sums.n_rows) == (4, 23)
    assert (sums.recent.first, sums.recent.n_rows) == (0, 90)
    one, two = sums.recent.cuts(1, np.arange(90), 3), AgeSums.from_c2(c2).cuts(1, np.arange(90), 3)
    assert_same_cuts(one, two)
