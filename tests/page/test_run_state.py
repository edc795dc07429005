"""What is known of a run, merged from what is stored and what comes, and what is shown of it."""

import json

import numpy as np
import pandas as pd
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.page.run_state import RunState
from xpcs_live_denoise.views.g2 import NO_CURVE

N, ROIS, Q = 40, [1, 2, 3], [0.01, 0.02, 0.04]


def state(n_frames=N, *, stop=False, n_expected=N):
    made = RunState("u")
    xpcs = {"roi": ROIS, "q_inv_angstrom": Q, "frame_time_s": 0.5, "n_expected": n_expected}
    metadata = {"start": {"xpcs": xpcs}, "n_frames": n_frames}
    made.set_metadata(metadata | ({"stop": {"exit_status": "success"}} if stop else {}))
    made.complete = stop
    return made


def decay(n=N, rate=0.05, beta=0.2):
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    noise = np.random.default_rng(0).normal(0, 0.005, (n, n))
    return (1 + beta * np.exp(-2 * rate * lag) + noise + noise.T).astype(np.float32)


def with_c2(made, denoised=False):
    made.map_of(0)
    made.data.patch_c2(decay(made.n_frames)[np.newaxis], (0, 0, 0))
    if denoised:
        made.band_of(0, 10)
        block = np.full((1, 10, 10), 1.5, np.float32)
        made.data.patch_band("c2_band_denoised", block, (0, 5, 0))
    return made


def rows(synthetic, **columns):
    """Rows as the table of the stream gives them: a ROI and age each."""
    frame = synthetic(n_roi=3, n_frames=N).gamma(range(4)).to_pandas().assign(**columns)
    return frame if "seq_num" in frame else frame.assign(seq_num=np.arange(1, len(frame) + 1))


def test_a_block_reaches_the_maps_and_bands_of_the_rois_that_someone_looks_at():
    shown = with_c2(state(), denoised=True).two_time(0)
    np.testing.assert_allclose(shown.raw, decay())
    assert (np.diagonal(shown.denoised)[5:15] == 1.5).all()
    assert (shown.denoised[14, 5:15] == shown.denoised[5:15, 14]).all()
    assert (shown.denoised[14, 5:15] == 1.5).all()
    np.testing.assert_array_equal(shown.denoised[20:, :], shown.raw[20:, :])
    assert shown.edge_s == 20.0  # 40 frames of 0.5 s
    assert len(with_c2(state()).two_time(1).raw) == 0


def test_a_result_of_an_earlier_version_has_its_denoised_square_over_the_map():
    made = with_c2(state(5000, n_expected=None))
    made.square_of(0).patch(np.full((40, 40), 1.5, np.float32), (0, 0))
    shown = made.two_time(0)
    assert made.map_of(0).stride == made.square_of(0).stride == 4
    assert shown.edge_s == pytest.approx(2500.0, rel=0.01)
    assert shown.strip is None
    assert shown.denoised.shape == shown.raw.shape
    assert np.nanmax(shown.denoised) == 1.5


