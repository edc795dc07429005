"""Sparse frames: by their non-zero pixels they give what matrix products of all pixels give."""

import numpy as np
import pytest

from xpcs_live_denoise.errors import FrameShapeError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

SHAPE = (40, 48)


def roi_map():
    labels = np.zeros(SHAPE, int)
    labels[2:20, 3:45] = 1
    labels[22:39, 1:30] = 5
    labels[25:30, 33:47] = 3
    labels[0, 10:13] = 7  # three pixels
    labels[30, 5] = 3  # ROIs need not be compact
    return RoiMap.from_labels(labels)


ROIS = roi_map()
TOLERANCE = {"float32": 2e-6, "float64": 1e-11}


def sparse_frames(n, mean=0.02, seed=0, dtype: type = np.uint16):
    return np.random.default_rng(seed).poisson(mean, (n, *SHAPE)).astype(dtype)


def jumping_frames():
    """Occupancy from 0.01 to 5 counts and back, a dark stretch, and a pixel that never rests."""
    parts = (0.01, 5.0, 0.01, 0.05, 0.0, 0.01)
    frames = np.concatenate([sparse_frames(90, mean, seed) for seed, mean in enumerate(parts)])
    frames[:, 10, 10] = 9
    return frames


def plain_c2(pixels, weights=1.0):
    """Eq. 1 of all ROIs, NaN where a ROI has no mean, from pixels (n, n_pixels)."""
    result = []
    for own in ROIS.slices:
        x = (pixels * weights)[:, own].astype(np.float64)
        mean = x.mean(axis=1)
        mean[~(np.isfinite(mean) & (mean > 0))] = np.nan
        product = np.where(np.isnan(mean)[:, None], 0, x)
        result.append(product @ product.T / x.shape[1] / mean[:, None] / mean)
    return np.array(result)


def accumulated(frames, block=20, **options):
    accumulator = TwoTimeAccumulator(ROIS, **options)
    for start in range(0, len(frames), block):
        accumulator.append(frames[start : start + block])
    return accumulator


def as_events(frames, shuffle=None):
    """Frames (k, rows, cols) as counts, ROI pixels and starts."""
    flat = frames.reshape(len(frames), -1)
    frame, index = np.nonzero(flat)
    if shuffle is not None:
        order = np.lexsort((shuffle.random(len(frame)), frame))
        frame, index = frame[order], index[order]
    starts = np.searchsorted(frame, np.arange(len(frames) + 1))
    return flat[frame, index], ROIS.pixel_numbers[index], starts


def assert_same(one, other, dtype="float32"):
    """Band, map, sums with and without blocks of pixels, and images of two accumulators."""
    close = {"rtol": TOLERANCE[dtype], "atol": 0.0}
    assert one.n_frames == other.n_frames
    np.testing.assert_allclose(one.band, other.band, **close)
    (values, size), (others, other_size) = one.map, other.map
    assert size == other_size
    np.testing.assert_allclose(values, others, **close)
    if one.images is None:
        return
    ages = np.arange(one.n_frames)
    for roi in range(ROIS.n_roi):
        a, b = (of.age_sums.cuts(roi, ages, 9) for of in (one, other))
        scale = np.abs(b.mean).max() + 1
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_allclose(a.n_entries, b.n_entries)
        np.testing.assert_allclose(a.left_out, b.left_out, rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(a.noise, b.noise, rtol=1e-4)
        tests = [of.images.test(roi) for of in (one, other)]
        if tests[1] is not None:
            for name in ("near", "next_to", "far"):
                first, second = (getattr(test, name) for test in tests)
                np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("block", [1, 7, 20])
def test_events_equal_matrix_products_and_the_plain_formula(block, dtype):
    frames = sparse_frames(150)
    frames[60] = 0
    frames[100:103][:, ROIS.label_array == 5] = 0
    events = accumulated(frames, block, engine="events", dtype=dtype, sums=True)
    assert events.engine == "events"
    assert_same(events, accumulated(frames, engine="dense", dtype=dtype, sums=True), dtype)
    expected = plain_c2(ROIS.gather(frames))
    np.testing.assert_allclose(events.c2, expected, rtol=TOLERANCE[dtype])
    assert np.isnan(events.c2[:, 60]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.float32, np.float64, bool])
def test_photons_may_come_in_any_type(dtype):
    frames = np.minimum(sparse_frames(60), 1)
    whole = accumulated(frames, engine="dense", dtype="float64")
    assert_same(accumulated(frames.astype(dtype), engine="events", dtype="float64"), whole)


