import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skbeam.core.correlation import lazy_two_time, two_time_state_to_results

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.numerics.band import RowBand
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import (
    FIRST_CAPACITY,
    TwoTimeAccumulator,
)

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def label_image():
    labels = np.zeros((18, 20), int)
    labels[2:9, 3:17] = 1
    labels[9:12, 0:10] = 4  # labels need not be consecutive
    labels[13:18, 6:20] = 2
    labels[4, 5] = 4  # nor ROIs compact
    return labels


def counts(n_frames, mean=3.0, seed=0):
    return np.random.default_rng(seed).poisson(mean, (n_frames, 18, 20)).astype(np.uint16)


def oracle(frames, labels):
    """scikit-beam's two-time correlation of the whole series at once."""
    n = len(frames)
    even = n + n % 2
    *_, state = lazy_two_time(labels, frames, even, even)
    return two_time_state_to_results(state).g2[:, :n, :n]


def plain_c2(frames, labels):
    """Eq. 1 with NaN where a ROI has no mean, by the book."""
    result = []
    for label in np.unique(labels[labels > 0]):
        x = frames[:, labels == label].astype(np.float64)
        mean = x.mean(axis=1)
        mean[~(np.isfinite(mean) & (mean > 0))] = np.nan
        product = np.where(np.isnan(mean)[:, None], 0, x)
        result.append(product @ product.T / x.shape[1] / mean[:, None] / mean)
    return np.array(result)


def accumulate(frames, blocks, **options):
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()), **options)
    start = 0
    for k in blocks:
        accumulator.append(frames[start : start + k])
        start += k
    assert start == len(frames)
    return accumulator


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ["auto", "dense", "events", "skbeam"])
@pytest.mark.parametrize("mean", [0.3, 5.0, 2000.0])
def test_c2_equals_that_of_scikit_beam(engine, dtype, mean):
    frames = counts(31, mean)
    c2 = accumulate(frames, [10, 1, 20], engine=engine, dtype=dtype).c2
    assert c2.dtype == dtype
    np.testing.assert_allclose(c2, oracle(frames, label_image()), rtol=TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("block", [1, 3, 7, 21])  # products in one piece and in several
def test_float32_keeps_its_accuracy_for_many_pixels_with_large_counts(block):
    labels = np.ones((150, 150), int)
    rng = np.random.default_rng(3)
    frames = (1e6 + 1e5 * rng.standard_normal((21, 150, 150))).astype(np.uint32)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(labels))
    for start in range(0, 21, block):
        accumulator.append(frames[start : start + block])
    np.testing.assert_allclose(accumulator.c2, oracle(frames, labels), rtol=1e-5)


@pytest.mark.parametrize(
    "frame_dtype", [np.uint8, np.int32, np.uint32, np.uint64, np.float16, float]
)
def test_every_real_dtype_of_frames_gives_the_same_c2(frame_dtype):
    frames = counts(8)
    expected = accumulate(frames, [8], dtype="float64").c2
    c2 = accumulate(frames.astype(frame_dtype), [3, 5], dtype="float64").c2
    np.testing.assert_allclose(c2, expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    blocks=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    reserve=st.one_of(st.none(), st.integers(1, 100)),
    dtype=st.sampled_from(["float32", "float64"]),
    dark=st.sets(st.integers(0, 319), max_size=5),
)
def test_the_split_of_the_series_does_not_matter(blocks, reserve, dtype, dark):
    frames = counts(sum(blocks))
    frames[[i for i in dark if i < len(frames)]] = 0
    split = accumulate(frames, blocks, n_frames=reserve, dtype=dtype)
    whole = accumulate(frames, [len(frames)], dtype=dtype)
    assert split.n_frames == whole.n_frames == len(frames)
    np.testing.assert_allclose(split.c2, whole.c2, rtol=TOLERANCE[dtype] / 10, atol=0)


@pytest.mark.parametrize("engine", ["dense", "skbeam"])
@pytest.mark.parametrize("reserve", [None, 3, 200])
def test_a_series_may_be_longer_than_what_was_reserved(engine, reserve):
    n = 2 * FIRST_CAPACITY + 5
    frames = counts(n)
    blocks = [FIRST_CAPACITY - 1, 1, 1, 7, n - FIRST_CAPACITY - 8]
    accumulator = accumulate(frames, blocks, engine=engine, n_frames=reserve, dtype="float64")
    np.testing.assert_allclose(accumulator.c2, plain_c2(frames, label_image()), rtol=1e-12)


