"""The words of a run."""

import math

import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.run import Status


@pytest.mark.parametrize(
    ("start", "title"),
    [
        ({"scan_id": 77, "sample": "silica"}, "Scan 77 · 12345678 · silica · eiger"),
        ({"sample": {"name": "gel"}}, "Run · 12345678 · gel · eiger"),
        ({"sample_name": "x" * 99}, "Run · 12345678 · " + "x" * 99 + " · eiger"),
        ({}, "Run · 12345678 · eiger"),
    ],
)
def test_a_run_is_called_by_its_scan_and_sample(start, title):
    assert views.run_title(start, "1234567890", "eiger", "") == title


def test_a_roi_is_called_by_its_label_and_q():
    assert views.roi_title(3, 0.00212) == "ROI 3, q = 0.00212 Å⁻¹"
    assert views.roi_title(3, math.nan) == "ROI 3"


@pytest.mark.parametrize("labels", [(1,), (1, 2), (1, 2, 3)])
def test_the_first_roi_to_be_shown_is_the_middle_one(labels):
    assert views.default_roi(labels) == {1: 0, 2: 1, 3: 1}[len(labels)]


def test_a_roi_that_somebody_wants_is_shown_where_the_run_has_it():
    assert views.default_roi((1, 2, 3), 3) == 2
    assert views.default_roi((1, 2), 3) == 1


def test_facts_are_what_is_known():
    status = Status(n_processed=40, n_skipped=10, lag_s=1.25, contrast=(0.123, 0.2))
    known = {"n_frames": 50, "n_expected": 60, "frame_time_s": 0.01}
    assert views.facts(status, 1, **known, counts=2.0, live=True) == [
        ("frames", "50 of 60"),
        ("contrast β*", "0.200"),
        ("counts", "2 /px/frame"),
        ("dose", "80 counts/px"),
        ("behind the detector", "1.25 s"),
        ("skipped frames", "10"),
        ("frame time", "10 ms"),
    ]
    per_frame = views.facts(status, 1, **known, time_unit="frame", counts=2.0, live=True)
    assert per_frame[-1] == ("frame time", "unknown")
    known["n_expected"] = None
    found = dict(views.facts(Status(), 1, **known, counts=math.nan, live=False))
    assert found == {
        "frames": "50",
        "contrast β*": "–",
        "skipped frames": "0",
        "frame time": "10 ms",
    }


def test_reasons_have_words_and_markers_also_new_ones():
    assert views.reason_words("too_slow") == "too slow: upper limit"
    assert views.reason_words("something_new") == "something new"
    assert views.reason_words("") == "recommended"
    assert views.reason_marker("too_slow") == "v"
    assert views.reason_marker("something_new") not in ("v", "^")


def test_rates_of_the_live_line_are_per_frame_where_nobody_knows_the_frame_period():
    rates = {1: "0.1 +- 0.02"}
    assert "Gamma now (1/s): ROI 1 0.1" in views.progress_line(Status(), None, rates)
    assert "Gamma now (1/frame): ROI 1" in views.progress_line(Status(), None, rates, "frame")


def test_a_message_says_each_sentence_once():
    assert views.message("A.", "", "B.", "A.") == "A. B."
    assert views.message("Analysis failed: No ROI.", "No ROI.") == "Analysis failed: No ROI."
    both = "Frame 1. Left out: frame 10."
    assert views.message("Frame 1.", "Left out: frame 10.") == both, "a part is not the whole"
    assert views.message("The beam was off.", "The beam was off. It is back.").count("off") == 1


@pytest.mark.parametrize(
    ("end_s", "label"),
    [(60.0, "age (s)"), (1000.0, "age (min)"), (1e5, "age (h)"), (0.0, "age (s)")],
)
def test_ages_of_a_long_series_are_in_minutes_or_hours(end_s, label):
    assert views.in_unit("age (s)", "s", end_s) == label
    assert views.in_unit("age (s)", "frame", end_s) == "age (frames)"
    assert views.in_unit("Γ (1/s)", "s", end_s) == "Γ (1/s)"


def test_what_is_missing_is_explained():
    assert views.why_not_denoised(30, 50, final=False) == "denoised from 50 frames on"
    assert views.why_not_denoised(50, 50, final=False) == "not denoised"
    assert views.why_not_denoised(30, 50, final=True) == "not denoised"
    assert views.why_not_denoised(30, 50, final=False, has_denoiser=False) == "no denoiser"
    assert views.why_no_rates(50, final=False) == "waiting for the first 50 frames"
    assert views.why_no_rates(50, final=True) == "no fit converged"
    assert views.why_no_frames(final=False) == "waiting for frames"
    assert views.why_no_frames(final=True) == "no frames"


def test_axes_without_a_known_frame_time_are_in_frames():
    assert views.in_unit("age (s), worth 3 independent points", "s").startswith("age (s)")
    frames = [views.in_unit(label, "frame") for label in ("delay (s)", "typical Γ (1/s)")]
    assert frames == ["delay (frames)", "typical Γ (1/frame)"]


@pytest.mark.parametrize(
    ("caution", "words"),
    [
        ("", ""),
        (
            "static_not_excluded:1.24",
            "static speckle is not excluded: Γ up to 1.24 times as high",
        ),
        (
            "baseline_below_1 of_tomorrow:2.00",
            "the baseline is below 1: intensity drifts inside the ROI; of tomorrow: Γ up to 2.00 "
            "times as high",
        ),
    ],
)
def test_cautions_have_words_with_their_factor(caution, words):
    assert views.caution_words(caution) == words
    verdict = views.verdict_words("", caution)
    assert verdict == ("recommended" if not words else f"recommended; {words}")