@pytest.mark.parametrize("mean", [0.3, 4.0])
def test_events_are_right_where_they_are_slow(mean):
    frames = sparse_frames(80, mean)
    events = accumulated(frames, engine="events", sums=True)
    assert events.engine == "events"
    assert_same(events, accumulated(frames, engine="dense", sums=True))


@pytest.mark.parametrize("block", [3, 20])
def test_the_engine_changes_while_frames_arrive_and_the_result_does_not(block):
    frames = jumping_frames()
    auto, engines = TwoTimeAccumulator(ROIS, sums=True), []
    for start in range(0, len(frames), block):
        auto.append(frames[start : start + block])
        engines.append(auto.engine)
    changes = [a for a, b in zip(engines, [*engines[1:], ""], strict=True) if a != b]
    assert changes[:3] == ["events", "dense", "events"]
    assert_same(auto, accumulated(frames, engine="dense", sums=True))


@pytest.mark.parametrize("engine", ["auto", "events"])
@pytest.mark.parametrize("bad", [-1.0, 0.5, 300.0, np.nan, np.inf, 255.0001])
def test_what_is_no_photon_count_is_taken_as_it_is(bad, engine):
    frames = sparse_frames(260, dtype=np.float64)
    frames[70, 10, 10] = bad
    mixed = accumulated(frames, engine=engine, sums=True)
    assert_same(mixed, accumulated(frames, engine="dense", sums=True))
    assert mixed.engine == "events", "some time after the last bad number"


@pytest.mark.parametrize("engine", ["auto", "events"])
@pytest.mark.parametrize("block", [1, 7, 33])
def test_a_roi_may_stop_being_photon_counts_among_frames_that_wait(block, engine):
    frames = sparse_frames(150, 0.02, 6, np.float32)
    frames[57:, 3, 3] = 0.5  # one ROI only; frames before it came as events
    frames[100:, 25:30, 33:47] += 3  # another one is no longer sparse
    other = accumulated(frames, 150, engine="dense", sums=True)
    assert_same(accumulated(frames, block, engine=engine, sums=True), other)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("view", ["whole", "flipped", "read-only"])
def test_events_are_found_up_to_the_last_pixel_of_the_detector(dtype, view):
    labels = np.zeros((9, 21), int)
    labels[:, ::2], labels[5:, 1::3], labels[8, 17:] = 1, 2, 3  # runs of 1 to 4 pixels
    labels[2:4] = 4  # and of 42
    rois = RoiMap.from_labels(labels)
    frames = np.random.default_rng(1).poisson(0.3, (90, 9, 21)).astype(dtype)
    frames[:, 8, 20] = 7
    if view == "flipped":
        frames = frames[:, ::-1, ::-1]
    frames.flags.writeable = view != "read-only"
    both = [TwoTimeAccumulator(rois, engine=engine, sums=True) for engine in ("events", "dense")]
    for one in both:
        one.append(frames[:13])
        one.append(frames[13:])
    assert [one.engine for one in both] == ["events", "dense"]
    np.testing.assert_allclose(both[0].c2, both[1].c2, rtol=2e-6)
    np.testing.assert_allclose(both[0].band, both[1].band, rtol=2e-6)


def test_counts_above_255_of_a_hot_pixel_leave_other_rois_alone():
    frames = sparse_frames(120)
    frames[:, 26, 35] = 4000
    mixed = accumulated(frames, engine="auto", sums=True)
    assert mixed.engine == "events"
    assert_same(mixed, accumulated(frames, engine="dense", sums=True))


def test_gaps_and_long_dark_stretches_are_no_measurement():
    frames = sparse_frames(200)
    frames[40:110] = 0
    both = []
    for engine in ("events", "dense"):
        accumulator = TwoTimeAccumulator(ROIS, engine=engine, sums=True)
        accumulator.append(frames[:37])
        accumulator.append_gap(70)
        accumulator.append(frames[37:])
        both.append(accumulator)
    assert_same(*both)
    assert np.isnan(both[0].c2[:, 37:107]).all()


@pytest.mark.parametrize("window", [2, 50, 90])
@pytest.mark.parametrize("engine", ["auto", "events"])
def test_a_map_of_lists_holds_block_means_when_bins_are_averaged(engine, window):
    frames = sparse_frames(333, 0.004)
    frames[50:54] = 0
    options = {"map_frames": 32, "window": window}
    lists = TwoTimeAccumulator(ROIS, engine=engine, **options)
    for start in range(0, 333, 9):
        lists.append(frames[start : start + 9])
        if start % 4 == 0:
            lists.map  # what is read on the way does not matter  # noqa: B018
    assert_same(lists, accumulated(frames, engine="dense", **options))


