"""A series whose intensity varies inside a ROI: profile, flat field, and what is said of it."""

import dataclasses
import functools

import numpy as np
import pytest

from tests.support.uneven_speckle import RING, SHAPE, frames_of, intensities, ring_profile
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.records.results import C2Rows

UNEVEN = ring_profile(power=4, cos_2_phi=0.2)
FRAMES = frames_of(intensities(6), UNEVEN, 0.5)


def analysis_of(rois=RING, *, flat_field=None, **fields):
    settings = Settings(detector="cam", denoise=False, **fields)
    return Analysis(settings, rois, frame_time_s=1.0, flat_field=flat_field)


@functools.cache
def finished(**fields):
    analysis = analysis_of(**fields)
    analysis.push(FRAMES)
    return analysis.finish()


def estimated(result):
    return result.gamma.select(result.gamma.source == "path")


def test_intensity_that_varies_smoothly_leaves_no_baseline_and_the_rates_are_right():
    rows, without = estimated(finished()), estimated(finished(profile="off"))
    assert np.median(without.baseline) > 1.05
    assert np.median(rows.baseline) == pytest.approx(1, abs=0.01)
    assert rows.recommended.mean() > 0.95
    assert np.median(rows.relaxation_rate) == pytest.approx(0.1, rel=0.15)
    assert {one.partition(":")[0] for one in rows.caution[rows.recommended]} == {
        "static_not_excluded"
    }
    assert set(rows.caution[~rows.recommended]) <= {""}


def test_static_speckle_is_refused_after_the_profile():
    analysis = analysis_of()
    analysis.push(frames_of(intensities(2, still=0.3), UNEVEN, 1.0))
    result = analysis.finish()
    assert set(estimated(result).reason) == {"static_or_nonuniform"}
    assert not result.gamma.recommended.any()


@pytest.mark.parametrize("sizes", [[1] * 150, [30, 30, 90], [49, 1, 100], [50, 100]])
def test_c2_does_not_depend_on_how_the_series_was_split(sizes):
    analysis = analysis_of()
    for block in np.split(FRAMES, np.cumsum(sizes)[:-1]):
        analysis.push(block)
        analysis.publish(0)
    np.testing.assert_allclose(analysis.finish().c2, finished().c2, rtol=1e-5)


def test_both_engines_divide_by_the_same_profile():
    np.testing.assert_allclose(finished(engine="skbeam").c2, finished().c2, rtol=1e-5)


def test_the_rows_of_the_first_window_are_published_anew_once_its_profile_is_known():
    analysis, rows, last = analysis_of(), [], 0
    for stop in (20, 40, 60, 80):
        analysis.push(FRAMES[stop - 20 : stop])
        publication = analysis.publish(last)
        rows.append(publication.c2)
        last = publication.n_frames
    assert rows[0].start == rows[2].start == 0  # at frame 50 all of them are computed anew
    assert rows[3].start == 60
    np.testing.assert_array_equal(C2Rows.concatenate(rows[1:]).values[0], rows_so_far(analysis))


def rows_so_far(analysis):
    return analysis.publish(0).c2.values[0]


def test_a_uniform_series_is_never_begun_anew():
    analysis = analysis_of()
    frames = frames_of(intensities(6), 1.0, 0.5)
    analysis.push(frames[:40])
    first = analysis.publish(0).c2
    analysis.push(frames[40:80])
    second = analysis.publish(first.stop).c2
    assert second.start == first.stop


def test_a_series_that_ends_within_the_first_window_has_its_profile():
    analysis = analysis_of()
    analysis.push(FRAMES[:45])
    c2 = analysis.finish().c2
    longer = analysis_of(window=45)
    longer.push(FRAMES)
    np.testing.assert_allclose(c2, longer.finish().c2[:, :45, :45], rtol=1e-5)