def test_an_absurd_announced_length_reserves_no_absurd_memory():
    accumulator = accumulate(counts(4), [4], n_frames=10**9)
    np.testing.assert_allclose(accumulator.c2, plain_c2(counts(4), label_image()), rtol=1e-5)


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
def test_rows_and_band_hold_what_frames_brought(engine):
    frames = counts(20)
    accumulator = accumulate(frames, [12, 3, 5], engine=engine, window=6)
    rows = accumulator.rows(12, 15)
    expected = plain_c2(frames, label_image())
    np.testing.assert_allclose(rows.values, expected[:, 12:15, :15], rtol=1e-5)
    assert accumulator.band.shape == (3, 20, 6)
    for frame, lag in [(0, 0), (3, 3), (19, 5), (12, 1)]:
        np.testing.assert_allclose(
            accumulator.band[:, frame, lag], expected[:, frame, frame - lag], rtol=1e-5
        )
    assert np.isnan(accumulator.band[:, 2, 3:]).all()  # before the series


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
def test_c2_is_symmetric_to_the_last_bit(engine):
    c2 = accumulate(counts(23), [5, 1, 7, 10], engine=engine).c2
    np.testing.assert_array_equal(c2, c2.transpose(0, 2, 1))


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
def test_a_roi_without_counts_in_a_frame_is_nan_there_and_nowhere_else(engine):
    frames = counts(12)
    labels = label_image()
    frames[4][labels == 2] = 0
    frames[9] = 0
    accumulator = accumulate(frames, [3, 3, 6], engine=engine, dtype="float64")
    expected = plain_c2(frames, labels)
    assert np.isnan(expected).sum() == 3 * 23 + 21  # frame 9 everywhere, frame 4 in one ROI
    np.testing.assert_allclose(accumulator.c2, expected, rtol=1e-12)
    assert np.isnan(accumulator.rows(9, 10).values).all()


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e6])
def test_a_mean_that_is_no_positive_number_is_no_measurement(engine, bad):
    frames = counts(9).astype(np.float32)
    labels = label_image()
    frames[5, 3, 4] = bad  # ROI 1 only
    c2 = accumulate(frames, [4, 5], engine=engine).c2
    assert np.isnan(c2[0, 5]).all()
    assert np.isnan(c2[0, :, 5]).all()
    assert np.isfinite(np.delete(np.delete(c2[0], 5, 0), 5, 1)).all()
    np.testing.assert_allclose(c2[1:], plain_c2(frames, labels)[1:], rtol=1e-5)


def test_infinities_of_both_signs_are_no_measurement_either():
    frames = counts(3).astype(np.float64)
    frames[1, 3, 4:6] = np.inf, -np.inf
    c2 = accumulate(frames, [3]).c2
    assert np.isnan(c2[0, 1]).all()
    assert np.isfinite(c2[1:]).all()


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
def test_a_gap_is_nan_and_later_frames_keep_their_place(engine):
    frames = counts(80)
    accumulator = TwoTimeAccumulator(
        RoiMap.from_labels(label_image()), engine=engine, dtype="float64"
    )
    accumulator.append(frames[:30])
    accumulator.append_gap(4)
    accumulator.append(frames[34:])
    assert np.isnan(accumulator.rows(30, 34).values).all()
    assert np.isnan(accumulator.band_rows(30, 34)).all()
    expected = plain_c2(frames, label_image())
    expected[:, 30:34] = expected[:, :, 30:34] = np.nan
    np.testing.assert_allclose(accumulator.c2, expected, rtol=1e-12)


def test_a_gap_cannot_be_negative():
    with pytest.raises(InvalidInputError, match="got -1 frames"):
        TwoTimeAccumulator(RoiMap.from_labels(label_image())).append_gap(-1)


@pytest.mark.parametrize("engine", ["dense", "skbeam"])
@pytest.mark.parametrize(
    "bad", [np.zeros((2, 5, 5)), np.zeros((2, 18, 20), complex), np.zeros((18, 20), object)]
)
def test_bad_frames_are_refused_and_change_nothing(engine, bad):
    frames = counts(10)
    accumulator = accumulate(frames[:6], [6], engine=engine)
    before = accumulator.c2.copy()
    with pytest.raises(FrameShapeError, match="Frames: got"):
        accumulator.append(bad)
    assert accumulator.n_frames == 6
    np.testing.assert_array_equal(accumulator.c2, before)
    accumulator.append(frames[6:])
    np.testing.assert_allclose(accumulator.c2, plain_c2(frames, label_image()), rtol=1e-5)


class Stopped(Exception):
    pass


