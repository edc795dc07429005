"""Analysis: what is published while frames come, and what is final."""

import dataclasses
import re
import sys

import numpy as np
import pytest

from xpcs_live_denoise import (
    GammaTable,
    RoiMap,
    Settings,
    denoise_two_time,
    fit_ages,
    simulate_speckle,
)
from xpcs_live_denoise.analysis.rates import LIVE_DELAY
from xpcs_live_denoise.analysis.series import Analysis, append_note, open_ensemble
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.records.run import Status

LABELS = np.zeros((24, 24), int)
LABELS[:12] = 3
LABELS[12:] = 7
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.01, 0.02])
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 90, relaxation_rate=0.05, mean_counts=2.0, seed=3))
)


class Smoother:
    """A denoiser that halves every deviation from one."""

    def denoise(self, windows):
        return (windows + 1) / 2, np.full_like(windows, 0.2)


def analysis(**fields):
    settings = Settings(detector="d", **fields)
    return Analysis(settings, ROIS, frame_time_s=0.1, ensemble=Smoother())


def pushed(blocks, publish_between=False, **fields):
    made = analysis(**fields)
    for block in blocks:
        made.push(block)
        if publish_between:
            made.publish(0)
    return made.finish()


@pytest.mark.parametrize("sizes", [[90], [1] * 90, [7] * 12 + [6]])
def test_the_final_result_does_not_depend_on_how_the_series_was_split(sizes):
    blocks = np.split(FRAMES, np.cumsum(sizes)[:-1])
    whole, parts = pushed([FRAMES]), pushed(blocks, publish_between=True)
    np.testing.assert_allclose(parts.c2, whole.c2, rtol=1e-5)
    np.testing.assert_allclose(parts.denoised.c2, whole.denoised.c2, rtol=1e-5)
    for name in ("relaxation_rate", "alpha", "baseline"):
        np.testing.assert_allclose(
            getattr(parts.gamma, name), getattr(whole.gamma, name), rtol=5e-3, err_msg=name
        )


@pytest.mark.parametrize("mode", ["nonequilibrium", "equilibrium"])
def test_final_results_are_those_of_the_public_functions(mode):
    result = pushed([FRAMES], mode=mode, precision="float64")
    contrast, baseline = estimate_contrast(result.c2, mode=mode)
    np.testing.assert_allclose(result.status.contrast, contrast)
    np.testing.assert_allclose(result.status.baseline, baseline)
    denoised = denoise_two_time(result.c2, Smoother(), mode=mode)
    np.testing.assert_allclose(result.denoised.c2, denoised.c2)
    rows = result.gamma.select(result.gamma.source == "raw")
    expected = fit_ages(result.c2, beta=contrast, frame_time_s=0.1)
    np.testing.assert_allclose(rows.relaxation_rate, expected.relaxation_rate)
    np.testing.assert_allclose(result.g2.g2, g2_from_c2(result.c2)[0])
    np.testing.assert_allclose(result.g2.delay_s, 0.1 * np.arange(1, 90))


def test_rows_carry_the_labels_and_q_of_their_roi():
    gamma = pushed([FRAMES]).gamma
    np.testing.assert_array_equal(np.unique(gamma.roi), [3, 7])
    np.testing.assert_array_equal(gamma.q_inv_angstrom, np.where(gamma.roi == 3, 0.01, 0.02))
    sources = ["bayes", "denoised", "path", "raw", "series_denoised", "series_raw"]
    np.testing.assert_array_equal(np.unique(gamma.source), sources)
    series = gamma.select(np.char.startswith(gamma.source, "series"))
    assert np.isnan(series.age_frame).all()
    assert (series.width == 90).all()
    assert gamma.final.all()


def test_denoised_rows_claim_no_error_and_are_never_recommended():
    gamma = pushed([FRAMES]).gamma
    denoised = gamma.select(np.char.endswith(gamma.source, "denoised"))
    assert np.isnan(denoised.relaxation_rate_error).all()
    assert np.isnan(denoised.reduced_chi_square).all()
    assert set(denoised.error_kind) == {"none"}
    assert not denoised.recommended.any()
    assert (denoised.reason != "").all()
    of_ages = denoised.select(np.isfinite(denoised.age_frame))
    path = gamma.select(gamma.source == "path")  # a row for each, in the same order
    per_frame = path.relaxation_rate * 0.1
    inside = of_ages.converged & (per_frame > 0.02) & (per_frame < 0.15)
    known = path.reason != "no_contrast"
    assert known.sum() > 100
    np.testing.assert_array_equal(of_ages.in_range[known], inside[known])
    assert gamma.select(gamma.source == "path").recommended.any()


