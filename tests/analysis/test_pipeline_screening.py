"""Analysis: frames that do not belong, bad pixels, and the limits of memory."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, analyse, simulate_speckle
from xpcs_live_denoise.analysis.heterogeneity import RoisHeterogeneity
from xpcs_live_denoise.analysis.rates import SeriesRates
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

ROIS = RoiMap.from_labels(np.repeat([[3], [7]], 450, axis=1).reshape(30, 30))
RATE = 0.05
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 200, relaxation_rate=RATE, mean_counts=3.0, seed=3))
)


def settings(**fields):
    return Settings(**{"detector": "d", "denoise": False, **fields})


def analysis(rois=ROIS, **fields):
    return Analysis(settings(**fields), rois, frame_time_s=0.1)


def pushed(frames, step=200, **fields):
    made = analysis(**fields)
    for start in range(0, len(frames), step):
        made.push(frames[start : start + step])
        if start % 60 == 0:
            made.publish(0)
    return made.finish()


@pytest.fixture(scope="module")
def damaged():
    frames = FRAMES.copy()
    frames[60:63] = 0
    frames[100] = frames[99]
    frames[150] = FRAMES[0]
    frames[199] = FRAMES[0]  # the last one: no neighbour tells
    return frames


@pytest.mark.parametrize("step", [1, 7, 200])
def test_live_and_offline_leave_the_same_frames_out(damaged, step):
    result = pushed(damaged, step)
    assert result.status.skipped == ((60, 63), (100, 101), (150, 151))
    assert (result.status.n_seen, result.status.n_processed) == (200, 195)
    assert (result.status.n_skipped, result.status.n_masked) == (5, 5)
    offline = analyse(damaged, settings(), rois=ROIS)
    assert offline.status.skipped == result.status.skipped
    assert "frame 150: unlike both neighbours" in offline.status.message
    np.testing.assert_allclose(result.c2, offline.c2, rtol=1e-5)
    missing = np.isnan(result.c2[0]).all(axis=1)
    assert np.flatnonzero(missing).tolist() == [60, 61, 62, 100, 150]


def test_the_rest_of_c2_is_what_it_would_be_without_the_outliers(damaged):
    kept = np.setdiff1d(np.arange(199), [60, 61, 62, 100, 150])
    result, clean = pushed(damaged), pushed(FRAMES)
    np.testing.assert_allclose(
        result.c2[:, kept][:, :, kept], clean.c2[:, kept][:, :, kept], rtol=1e-5
    )


def test_with_one_frame_in_twenty_masked_g2_and_fits_agree_within_noise():
    frames = FRAMES.copy()
    bad = np.arange(9, 200, 20)
    frames[bad] = 0
    result, clean = pushed(frames), pushed(FRAMES)
    assert result.status.n_masked == 10
    lags = slice(0, 40)
    difference = (result.g2.g2 - clean.g2.g2)[:, lags]
    assert np.isfinite(result.g2.g2).all()
    assert (np.abs(difference) < 3 * clean.g2.g2_error[:, lags]).mean() > 0.9
    rates = []
    for one in (result, clean):
        rows = one.gamma.select((one.gamma.source == "bayes") & one.gamma.converged)
        rates.append(np.median(rows.relaxation_rate) * 0.1)
    assert abs(rates[0] / rates[1] - 1) < 0.1
    assert abs(rates[0] / RATE - 1) < 0.2


def test_a_frame_that_waits_counts_as_taken_and_is_decided_by_the_next():
    made = analysis()
    made.push(FRAMES[:60])
    made.push(FRAMES[150])
    assert (made.n_frames, made.n_taken) == (60, 61)
    assert made.publish(0).status.n_seen == 60
    made.push(FRAMES[60])
    assert (made.n_frames, made.n_taken) == (62, 62)
    assert made.publish(0).status.skipped == ((60, 61),)


def test_a_frame_that_waits_is_accepted_at_the_end_and_before_a_gap():
    made = analysis()
    made.push(FRAMES[:60])
    made.push(FRAMES[150])
    made.push_gap(2)
    made.push(FRAMES[60:90])
    made.push(FRAMES[20])
    result = made.finish()
    assert result.c2.shape == (2, 94, 94)
    assert result.status.skipped == ((61, 63),)
    assert result.status.n_masked == 0


def test_flag_keeps_the_frames_and_tells(damaged):
    result = pushed(damaged, outliers="flag")
    assert result.status.n_skipped == 0
    assert "frame 150" in result.status.message
    assert np.isfinite(result.c2[:, 150, 100]).all()


@pytest.mark.parametrize(("dtype", "bad"), [(np.uint16, 65535), (np.int32, -1), (float, np.nan)])
@pytest.mark.parametrize("n_before", [0, 3])
def test_bad_pixels_of_the_first_frame_do_not_count(dtype, bad, n_before):
    frames = FRAMES[:60].astype(dtype)
    frames[:, 10, 3:6] = bad
    mask = np.ones((30, 30), bool)
    mask[10, 3:6] = False
    made, clean = analysis(), analysis(ROIS.with_mask(mask))
    for one, series in ((made, frames), (clean, FRAMES[:60])):
        one.push_gap(n_before)
        one.push(series)
    np.testing.assert_allclose(made.finish().c2, clean.finish().c2, rtol=1e-5)
    assert "3 pixels of the ROIs are bad" in made.finish().status.message


def test_a_saturated_pixel_in_one_frame_costs_next_to_nothing():
    frames = FRAMES[:60].copy()
    frames[30, 10, 3] = 65535
    result, clean = pushed(frames), pushed(FRAMES[:60])
    assert result.status.n_skipped == 0
    np.testing.assert_allclose(result.c2, clean.c2, atol=0.1)


def test_a_frame_full_of_nan_is_a_gap():
    frames = FRAMES[:60].astype(np.float32)
    frames[30, 5:20] = np.nan
    result = pushed(frames)
    assert result.status.skipped == ((30, 31),)
    assert "frame 30: too many bad pixels" in result.status.message


def test_a_roi_on_dead_pixels_is_an_error_that_names_it():
    frames = FRAMES[:5].copy()
    frames[:, 16:] = 65535
    labels = np.zeros((30, 30), int)
    labels[:16], labels[20:24] = 3, 7
    with pytest.raises(InvalidInputError, match=r"ROI 7: got 0 good pixels of 120"):
        analysis(RoiMap.from_labels(labels)).push(frames)


@pytest.mark.parametrize("step", [1, 7, 100])
def test_frames_beyond_the_map_are_counted_where_the_engine_has_no_more(step):
    result = pushed(FRAMES[:100], step, engine="skbeam", map_frames=60)
    clean = pushed(FRAMES[:60], engine="skbeam")
    np.testing.assert_allclose(result.c2, clean.c2, rtol=1e-5)
    assert (result.status.n_seen, result.status.n_processed) == (100, 60)
    assert result.status.skipped == ((60, 100),)
    assert result.status.n_masked == 0
    assert "40 frames from frame 60 on were not analysed: engine 'skbeam' takes 60 frames" in (
        result.status.message
    )
    assert "engine 'dense' takes any number" in result.status.message


@pytest.mark.parametrize("at", [70, 130])
def test_when_memory_is_refused_what_was_measured_is_kept(monkeypatch, at):
    whole = TwoTimeAccumulator.append_pixels

    def refused(self, pixels):
        if self.n_frames + len(pixels) > at:
            raise MemoryError
        whole(self, pixels)

    monkeypatch.setattr(TwoTimeAccumulator, "append_pixels", refused)
    made = analysis(map_frames=100)
    for frame in FRAMES[:140]:
        made.push(frame)
        made.publish(0)
    result = made.finish()
    assert result.band.stop == at
    assert result.status.skipped == ((at, 140),)
    assert f"frames from frame {at} on were not analysed: the memory" in result.status.message
    assert set(result.gamma.source) >= {"raw", "path", "bayes", "series_raw"}


@pytest.mark.parametrize("map_frames", [100, 1000])
def test_a_publication_whose_memory_is_refused_says_so_and_loses_nothing(monkeypatch, map_frames):
    made, plain = analysis(map_frames=map_frames), analysis(map_frames=map_frames)

    def refused(*_):
        raise MemoryError

    n = n_plain = 0
    for first in range(0, 140, 10):
        for one in (made, plain):
            one.push(FRAMES[first : first + 10])
        with monkeypatch.context() as patch:
            if first in (70, 100, 110):
                patch.setattr(SeriesRates, "live", refused)
            found = made.publish(n)
        expected = plain.publish(n_plain)
        n_plain = expected.n_frames
        if first in (70, 100, 110):
            assert (found.n_frames, found.c2, found.band, found.gamma) == (n, None, None, None)
            assert "The memory of a publication was refused" in found.status.message
            assert found.status.n_processed == expected.status.n_processed
        else:
            assert "refused" not in found.status.message
            assert found.c2.stop == expected.c2.stop
            assert found.c2.start <= expected.c2.start
            assert found.band.start <= expected.band.start
        if first == 120:  # the ages of the two before, which failed, come, too
            raw, few = (
                set(one.gamma.age_frame[one.gamma.source == "raw"]) for one in (found, expected)
            )
            assert (len(raw), len(few)) == (30, 10)
        n = found.n_frames
    result, expected = made.finish(), plain.finish()
    np.testing.assert_array_equal(result.band.c2, expected.band.c2)
    np.testing.assert_array_equal(result.gamma.source, expected.gamma.source)


@pytest.mark.parametrize("map_frames", [100, 1000])
@pytest.mark.parametrize(
    ("owner", "name", "lacking"),
    [
        (SeriesRates, "final", "most rows of Gamma"),
        (RoisHeterogeneity, "whole", "heterogeneity"),
    ],
)
def test_what_the_end_has_no_memory_for_is_named_and_all_else_is_there(
    monkeypatch, map_frames, owner, name, lacking
):
    def refused(*_, **__):
        raise MemoryError

    monkeypatch.setattr(owner, name, refused)
    made = analysis(map_frames=map_frames)
    made.push(FRAMES[:140])
    result = made.finish()
    assert f"Memory was refused at the end of the series; the result lacks {lacking}" in (
        result.status.message
    )
    assert (result.status.n_processed, result.band.stop) == (140, 140)
    assert set(result.gamma.source) >= {"raw", "path", "bayes", "series_raw"}
    assert np.isfinite(result.g2.g2[:, :10]).all()


@pytest.mark.parametrize("n_gap", [10**15, 40_000_000])
def test_an_absurd_gap_neither_allocates_nor_loops(n_gap):
    made = analysis()
    made.push(FRAMES[:60])
    made.push_gap(n_gap)
    made.push(FRAMES[60:70])
    made.push_gap(n_gap)
    result = made.finish()
    assert result.c2.shape == (2, 60, 60)
    assert result.status.n_skipped == 2 * n_gap + 10
    assert result.status.skipped == ((60, 60 + 2 * n_gap + 10),)


def test_an_absurd_number_of_frames_to_come_reserves_little():
    made = Analysis(settings(), ROIS, frame_time_s=0.1, n_frames=10**12)
    made.push(FRAMES[:100])
    assert made.publish(0).c2.values.base.nbytes < 2 * 4 * 1024 * 1100


def test_frames_of_booleans_are_counts_of_one_and_none():
    frames = FRAMES[:60] > 2
    np.testing.assert_array_equal(pushed(frames).c2, pushed(frames.astype(np.uint16)).c2)