def stopped_at(n_calls, call):
    """Call something and raise when it has entered or left so many functions; False if it ended."""
    left = iter(range(n_calls))

    def count(*event):
        if next(left, None) is None:
            sys.setprofile(None)
            raise Stopped

    sys.setprofile(count)
    try:
        call()
        sys.setprofile(None)
    except Stopped:
        return True
    return False


@pytest.mark.parametrize("map_frames", [1024, 4])
@pytest.mark.parametrize("engine", ["dense", "events"])
@pytest.mark.parametrize("is_read", [False, True])
def test_an_interruption_anywhere_changes_nothing(engine, map_frames, is_read, monkeypatch):
    monkeypatch.setenv("XPCS_LIVE_DENOISE_THREADS", "1")  # a pool does not survive everything
    frames, lengths = counts(10, 0.5), set()
    for n_calls in itertools.count():
        accumulator = accumulate(
            frames[:6], [6], engine=engine, dtype="float64", map_frames=map_frames
        )

        def add(to=accumulator):
            to.append(frames[2:5])
            if is_read:  # what waits is multiplied
                to.map  # noqa: B018

        if not stopped_at(n_calls, add):
            break
        n = accumulator.n_frames
        lengths.add(n)
        taken = np.concatenate([frames[:6], frames[2:5]])[:n]
        if n_calls % 2:  # what an interrupted series has got is read as well
            values, frames_per_bin = accumulator.map
            expected = block_means(plain_c2(taken, label_image()), frames_per_bin)
            np.testing.assert_allclose(values, expected, rtol=1e-11)
        accumulator.append(frames[6:])
        expected = plain_c2(np.concatenate([taken, frames[6:]]), label_image())
        values, frames_per_bin = accumulator.map
        expected = block_means(expected, frames_per_bin)
        np.testing.assert_allclose(values, expected, rtol=1e-11)
    assert lengths == {6, 9}, "all of the frames, or none"


def test_frames_that_wait_for_others_are_in_all_that_is_read():
    frames = counts(60)
    rois = RoiMap.from_labels(label_image())
    whole = TwoTimeAccumulator(rois, sums=True, dtype="float64")
    whole.append(frames)
    single = TwoTimeAccumulator(rois, sums=True, dtype="float64")
    for n, frame in enumerate(frames, start=1):
        single.append(frame)
        assert single.n_frames == n
        assert single.band.shape[1] == single.map[0].shape[1] == single.age_sums.n_frames == n
    np.testing.assert_allclose(single.band, whole.band, rtol=1e-12)
    np.testing.assert_allclose(single.c2, whole.c2, rtol=1e-12)
    ages = np.arange(60)
    np.testing.assert_allclose(
        single.age_sums.cuts(0, ages, 5).mean, whole.age_sums.cuts(0, ages, 5).mean, rtol=1e-9
    )


def test_a_change_of_the_type_of_frames_loses_none():
    frames = counts(20)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()), dtype="float64")
    for start, dtype in ((0, np.uint8), (5, np.uint32), (10, np.int64), (15, np.uint16)):
        accumulator.append(frames[start : start + 5].astype(dtype))
    np.testing.assert_allclose(accumulator.c2, plain_c2(frames, label_image()), rtol=1e-12)


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize("engine", ["dense", "events"])
def test_a_roi_that_is_split_over_threads_gives_the_same(engine, threads, monkeypatch):
    monkeypatch.setenv("XPCS_LIVE_DENOISE_THREADS", threads)
    labels = np.ones((30, 31), int)
    labels[:3, :5] = 2
    frames = np.random.default_rng(3).poisson(0.4, (150, 30, 31)).astype(np.uint16)
    frames[70:72] = 0
    accumulator = TwoTimeAccumulator(
        RoiMap.from_labels(labels), engine=engine, dtype="float64", sums=True
    )
    for start in range(0, 150, 13):
        accumulator.append(frames[start : start + 13])
    np.testing.assert_allclose(accumulator.c2, plain_c2(frames, labels), rtol=1e-11)
    assert np.isfinite(accumulator.age_sums.series(0).left_out).all()


def test_gathered_pixels_do_as_well_as_frames_and_are_left_alone():
    frames = counts(9)
    rois = RoiMap.from_labels(label_image())
    pixels = rois.gather(frames).astype(np.float32)
    kept = pixels.copy()
    accumulator = TwoTimeAccumulator(rois)
    accumulator.append_pixels(pixels)
    np.testing.assert_array_equal(accumulator.c2, accumulate(frames, [9]).c2)
    np.testing.assert_array_equal(pixels, kept)
    with pytest.raises(
        FrameShapeError, match=r"got shape \(9, 5\) and dtype float32, expected \(k, "
    ):
        accumulator.append_pixels(pixels[:, :5])
    with pytest.raises(
        FrameShapeError, match=r"dtype complex128, expected \(k, \d+\) real numbers"
    ):
        accumulator.append_pixels(pixels.astype(complex))