def long_state(n=5000, n_expected=100_000):
    """A live series in bins of 8 frames, with its band."""
    made = state(n, n_expected=n_expected)
    made.map_of(0).patch(decay(n=1024), (0, 0))  # of before
    assert made.data.set_bins(8)
    made.map_of(0)
    made.data.patch_c2(decay(n // 8)[np.newaxis] + 1, (0, 0, 0))
    band = made.band_of(0, 50)
    rows = np.random.default_rng(0).normal(1.2, 0.01, (1, n, 50)).astype(np.float32)
    band.add(0, rows[:, :4992:16], rows[:, :4992:16] + np.float32(0.1), step=16)
    for name, by in (("c2_band", 0.0), ("c2_band_denoised", 0.1)):
        made.data.patch_band(name, rows[:, -300:] + np.float32(by), (0, n - 300, 0))
        made.data.patch_band(name, np.zeros((1, 1, 1), np.float32), (0, 2 * n, 49))  # it grew
    return made


def test_a_map_that_got_larger_bins_has_short_lags_beside_it():
    made = long_state()
    shown = made.two_time(0)
    assert shown.raw_title == "Raw C2, 8 frames/bin"
    assert (shown.edge_s, shown.series_s) == (2504.0, 50_000.0)  # 313 squares of 16 frames
    assert shown.raw.shape == (313, 313)
    assert np.nanmin(shown.raw) > 1.9, "rows of before are gone"
    assert shown.denoised is None
    assert shown.title == "Short lags, denoised"
    assert shown.strip.values.shape[0] == 49
    assert shown.strip.end_s == pytest.approx(2500, rel=0.01)
    assert np.isfinite(shown.strip.values).all()
    np.testing.assert_allclose(shown.strip.values, 1.3, atol=0.05)


def test_g2_of_a_long_live_series_has_short_lags_of_its_band_and_long_ones_of_its_map():
    shown = long_state().g2(0)
    assert shown.raw.delay_s[0] == 0.5
    near = shown.raw.delay_s < 25
    np.testing.assert_allclose(shown.raw.g2[near], 1.2, atol=0.01)
    np.testing.assert_allclose(shown.raw.g2[~near][-20:], 2.0, atol=0.05)
    np.testing.assert_allclose(shown.denoised.g2, 1.3, atol=0.02)


def test_nothing_is_shown_before_the_first_frame():
    empty = state(0)
    assert len(empty.two_time(0).raw) == 0
    assert empty.g2(0).raw is NO_CURVE
    assert len(empty.gamma(0).points["recommended"]) == 0
    assert empty.detector(0) is None


def test_g2_of_a_live_run_is_that_of_its_c2_so_far_with_a_fit():
    raw = with_c2(state()).g2(0).raw
    assert raw.delay_s[0] == 0.5
    np.testing.assert_allclose(raw.g2[0], 1 + 0.2 * np.exp(-0.1), atol=0.01)
    truth = 1 + 0.2 * np.exp(-2 * 0.05 * raw.fit_delay_s / 0.5)
    np.testing.assert_allclose(raw.fit_g2, truth, atol=0.02)


def test_g2_of_a_finished_run_is_the_stored_one():
    made = with_c2(state(stop=True), denoised=True)
    made.data.g2 = {
        "delay_s": np.arange(1, N) * 0.5,
        "g2": np.full((3, N - 1), 1.25),
        "g2_error": np.full((3, N - 1), 0.01),
    }
    shown = made.g2(0)
    assert set(shown.raw.g2) == {1.25}
    np.testing.assert_allclose(shown.raw.upper, 1.26)
    assert shown.denoised is NO_CURVE


def test_between_the_stop_and_the_last_array_g2_is_still_that_of_c2():
    made = with_c2(state())
    made.data.g2 = {"delay_s": np.arange(1, N) * 0.5, "g2": np.zeros((3, N - 1))}
    before = made.g2(0).raw.g2
    made.set_metadata({**made.metadata, "stop": {"exit_status": "success"}})
    assert not made.live
    np.testing.assert_array_equal(made.g2(0).raw.g2, before)


def test_gamma_is_that_of_the_rows_that_count_whatever_their_order(synthetic):
    first = rows(synthetic, source="bayes")
    again = first.assign(seq_num=first["seq_num"] + 100, relaxation_rate=2.0)
    final = first.assign(seq_num=first["seq_num"] + 200, relaxation_rate=3.0, final=True, width=7)
    made = state()
    for table, rate in ((first, 1.0), (again, 2.0), (again, 2.0), (first, 2.0), (final, 3.0)):
        made.append("gamma", table)
        assert set(made.gamma(1).points["recommended"].relaxation_rate) == {rate}
        assert len(made.data.gamma) == len(first)
    made.append("gamma", first)  # late provisional rows change nothing
    assert set(made.data.gamma.relaxation_rate) == {3.0}
    made.append("gamma", first, afresh=True)
    assert set(made.data.gamma.relaxation_rate) == {1.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"spread": 0.5, "spread_error": 0.1, "found": true}]', "ln Γ fluctuates by 0.50 ± 0.10"),
        ('[{"lag": [2.0], "chi": [0.1], "chi_error": [null], "spread": null}]', "not known yet"),
        (None, "not known yet"),
        ("nonsense", "not known yet"),
        ("[1]", "not known yet"),
    ],
)
def test_the_heterogeneity_is_that_of_the_newest_status(text, words):
    made = state()
    made.append("status", pd.DataFrame([{"seq_num": 1, "time": 9.0, "heterogeneity": text}]))
    assert made.heterogeneity(0).words == words
    assert made.heterogeneity(2).words == "not known yet"


