"""What is drawn of I(t) and I(q)."""

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import Saxs


def counts(n=90, n_roi=3, seed=0):
    return np.random.default_rng(seed).poisson(40, (n, n_roi)).astype(np.float32) / [1, 10, 4000]


def traced(values, step=10, **options):
    trace = views.IntensityTrace(values.shape[1], **options)
    for start in range(0, len(values), step):
        trace.add(start, values[start : start + step])
    return trace


def seen(trace, roi=0, n_frames=90, n_pixels=(5, 10, 20)):
    return views.intensity_view(trace, roi, n_pixels=n_pixels, n_frames=n_frames, frame_time_s=0.5)


def test_every_roi_is_in_units_of_its_mean_and_the_total_counts_all_pixels():
    values = counts()
    view = seen(traced(values), roi=1)
    np.testing.assert_allclose(view.relative, (values / values.mean(axis=0)).T, rtol=1e-6)
    total = values @ [5, 10, 20]
    np.testing.assert_allclose(view.total, total / total.mean(), rtol=1e-6)
    np.testing.assert_array_equal(view.age_s, np.arange(90) * 0.5)
    np.testing.assert_array_equal(view.lower, view.relative[1])
    assert view.words == f"{values[:, 1].mean():.3g} counts/px/frame"


@pytest.mark.parametrize("step", [1, 7, 64, 333])
def test_a_long_series_is_kept_in_bins_that_lose_no_drop_of_a_single_frame(step):
    values = counts(333)
    values[200], values[50:52] = 0, np.nan
    trace = traced(values, step, most=16)
    assert trace.frames_per_bin == 32
    view = seen(trace, n_frames=333)
    assert len(view.age_s) == 11
    assert view.age_s[[0, -1]].tolist() == [15.5 * 0.5, (320 + 332) / 2 * 0.5]
    means = np.array([np.nanmean(values[at : at + 32], axis=0) for at in range(0, 333, 32)])
    np.testing.assert_allclose(view.relative, (means / means.mean(axis=0)).T, rtol=1e-6)
    assert view.lower[200 // 32] == 0
    assert view.low < 0.05
    assert (view.upper >= view.relative[0]).all()


def test_frames_may_come_again_and_those_from_the_first_on_replace_all():
    values = counts()
    trace = traced(values + 1)
    trace.add(30, values[30:])
    np.testing.assert_allclose(trace.drawn(90)[1][30:], values[30:])
    trace.add(0, values[:40])
    np.testing.assert_allclose(trace.drawn(90)[1], values[:40])


def test_a_stored_series_of_any_length_is_read_in_part():
    trace = views.IntensityTrace(10)
    assert trace.to_read(1000, 100) == slice(100, 1000, 1)
    part = trace.to_read(10_000_000)
    assert part.step == 25
    trace.add(0, np.ones((len(range(0, 10_000_000, part.step)), 10)), step=part.step)
    assert trace.n_frames == 10_000_000
    assert np.isfinite(trace.drawn(10_000_000)[1]).all()


def test_missing_frames_and_a_roi_without_counts_are_gaps_and_one_flash_hides_nothing():
    values = counts()
    values[10:20], values[:, 2] = np.nan, 0
    values[40, 0] = 1e5
    view = seen(traced(values))
    assert np.flatnonzero(np.isnan(view.relative[1])).tolist() == list(range(10, 20))
    assert np.isnan(view.relative[2]).all()
    assert view.high < 4
    assert seen(traced(values), roi=2).words == "no counts known"


@pytest.mark.parametrize("trace", [None, views.IntensityTrace(3), traced(counts() * np.nan)])
def test_where_nobody_counted_there_is_no_panel(trace):
    assert seen(trace) is None


def saxs(q=1.0):
    radius = np.arange(20.0)
    mean = 100 / (1 + radius)
    mean[3], mean[5] = np.nan, 0
    return Saxs(
        radius_px=radius, q_inv_angstrom=1e-3 * radius * q, mean=mean, n_pixels=np.ones(20, int)
    )


def test_i_of_q_has_the_rois_on_it_and_only_what_a_logarithmic_axis_takes():
    view = views.saxs_view(saxs(), 1, (0.0025, 0.010, np.nan, 5.0))
    assert (view.x > 0).all()
    assert len(view.x) == 17  # not the beam, the empty ring and the dark one
    assert view.x_label == "q (Å⁻¹)"
    assert view.roi.tolist() == [0, 1]
    np.testing.assert_allclose(view.roi_counts[1], 100 / 11)
    assert view.low < view.counts.min()
    assert view.high > view.counts.max()


def test_without_geometry_it_is_against_the_radius_and_without_a_beam_there_is_none():
    view = views.saxs_view(saxs(np.nan), 0, (0.01,))
    assert (view.x[0], view.x_label) == (1, "radius (px)")
    assert not view.roi.size
    assert views.saxs_view(None, 0, (0.01,)) is None