def test_frames_may_be_reused_by_their_owner_after_append():
    frames = counts(4)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()))
    buffer = frames[:2].copy()
    accumulator.append(buffer)
    buffer[:] = 7
    accumulator.append(frames[2:])
    np.testing.assert_allclose(accumulator.c2, plain_c2(frames, label_image()), rtol=1e-5)


def test_what_was_read_stays_true_while_frames_arrive():
    frames = counts(FIRST_CAPACITY + 30)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()))
    accumulator.append(frames[:20])
    rows = accumulator.rows(0, 20)
    c2 = accumulator.c2
    kept = c2.copy()
    accumulator.append(frames[20:])
    np.testing.assert_array_equal(c2, kept)
    np.testing.assert_array_equal(rows.values, kept)
    with pytest.raises(ValueError, match="read-only"):
        c2[0, 0, 0] = 1


def test_rows_can_be_read_again():
    accumulator = accumulate(counts(10), [10])
    rows = accumulator.rows(3, 7)
    np.testing.assert_array_equal(rows.values, accumulator.c2[:, 3:7, :7])
    for start, stop in [(-1, 3), (5, 4), (8, 11)]:
        with pytest.raises(InvalidInputError, match=r"expected a range within \[0, 10\)"):
            accumulator.rows(start, stop)