def test_the_model_stands_in_the_place_of_the_denoised_c2(synthetic):
    made = with_c2(state(), denoised=True)
    assert made.two_time(0, model=True).denoised is None
    assert made.two_time(0, model=True).note == "no path"
    columns = {"beta": 0.2, "alpha": 1.0, "baseline": 1.0, "relaxation_rate": 0.1}
    made.append("gamma", rows(synthetic, source="path", **columns))
    shown = made.two_time(0, model=True)
    assert shown.title == views.MODEL_TITLE
    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    expected = np.where(lag > 0, 1 + 0.2 * np.exp(-0.1 * lag), shown.raw)  # 0.05 a frame
    np.testing.assert_allclose(shown.denoised, expected, rtol=1e-5)
    assert made.two_time(0).title == "Denoised C2"
    assert np.nanmax(made.two_time(0).denoised) == 1.5


def test_the_model_of_a_long_series_is_thinned_as_its_map(synthetic):
    made = state(n_frames=5000, n_expected=5000)
    made.map_of(0).patch(decay(), (0, 0))
    made.append("gamma", rows(synthetic, source="path", relaxation_rate=0.1, beta=0.2, alpha=1.0))
    shown = made.two_time(0, model=True)
    assert shown.denoised.shape == shown.raw.shape


def test_gamma_against_q_has_its_exponent(synthetic):
    made, table = state(), rows(synthetic, source="bayes")
    q = np.array(Q)[table["roi"] - 1]
    rate = 100 * q**2
    table = table.assign(relaxation_rate=rate, relaxation_rate_error=1e-4 * rate)
    made.append("gamma", table.assign(q_inv_angstrom=q))
    assert "n = 2.00 ± 0.00" in made.power_law().words


def test_the_detector_is_drawn_with_the_binning_that_is_stored():
    made = state()
    labels = np.zeros((8, 8), np.int32)
    labels[1:4], labels[5:8] = 1, 2
    made.data.picture = {"image": np.ones((8, 8), np.float32), "roi_labels": labels}
    made.data.picture_facts = {"binning": 4, "n_frames": 7}
    shown = made.detector(1)
    assert shown.size == (32, 32)
    assert "7 frames" in shown.title
    assert (shown.outline[5] == views.CHOSEN_EDGE).all()
    made.data.patch_picture("image", np.full((2, 2), 5, np.float32), (1, 1))
    made.touch()
    assert made.detector(1).mean[1:3, 1:3].tolist() == [[5, 5], [5, 5]]


def test_a_view_is_made_once_for_all_pages_and_anew_after_a_change():
    made = with_c2(state())
    shown = made.two_time(0)
    assert made.two_time(0) is shown
    made.touch()
    assert made.two_time(0) is not shown


def test_metadata_that_come_late_take_nothing_back():
    made = state(20)
    made.set_metadata({**made.metadata, "n_frames": 10})
    assert made.n_frames == 20
    made.set_metadata({**made.metadata, "stop": {"exit_status": "fail"}})
    made.set_metadata({"start": made.metadata["start"], "n_frames": 30})
    assert not made.live


@pytest.mark.parametrize("text", ["[0.25, null]", "", None, "{"])
def test_lists_of_the_status_are_decoded_and_nonsense_is_none(text):
    made = state()
    row = {"seq_num": [3], "contrast": [text], "baseline": ["[]"], "lag_s": [None]}
    made.append("status", pd.DataFrame(row | {"n_processed": [7], "message": ["well"]}))
    made.append("status", pd.DataFrame(row | {"seq_num": [2], "contrast": ["[9]"]}))
    status = made.data.status
    expected = [0.25, np.nan] if text == "[0.25, null]" else []
    np.testing.assert_array_equal(status.contrast, expected)
    assert (status.n_processed, status.message) == (7, "well")
    assert "behind the detector" not in dict(made.facts(0))
    json.dumps(made.facts(0), allow_nan=False)