@pytest.mark.parametrize("engine", ["auto", "events", "dense"])
def test_pixels_are_divided_by_a_profile(engine):
    frames = sparse_frames(90, 0.05)
    profile = np.random.default_rng(1).uniform(0.5, 2.0, len(ROIS.pixels))
    accumulator = accumulated(frames, engine=engine, profile=profile, sums=True)
    expected = plain_c2(ROIS.gather(frames), 1 / profile)
    np.testing.assert_allclose(accumulator.c2, expected, rtol=2e-6)
    assert_same(accumulator, accumulated(frames, engine="dense", profile=profile, sums=True))


@pytest.mark.parametrize("engine", ["auto", "events", "dense", "skbeam"])
def test_sparse_input_equals_the_same_frames(engine):
    frames = sparse_frames(60)
    accumulator = TwoTimeAccumulator(ROIS, engine=engine)
    counts, pixels, starts = as_events(frames, np.random.default_rng(3))
    accumulator.append_events(counts, pixels, starts[:24])
    accumulator.append_events(counts, pixels, starts[23:])
    expected = accumulated(frames, engine="dense")
    np.testing.assert_allclose(accumulator.c2, expected.c2, rtol=2e-6)
    if engine in ("auto", "events"):
        assert accumulator.engine == "events"


def test_sparse_and_whole_frames_may_alternate():
    frames = jumping_frames()
    mixed = TwoTimeAccumulator(ROIS, sums=True)
    for start in range(0, len(frames), 30):
        some = frames[start : start + 30]
        if start % 60:
            mixed.append_events(*as_events(some))
        else:
            mixed.append(some)
    assert_same(mixed, accumulated(frames, engine="dense", sums=True))


def test_counts_of_a_pixel_that_comes_twice_are_added():
    frames = sparse_frames(55)
    counts, pixels, starts = as_events(frames)
    twice = TwoTimeAccumulator(ROIS, engine="events", sums=True)
    twice.append_events(np.repeat(counts, 2), np.repeat(pixels, 2), 2 * starts)
    assert_same(twice, accumulated(2 * frames, engine="dense", sums=True))


@pytest.mark.parametrize("bad", [-2.0, 0.25, 300.0, np.nan])
def test_sparse_input_may_hold_what_is_no_photon_count(bad):
    frames = sparse_frames(70, dtype=np.float64)
    frames[30, 10, 10] = bad
    accumulator = TwoTimeAccumulator(ROIS, engine="events", sums=True)
    accumulator.append_events(*as_events(frames))
    assert_same(accumulator, accumulated(frames, engine="dense", sums=True))


def test_frames_without_any_event_are_dark():
    accumulator = TwoTimeAccumulator(ROIS)
    accumulator.append_events([], np.empty(0, int), np.zeros(6, int))
    assert accumulator.n_frames == 5
    assert np.isnan(accumulator.c2).all()


@pytest.mark.parametrize(
    ("counts", "pixels", "starts", "message"),
    [
        ([1, 2], [0], [0, 1], r"counts of shape \(2,\).*pixels of shape \(1,\)"),
        ([1j], [0], [0, 1], "dtype complex128"),
        ([1], [0.5], [0, 1], "pixels of dtype float64"),
        ([1], [0], [0.0, 1.0], "starts of shape"),
        ([1], [0], [], "starts of shape"),
        ([1], [0], [0, 2], "starts from 0 to 2 for 1 events"),
        ([1, 1], [0, 0], [0, 2, 1], "numbers that never fall"),
        ([1], [10**6], [0, 1], "got pixel 1000000, expected numbers below"),
    ],
)
def test_events_that_do_not_fit_are_refused_and_change_nothing(counts, pixels, starts, message):
    accumulator = accumulated(sparse_frames(8))
    before = accumulator.c2.copy()
    with pytest.raises(FrameShapeError, match=message):
        accumulator.append_events(counts, pixels, np.array(starts))
    np.testing.assert_array_equal(accumulator.c2, before)


def test_numbers_of_pixels_lead_from_the_detector_to_the_roi():
    numbers = ROIS.pixel_numbers
    np.testing.assert_array_equal(numbers[ROIS.pixels], np.arange(len(ROIS.pixels)))
    assert (np.delete(numbers, ROIS.pixels) == -1).all()
