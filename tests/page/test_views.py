"""What the plots show of a run's state."""

import json

import numpy as np
import pytest

from xpcs_live_denoise.page import views
from xpcs_live_denoise.page.run_state import RunState, merged
from xpcs_live_denoise.records.results import GammaTable

N, ROIS, Q = 40, [1, 2, 3], [0.01, 0.02, 0.04]


def state(n_frames=N, *, stop=False):
    made = RunState("u")
    xpcs = {"roi": ROIS, "q_inv_angstrom": Q, "frame_time_s": 0.5, "n_expected": N}
    metadata = {"start": {"xpcs": xpcs}, "n_frames": n_frames}
    made.set_metadata(metadata | ({"stop": {"exit_status": "success"}} if stop else {}))
    made.complete = stop
    return made


def decay(n=N, rate=0.05, beta=0.2):
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    noise = np.random.default_rng(0).normal(0, 0.005, (n, n))
    return (1 + beta * np.exp(-2 * rate * lag) + noise + noise.T).astype(np.float32)


def with_c2(made, denoised=False):
    made.map_of(0, "c2")
    made.patch("c2", decay(made.n_frames)[np.newaxis], (0, 0, 0))
    if denoised:
        made.map_of(0, "c2_denoised")
        made.patch("c2_denoised", np.full((1, 10, 10), 1.5, np.float32), (0, 5, 5))
    return made


def rows(synthetic, **columns):
    """Rows as the table of the stream gives them: a ROI and age each."""
    table = synthetic(n_roi=3, n_frames=N).gamma(range(4))
    table = table.replace(**{name: np.asarray(value) for name, value in columns.items()})
    frame = table.to_pandas()
    return frame.assign(seq_num=np.arange(1, len(frame) + 1))


def test_both_c2_share_a_colour_scale_and_denoised_is_raw_where_no_window_was():
    shown = views.two_time(with_c2(state(), denoised=True), 0)
    raw, denoised = shown["raw"]["image"][0], shown["denoised"]["image"][0]
    np.testing.assert_allclose(raw, decay())
    assert (denoised[5:15, 5:15] == 1.5).all()
    np.testing.assert_array_equal(denoised[20:, :], raw[20:, :])
    assert shown["raw"]["dw"] == [20.0]  # 40 frames of 0.5 s
    assert 0.97 < shown["low"] < shown["high"] < 1.25


def test_nothing_is_shown_before_the_first_frame():
    empty = state(0)
    assert views.two_time(empty, 0)["raw"] is None
    assert views.one_time(empty, 0)["raw"]["x"] == []
    assert views.rates(empty, 0)["recommended"]["x"] == []
    assert views.detector(empty, 0) is None


def test_g2_of_a_live_run_is_that_of_its_c2_so_far_with_a_fit():
    shown = views.one_time(with_c2(state()), 0)
    np.testing.assert_allclose(shown["raw"]["x"][0], 0.5)
    assert max(shown["raw"]["x"]) <= 0.85 * 39 * 0.5
    np.testing.assert_allclose(shown["raw"]["y"][0], 1 + 0.2 * np.exp(-0.1), atol=0.01)
    fit = shown["raw_fit"]
    truth = 1 + 0.2 * np.exp(-2 * 0.05 * np.asarray(fit["x"]) / 0.5)
    np.testing.assert_allclose(fit["y"], truth, atol=0.02)