def test_while_a_run_is_on_only_rows_of_the_path_are_recommended():
    made, tables = analysis(), []
    for stop in range(30, 91, 30):
        made.push(FRAMES[stop - 30 : stop])
        tables.append(made.publish(0).gamma)
    gamma = GammaTable.concatenate([table for table in tables if table is not None])
    assert set(gamma.source[gamma.recommended]) == {"path"}
    assert (gamma.reason[~gamma.recommended] != "").all()


def test_a_fit_of_the_whole_series_is_never_the_one_to_trust():
    gamma = pushed([FRAMES]).gamma
    series = gamma.select(np.isnan(gamma.age_frame))
    assert not series.recommended.any()
    assert set(series.reason[series.converged & (series.source == "series_raw")]) <= {
        "whole_series",
        "imprecise",
    }
    raw = series.select(series.source == "series_raw")
    assert set(raw.error_kind) == {"jackknife"}


def test_at_most_one_row_is_recommended_for_each_roi_and_age():
    gamma = pushed([FRAMES]).gamma
    trusted = gamma.select(gamma.recommended & ~np.isnan(gamma.age_frame))
    assert len(trusted) > 90
    pairs = set(zip(trusted.roi.tolist(), trusted.age_frame.tolist(), strict=True))
    assert len(pairs) == len(trusted)
    others = gamma.select(~gamma.recommended & ~np.isnan(gamma.age_frame))
    assert (others.reason != "").all()


def test_g2_of_the_denoised_c2_ends_where_the_windows_end():
    g2 = pushed([FRAMES]).g2
    assert np.isfinite(g2.g2_denoised[:, :49]).all()
    assert np.isnan(g2.g2_denoised[:, 49:]).all()


def test_each_age_is_published_once_when_it_has_enough_frames_behind_it():
    made, ages = analysis(), []
    for stop in range(10, 91, 10):
        made.push(FRAMES[stop - 10 : stop])
        news = made.publish(stop - 10)
        assert (news.gamma is None) == (stop < 50)
        if news.gamma is not None:
            assert not news.gamma.final.any()
            raw = news.gamma.select((news.gamma.source == "raw") & (news.gamma.roi == 3))
            ages += raw.age_frame.tolist()
            np.testing.assert_allclose(raw.age_s, 0.1 * (raw.age_frame + 0.25), atol=0.026)
    assert ages == list(range(90 - LIVE_DELAY + 1))


def test_provisional_raw_fits_are_close_to_those_of_the_whole_series():
    made = analysis(contrast_frames=(0, 40), baseline_lags=(30, 40))
    tables = []
    for block in np.split(FRAMES, [60]):
        made.push(block)
        tables.append(made.publish(0).gamma)
    live, final = GammaTable.concatenate(tables), made.finish().gamma
    live, final = (
        table.select((table.source == "raw") & (table.age_frame >= 30) & (table.age_frame < 60))
        for table in (live, final)
    )
    good = live.converged & final.converged
    assert good.sum() > 20
    ratio = live.relaxation_rate[good] / final.relaxation_rate[good]
    assert 0.8 < np.median(ratio) < 1.25


def test_rows_are_handed_out_as_often_as_asked_and_where_windows_changed_them():
    made = analysis()
    made.push(FRAMES[:60])
    first, again = made.publish(0), made.publish(0)
    assert (first.band.start, first.band.stop) == (again.band.start, again.band.stop) == (0, 60)
    np.testing.assert_array_equal(first.c2.values, again.c2.values)
    last = made.publish(60)
    assert last.c2 is None
    assert last.band is None
    made.push(FRAMES[60:70])
    changed = made.publish(60).band
    assert (changed.start, changed.stop) == (15, 70)  # the windows at 15 and 20 are new


def test_a_gap_is_listed_and_its_rows_are_nan():
    made = analysis()
    made.push(FRAMES[:40])
    made.push_gap(2)
    made.push_gap(1)
    made.push(FRAMES[43:])
    result = made.finish()
    assert result.status.skipped == ((40, 43),)
    assert (result.status.n_processed, result.status.n_skipped) == (87, 3)
    gap = np.zeros((90, 90), bool)
    gap[40:43], gap[:, 40:43] = True, True
    np.testing.assert_array_equal(np.isnan(result.c2), np.broadcast_to(gap, result.c2.shape))
    np.testing.assert_array_equal(np.isnan(result.denoised.c2), np.isnan(result.c2))