def test_nothing_appended_gives_an_empty_c2():
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()))
    assert accumulator.c2.shape == (3, 0, 0)
    accumulator.append(np.empty((0, 18, 20)))
    assert accumulator.rows(0, 0).values.shape == (3, 0, 0)
    assert accumulator.band.shape == (3, 0, 50)
    assert accumulator.n_frames == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "sparse"}, r"got 'sparse', expected one of \('auto', 'dense', 'events', 'sk"),
        ({"dtype": "float16"}, r"got 'float16', expected one of \('float32', 'float64'\)"),
        ({"dtype": "single precision"}, r"got 'single precision', expected one of"),
        ({"n_frames": 0}, "got 0, expected at least 1"),
        ({"window": 1}, "Window: got 1 frames, expected at least 2"),
        ({"map_frames": 7}, "map_frames: got 7, expected an even number"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        TwoTimeAccumulator(RoiMap.from_labels(label_image()), **options)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float64")])
def test_a_dtype_may_be_named_or_given(dtype):
    rois = RoiMap.from_labels(np.ones((3, 3), int))
    accumulator = TwoTimeAccumulator(rois, dtype=dtype)
    accumulator.append(np.ones((2, 3, 3)))
    assert accumulator.c2.dtype == accumulator.band.dtype == np.dtype(dtype)


@pytest.mark.parametrize("block", [1, 7, 23])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_block_size_leaves_c2_symmetric_to_the_last_bit(dtype, block):
    rois = RoiMap.from_labels(np.repeat([[1, 2]], 30, axis=1).reshape(6, 10))
    frames = np.random.default_rng(9).poisson(3.0, (23, 6, 10))
    accumulator = TwoTimeAccumulator(rois, dtype=dtype)
    for start in range(0, 23, block):
        accumulator.append(frames[start : start + block])
    np.testing.assert_array_equal(accumulator.c2, accumulator.c2.swapaxes(1, 2))


@pytest.mark.parametrize("block", [1, 20])
@pytest.mark.parametrize("n_pixels", range(1, 10))
def test_a_roi_with_fewer_pixels_than_blocks_has_its_sums_too(n_pixels, block):
    labels = np.ones((4, 10), int)
    labels[0] = 0
    labels[0, :n_pixels] = 2
    rois = RoiMap.from_labels(labels)
    frames = np.random.default_rng(3).poisson(4.0, (40, 4, 10))
    with_sums = TwoTimeAccumulator(rois, dtype="float64", sums=True)
    plain = TwoTimeAccumulator(rois, dtype="float64")
    for start in range(0, 40, block):
        with_sums.append(frames[start : start + block])
        plain.append(frames[start : start + block])
    np.testing.assert_allclose(with_sums.c2, plain.c2, rtol=1e-12)
    for roi in range(2):
        assert np.isfinite(with_sums.age_sums.series(roi).left_out).all()


@pytest.mark.parametrize("engine", ["dense", "events", "skbeam"])
def test_pixels_are_divided_by_the_profile_before_they_are_correlated(engine):
    rois = RoiMap.from_labels(label_image())
    rng = np.random.default_rng(5)
    profile = rng.uniform(0.5, 2, len(rois.pixels))
    pixels = rng.poisson(3.0, (12, len(rois.pixels))).astype(np.uint16)
    divided = TwoTimeAccumulator(rois, engine=engine, dtype="float64")
    divided.append_pixels(pixels / profile)
    accumulator = TwoTimeAccumulator(rois, engine=engine, dtype="float64", profile=profile)
    accumulator.append_pixels(pixels[:5])
    accumulator.append_pixels(pixels[5:])
    np.testing.assert_allclose(accumulator.c2, divided.c2, rtol=1e-12)


def block_means(c2, frames_per_bin):
    """Means of C2 over squares of frames, NaN left out."""
    n_roi, n = c2.shape[:2]
    m = -(-n // frames_per_bin)
    padded = np.full((n_roi, m * frames_per_bin, m * frames_per_bin), np.nan)
    padded[:, :n, :n] = c2
    squares = padded.reshape(n_roi, m, frames_per_bin, m, frames_per_bin)
    count = np.isfinite(squares).sum(axis=(2, 4))
    total = np.nansum(squares, axis=(2, 4))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@pytest.mark.parametrize("map_frames", [2, 64, 100])
@pytest.mark.parametrize("block", [1, 33, 20])
def test_the_map_holds_block_means_of_c2_whatever_the_length_gaps_and_empty_rois(map_frames, block):
    frames = counts(317)
    frames[40] = 0
    frames[100:170][:, label_image() == 2] = 0
    accumulator = TwoTimeAccumulator(
        RoiMap.from_labels(label_image()), dtype="float64", map_frames=map_frames
    )
    for start in range(0, 317, block):
        accumulator.append(frames[start : start + block])
        accumulator.map  # what is read on the way does not matter  # noqa: B018
    values, frames_per_bin = accumulator.map
    assert values.shape[1] <= map_frames < 2 * 317 / frames_per_bin
    expected = block_means(plain_c2(frames, label_image()), frames_per_bin)
    np.testing.assert_allclose(values, expected, rtol=1e-11)
    with pytest.raises(InvalidInputError, match=r"got 317 frames.*Read `map` and `band`"):
        _ = accumulator.c2


def test_a_map_that_was_read_stays_as_it_was_when_bins_are_averaged():
    accumulator = accumulate(counts(64), [64], map_frames=64)
    values, _ = accumulator.map
    kept = values.copy()
    accumulator.append(counts(30))
    assert accumulator.frames_per_bin == 2
    np.testing.assert_array_equal(values, kept)


@pytest.mark.parametrize("engine", ["dense", "skbeam"])
def test_released_rows_of_the_band_are_gone_and_the_others_stay(engine):
    frames = counts(90)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(label_image()), engine=engine)
    accumulator.append(frames[:60])
    kept = accumulator.band_rows(35, 60).copy()
    accumulator.release(35)
    accumulator.append(frames[60:])
    np.testing.assert_array_equal(accumulator.band_rows(35, 60), kept)
    whole = accumulate(frames, [90], engine=engine).band
    np.testing.assert_allclose(accumulator.band, whole[:, accumulator.band_start :], rtol=1e-5)
    if engine == "dense":
        assert accumulator.band_start == 35
        with pytest.raises(InvalidInputError, match=r"got frames \[30, 40\).*\[35, 90\)"):
            accumulator.band_rows(30, 40)


def test_scikit_beam_stops_where_the_map_is_full():
    accumulator = accumulate(counts(8), [8], engine="skbeam", map_frames=8)
    with pytest.raises(InvalidInputError, match="got 9 frames, expected at most 8"):
        accumulator.append(counts(1))
    assert accumulator.n_frames == 8


def test_a_band_that_is_released_as_it_grows_keeps_its_rows_and_bounded_memory():
    band = RowBand(1, 3, 8, np.float32)
    seen = None
    for frame in range(0, 3000, 5):
        band.reserve(5)
        band.new_rows(0, 5)[...] = np.arange(frame, frame + 5)[:, np.newaxis]
        band.advance(5)
        band.release(band.stop - 40)
        if frame == 1000:
            seen = band.values
            kept = seen.copy()
        values = band.values
        np.testing.assert_array_equal(values[0, :, 0], np.arange(band.start, band.stop))
        assert values.base is not None
        assert values.base.nbytes <= 2 * (40 + 5) * 3 * 4
    np.testing.assert_array_equal(seen, kept)