def test_a_long_live_series_has_the_same_g2_without_error_bars(monkeypatch):
    made = with_c2(state())
    made.map_of(0, "c2").full(N)[3] = np.nan
    short = views._g2(made, 0, "raw")
    monkeypatch.setattr(views, "MOST_WITH_ERRORS", N - 1)
    long = views._g2(made, 0, "raw")
    np.testing.assert_allclose(long[1][: N // 2], short[1][: N // 2], rtol=5e-3)
    assert np.isnan(long[2]).all()
    c2 = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(views.means_of_diagonals(c2), [3.0, 2.0])
    assert len(views.one_time(made, 0)["raw_fit"]["x"]) == views.CURVE_POINTS


def test_g2_of_a_finished_run_is_the_stored_one():
    made = state(stop=True)
    made.g2 = {
        "delay_s": np.arange(1, N) * 0.5,
        "g2": np.full((3, N - 1), 1.25),
        "g2_error": np.full((3, N - 1), 0.01),
    }
    shown = views.one_time(made, 1)
    assert set(shown["raw"]["y"]) == {1.25}
    np.testing.assert_allclose(shown["raw"]["upper"], 1.26)
    assert shown["denoised"]["x"] == []


def test_between_the_stop_and_the_last_array_g2_is_still_that_of_c2():
    made = with_c2(state())
    made.g2 = {"delay_s": np.arange(1, N) * 0.5, "g2": np.zeros((3, N - 1))}  # its error to come
    before = views.one_time(made, 0)["raw"]["y"]
    made.set_metadata({**made.metadata, "stop": {"exit_status": "success"}})
    assert not made.live
    np.testing.assert_array_equal(views.one_time(made, 0)["raw"]["y"], before)


def test_rates_are_told_apart_by_source_and_trust(synthetic):
    made = state()
    made.append("gamma", rows(synthetic, recommended=False, reason="bayes_is_better"))
    made.append("gamma", rows(synthetic, source="bayes", final=True).assign(seq_num=range(20, 32)))
    doubtful = rows(synthetic, source="bayes_early", recommended=False, reason="prior")
    doubtful = doubtful.assign(age_frame=doubtful["age_frame"] + 10, seq_num=range(40, 52))
    made.append("gamma", doubtful)
    shown = views.rates(made, 1)
    assert {kind: len(points["x"]) for kind, points in shown.items()} == {
        "raw": 4,
        "denoised": 0,
        "recommended": 4,
        "doubtful": 4,
    }
    assert set(shown["recommended"]["filled"]) == {1.0}
    assert set(shown["raw"]["filled"]) == {0.0}
    assert set(shown["doubtful"]["reason"]) == {views.REASONS["prior"]}
    np.testing.assert_allclose(shown["raw"]["lower"], 0.5)


def test_a_bar_never_reaches_zero_and_many_points_are_thinned(synthetic):
    n = 5 * views.MOST_POINTS
    table = synthetic(n_roi=1, n_frames=N).gamma(range(n)).replace(relaxation_rate_error=9.0)
    made = state()
    made.append("gamma", table.to_pandas().assign(seq_num=np.arange(n)))
    shown = views.rates(made, 0)["recommended"]
    assert len(shown["x"]) == views.MOST_POINTS
    np.testing.assert_allclose(shown["lower"], 0.1)


def test_gamma_against_q_has_its_exponent(synthetic):
    made = state()
    table = rows(synthetic)
    q = np.array(Q)[table["roi"] - 1]
    made.append("gamma", table.assign(q_inv_angstrom=q, relaxation_rate=100 * q**2))
    shown = views.dispersion(made)
    assert shown["title"] == "Γ ∝ q^(2.00 ± 0.00)"
    np.testing.assert_allclose(shown["points"]["x"], np.array(Q) ** 2)
    np.testing.assert_allclose(shown["points"]["y"], 100 * np.array(Q) ** 2)
    assert shown["points"]["n"].tolist() == [4, 4, 4]


def test_without_rates_or_q_the_plot_says_so():
    assert views.dispersion(state())["title"] == "0 of 3 ROIs so far"
    unknown = state()
    unknown.metadata["start"]["xpcs"]["q_inv_angstrom"] = [None] * 3
    assert views.dispersion(unknown)["title"] == "q of the ROIs is not known"


def test_the_detector_shows_the_outlines_of_the_rois_and_the_chosen_one():
    made = state()
    labels = np.zeros((8, 8), np.int32)
    labels[1:4], labels[5:8] = 1, 2
    made.picture = {"image": np.ones((8, 8), np.float32), "roi_labels": labels}
    made.picture_facts = {"binning": 4, "n_frames": 7}
    shown = views.detector(made, 1)
    assert shown["image"]["dw"] == [32.0]
    assert shown["frames"] == 7
    outline = shown["outline"]["image"][0]
    assert (outline[[1, 3]] == 0).all()
    assert (outline[5] == 1).all()
    assert np.isnan(outline[[0, 2, 4]]).all()


def test_rows_that_count_are_the_final_else_the_newest_and_come_once(synthetic):
    first = rows(synthetic)
    again = first.assign(seq_num=first["seq_num"] + 100, relaxation_rate=2.0)
    final = first.assign(seq_num=first["seq_num"] + 200, relaxation_rate=3.0, final=True, width=7)
    together = merged(merged(None, first), again)
    assert set(together["relaxation_rate"]) == {2.0}
    assert len(merged(together, again)) == len(first)
    done = merged(together, final)
    assert set(done["relaxation_rate"]) == {3.0}
    assert len(merged(done, first)) == len(first)  # late provisional rows change nothing
    assert set(merged(done, first)["relaxation_rate"]) == {3.0}


def test_a_view_is_made_once_for_all_pages_and_anew_after_news():
    made = with_c2(state())
    shown = views.two_time(made, 0)
    assert views.two_time(made, 0) is shown
    made.touch()
    assert views.two_time(made, 0) is not shown


def test_news_that_come_late_take_nothing_back():
    made = state(20)
    made.set_metadata({**made.metadata, "n_frames": 10})
    assert made.n_frames == 20
    made.set_metadata({**made.metadata, "stop": {"exit_status": "fail"}})
    made.set_metadata({"start": made.metadata["start"], "n_frames": 30})
    assert not made.live


@pytest.mark.parametrize("text", ["[0.25, null]", "", None, "{"])
def test_lists_of_the_status_are_decoded_and_nonsense_is_none(text):
    import pandas as pd

    made = state()
    row = {"seq_num": [3], "contrast": [text], "baseline": ["[]"], "skipped": ["[[1, 2]]"]}
    made.append("status", pd.DataFrame(row))
    made.append("status", pd.DataFrame(row | {"seq_num": [2], "contrast": ["[9]"]}))
    expected = json.loads(text) if text == "[0.25, null]" else []
    assert made.status["contrast"] == expected
    assert made.status["skipped"] == [[1, 2]]


def test_the_synthetic_rows_have_every_column(synthetic):
    assert set(GammaTable.__slots__) < set(rows(synthetic).columns)