def test_where_a_roi_has_no_frames_any_more_no_rate_is_recommended():
    made = analysis(outliers="off")
    made.push(FRAMES[:40])
    made.push_gap(8)
    made.push(FRAMES[48:])
    made.push_gap(60)
    gamma = made.finish().gamma
    path = gamma.select((gamma.source == "path") & (gamma.roi == gamma.roi[0]))
    assert path.recommended[path.age_frame < 90].all()  # also in the gap: lags reach across it
    behind = path.select(path.age_frame > 100)
    assert len(behind) == 49
    assert set(behind.reason) == {"no_data"}


def test_an_age_step_gives_fewer_rows_of_the_same_rates():
    fine, coarse = (pushed([FRAMES], age_step=step).gamma for step in ("auto", 4))
    for source, first in (("raw", 0.0), ("denoised", 0.0), ("path", 1.5)):
        rows = coarse.select((coarse.source == source) & (coarse.roi == 3))
        np.testing.assert_array_equal(rows.age_frame, np.arange(first, 90, 4)[: len(rows)])
        assert len(rows) >= 22
    one, other = (t.select((t.source == "path") & (t.roi == 3)) for t in (fine, coarse))
    expected = np.interp(other.age_frame, one.age_frame, one.relaxation_rate)
    assert (abs(other.relaxation_rate - expected) < 0.5 * other.relaxation_rate_error).all()


def test_a_gap_of_no_frames_is_none():
    made = analysis()
    made.push(FRAMES[:60])
    made.push_gap(0)
    assert made.finish().status.skipped == ()


def test_a_roi_without_counts_is_named_and_does_not_disturb_the_others():
    frames = FRAMES.copy()
    frames[:, :12] = 0
    result = pushed([frames])
    assert "No contrast in ROI 3" in result.status.message
    assert np.isnan(result.c2[0]).all()
    rows = result.gamma.select(result.gamma.roi == 3)
    assert not rows.converged.any()
    alone = pushed([FRAMES])
    np.testing.assert_array_equal(result.c2[1], alone.c2[1])


def test_ranges_that_the_series_never_reaches_are_replaced_and_told():
    result = pushed([FRAMES], baseline_lags=(270, 301), contrast_frames=(250, 301))
    default = pushed([FRAMES])
    assert result.status.contrast == default.status.contrast
    assert "baseline_lags lies beyond the 90 frames" in result.status.message


def test_a_series_shorter_than_a_window_has_everything_but_denoised_values():
    result = pushed([FRAMES[:30]])
    assert result.denoised is None
    assert result.g2.g2_denoised is None
    assert "30 frames, fewer than one window of 50" in result.status.message


def test_one_frame_is_a_series_too():
    result = pushed([FRAMES[:1]])
    assert result.c2.shape == (2, 1, 1)
    assert result.g2.g2.shape == (2, 0)


def test_without_torch_the_reason_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    ensemble, why_not = open_ensemble(Settings(detector="d"))
    assert ensemble is None
    assert "torch" in why_not
    assert "pip install" in why_not


def test_weights_that_cannot_be_used_cost_the_denoised_c2_only(tmp_path, caplog):
    ensemble, why_not = open_ensemble(Settings(detector="d", weights=tmp_path / "nowhere"))
    assert ensemble is None
    assert re.match("Nothing denoised: Ensemble .*nowhere: .* cannot be read .*train", why_not)
    assert "nowhere" in caplog.text


def test_of_gaps_alone_nobody_hears_that_they_have_no_contrast():
    made = analysis()
    made.push_gap(60)
    for status in (made.publish(0).status, made.finish().status):
        assert (status.n_processed, status.message) == (0, "")


def test_denoising_can_be_switched_off():
    ensemble, why_not = open_ensemble(Settings(detector="d", denoise=False))
    assert ensemble is None
    assert "denoise" in why_not


def test_notes_are_added_to_a_status_with_one_space():
    status = append_note(append_note(Status(), "One."), "", "Two.")
    assert status.message == "One. Two."
    assert dataclasses.replace(status, message="") == Status()


@pytest.mark.parametrize(("step", "longest"), [(5, 44), (20, 29)])
def test_fits_of_denoised_c2_stop_where_windows_do_not_reach_every_age(step, longest):
    gamma = pushed([FRAMES], step=step).gamma
    denoised = gamma.select(gamma.source == "denoised")
    assert denoised.n_lags.max() == longest
    series = gamma.select(gamma.source == "series_denoised")
    assert (series.n_lags == longest).all()