@pytest.mark.parametrize(("start", "length"), [(10, 5), (40, 30), (0, 80)])
def test_gaps_around_the_first_window_stay_gaps(start, length):
    analysis = analysis_of()
    analysis.push(FRAMES[:start])
    analysis.push_gap(length)
    analysis.push(FRAMES[start + length :])
    c2 = analysis.finish().c2[0]
    missing = np.isnan(c2).all(axis=0)
    assert np.flatnonzero(missing).tolist() == list(range(start, start + length))
    assert np.isfinite(c2[~missing][:, ~missing]).all()


def test_too_few_counts_for_a_profile_are_said_and_nothing_is_lost():
    analysis = analysis_of()
    rng = np.random.default_rng(8)
    dim = np.zeros((50, *SHAPE), np.uint16)
    dim.reshape(50, -1)[np.arange(50), rng.choice(RING.pixels, 50)] = 1  # 50 counts in all
    analysis.push(dim)
    analysis.push(frames_of(intensities(6)[50:], 1.0, 0.5))
    result = analysis.finish()
    assert "Too few counts in the first window for a profile of ROI 1" in result.status.message
    assert result.c2.shape == (1, 150, 150)
    assert estimated(result).converged.any()


def test_a_first_window_in_the_dark_is_said_and_nothing_is_lost():
    analysis = analysis_of(outliers="off")
    analysis.push(np.zeros((60, *SHAPE), np.uint16))
    analysis.push(frames_of(intensities(6)[60:], 1.0, 0.5))
    result = analysis.finish()
    assert "Too few counts in the first window" in result.status.message
    assert estimated(result).recommended.any()


def test_where_no_beam_center_is_known_it_is_said_that_profiles_are_polynomials():
    analysis = analysis_of(dataclasses.replace(RING, center=None))
    analysis.push(FRAMES)
    result = analysis.finish()
    assert "No beam center is known" in result.status.message
    assert np.median(estimated(result).baseline) == pytest.approx(1, abs=0.01)


def test_frames_are_divided_by_the_flat_field():
    white = ring_profile(white=0.3, seed=9)
    image = np.ones(SHAPE)
    image.reshape(-1)[RING.pixels] = white
    analysis = analysis_of(flat_field=image)
    analysis.push(frames_of(intensities(6), UNEVEN * white, 0.5))
    rows = estimated(analysis.finish())
    assert np.median(rows.baseline) == pytest.approx(1, abs=0.01)
    assert rows.recommended.mean() > 0.95


# --- many seeds --------------------------------------------------------------------------------


def final_rows(intensity, profile, seed, counts=0.5):
    analysis = analysis_of()
    analysis.push(frames_of(intensity, profile, counts, seed))
    return estimated(analysis.finish())


@pytest.mark.statistics
def test_a_third_of_the_field_that_stands_still_is_refused_nearly_always():
    refused = [
        (
            final_rows(intensities(seed, n_frames=350, still=0.3), UNEVEN, seed).reason
            == "static_or_nonuniform"
        ).mean()
        for seed in range(60, 80)
    ]
    assert np.mean(refused) >= 0.9


@pytest.mark.statistics
def test_a_tenth_that_stands_still_lies_within_the_factor_of_the_caution():
    held = []
    for seed in range(80, 100):
        rows = final_rows(intensities(seed, n_frames=350, still=0.1), 1.0, seed)
        rows = rows.select(rows.recommended)
        if len(rows):
            factor = float((str(rows.caution[0]).partition(":")[2]) or 1)
            held.append(np.log(0.1 / np.median(rows.relaxation_rate)) < np.log(factor))
    assert len(held) >= 17
    assert np.mean(held) >= 0.9


@pytest.mark.statistics
def test_white_noise_of_the_flat_field_is_recommended_nearly_always():
    recommended = [
        final_rows(
            intensities(seed, n_frames=350), UNEVEN * ring_profile(white=0.16, seed=seed), seed
        ).recommended.mean()
        for seed in range(100, 120)
    ]
    assert np.mean(recommended) >= 0.9
