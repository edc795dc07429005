"""What a live run makes of the times of its events, of its streams, and what it says at its end."""

import re
import uuid

import event_model
import numpy as np
import pytest

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings
from xpcs_live_denoise.sinks.memory import MemorySink

FRAMES = series(60)
EVERY = 1.7e9 + 0.2 * np.arange(60)


def send_run(
    live, streams, configuration=None, *, exit_status="success", reason="", read=None, **start
):
    """Send a run whose streams are (name, frames, timestamps); return its uid.

    `read` are numbers that each event holds beside the frame.
    """
    read = read or {}
    metadata = {"detectors": ["cam"], **start}
    run = event_model.compose_run(uid=str(uuid.uuid4()), time=1.7e9 - 1, metadata=metadata)
    live("start", run.start_doc)
    key = {"source": "test", "dtype": "array", "shape": list(SHAPE)}
    data = configuration or {}
    described = {"source": "test", "dtype": "number", "shape": []}
    for name, frames, stamps in streams:
        stream = run.compose_descriptor(
            name=name,
            data_keys={"cam_image": key, **dict.fromkeys(read, described)},
            configuration={
                "cam": {
                    "data": data,
                    "timestamps": dict.fromkeys(data, 0.0),
                    "data_keys": dict.fromkeys(data, described),
                }
            },
        )
        live("descriptor", stream.descriptor_doc)
        for frame, stamp in zip(frames, stamps, strict=False):
            values = {"cam_image": frame, **read}
            event = stream.compose_event(data=values, timestamps=dict.fromkeys(values, stamp))
            live("event", event)
    live("stop", run.compose_stop(exit_status=exit_status, reason=reason))
    assert live.wait(60)
    return run.start_doc["uid"]


def ended(subscribe, streams, configuration=None, *, settings=None, **run):
    live, sinks = subscribe(**(settings or {}))
    send_run(live, streams, configuration, **run)
    (sink,) = sinks
    return sink


PERIOD = {"cam-driver-acquire_period": 0.1, "cam-driver-acquire_time": 0.1}


def test_rates_of_frames_that_a_plan_triggers_are_those_of_its_delay(subscribe):
    sink = ended(subscribe, [("primary", FRAMES, EVERY)], PERIOD)
    expected = offline(FRAMES, frame_time_s=0.2)
    for name in ("relaxation_rate", "relaxation_rate_error", "age_s"):
        np.testing.assert_allclose(
            getattr(sink.result.gamma, name), getattr(expected.gamma, name), rtol=1e-4
        )
    np.testing.assert_allclose(sink.result.g2.delay_s, expected.g2.delay_s, rtol=1e-6)
    assert sink.info.frame_time_s == pytest.approx(0.2)  # already of the first publication
    assert "0.2 s is used" in sink.result.status.message


def test_a_period_that_is_read_with_each_frame_is_the_time_axis(subscribe):
    streams = [("primary", FRAMES, np.zeros(60))]
    sink = ended(subscribe, streams, read={"cam_cam_acquire_period": 0.25})
    assert (sink.result.info.time_unit, sink.result.info.frame_time_s) == ("s", 0.25)
    assert sink.info.frame_time_s == 0.25  # already of the first publication
    assert "No document tells" not in sink.end.status.message


def test_the_final_result_asks_all_events(subscribe):
    slower = np.r_[1.7e9 + 0.1 * np.arange(10), 1.7e9 + 2 + 0.3 * np.arange(50)]
    sink = ended(subscribe, [("primary", FRAMES, slower)], PERIOD)
    assert sink.result.info.frame_time_s == pytest.approx(0.3, rel=0.01)
    assert sink.result.g2.delay_s[0] == pytest.approx(0.3, rel=0.01)
    assert "0.3 s is used" in sink.end.status.message


def test_rates_of_an_unknown_period_are_marked_in_every_row(subscribe):
    sink = ended(subscribe, [("primary", FRAMES, np.zeros(60))])
    assert (sink.result.info.time_unit, sink.result.info.frame_time_s) == ("frame", 1.0)
    assert all("per_frame" in caution for caution in sink.result.gamma.caution)
    provisional = [one.gamma for one in sink.publications if one.gamma is not None]
    assert all("per_frame" in one for table in provisional for one in table.caution)
    assert "rates are per frame (1/frame)" in sink.end.status.message


def test_a_dark_stream_first_is_left_out_and_that_is_told(subscribe):
    dark = ("dark", np.zeros_like(FRAMES[:1]), EVERY)
    sink = ended(subscribe, [dark, ("primary", FRAMES, EVERY)], {"cam_cam_acquire_period": 0.2})
    np.testing.assert_allclose(sink.result.c2, offline(FRAMES).c2, rtol=1e-5)
    assert sink.end.analysis_exit_status == "success"
    assert sink.end.status.message.count("left out: 'dark' (1 frame)") == 1


def test_primary_after_a_long_stream_is_analysed_instead(subscribe):
    streams = [("first", FRAMES[:55][::-1], EVERY), ("primary", FRAMES, EVERY)]
    sink = ended(subscribe, streams, {"cam_cam_acquire_period": 0.2})
    np.testing.assert_allclose(sink.result.c2, offline(FRAMES).c2, rtol=1e-5)
    assert (sink.end.status.n_seen, sink.end.status.n_processed) == (60, 60)
    assert "left out: 'first' (55 frames)" in sink.end.status.message


def test_a_stream_that_is_not_there_is_told_with_those_that_are(subscribe):
    sink = ended(subscribe, [("primary", FRAMES[:3], EVERY)], settings={"stream": "light"})
    assert sink.end.reason == (
        "No stream 'light' with the data key 'cam_image' in the run; streams that have it: "
        "'primary'. Set `stream`."
    )


LEFT = FRAMES.copy()
LEFT[1:] = 0
ONE_OTHER = np.repeat(FRAMES[:1], 60, axis=0)
ONE_OTHER[30] = FRAMES[30]
HALVES = np.repeat(FRAMES[[0, 30]], 30, axis=0)
NOISE = np.random.default_rng(3).normal(0.0, 1.0, FRAMES.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("streams", "reason"),
    [
        ([("primary", LEFT, EVERY)], r"Only 1 of 60 frames could be used \(59 left out\)"),
        ([("primary", FRAMES * 0, EVERY)], "No ROI has counts in two of the frames"),
        ([("primary", [FRAMES[0]] * 60, EVERY)], "All frames are the same"),
        ([("primary", FRAMES * 0 + 4, EVERY)], "All frames are the same"),
        ([("dark", FRAMES[:1], EVERY)], "Only 1 of 1 frames could be used"),
        ([("primary", ONE_OTHER, EVERY)], "All but . of 60 frames are the same as the one before"),
        ([("primary", HALVES, EVERY)], "All but . of 60 frames are the same as the one before"),
        ([("primary", NOISE, EVERY)], "The frames hold noise around zero: in no ROI is the mean"),
        ([("primary", np.rint(3 * NOISE).astype(np.int32), EVERY)], "The frames hold noise"),
        ([("primary", FRAMES * np.nan, EVERY)], "None of the 60 frames could be used"),
    ],
    ids=[
        "one left",
        "zeros",
        "repeated",
        "constant",
        "one dark frame",
        "one other",
        "halves",
        "noise",
        "whole noise",
        "NaN",
    ],
)
def test_a_result_that_tells_nothing_is_no_success(subscribe, streams, reason):
    sink = ended(subscribe, streams, {"cam_cam_acquire_period": 0.2}, settings={"denoise": False})
    assert sink.end.analysis_exit_status == "fail"
    assert re.match(reason, sink.end.reason), sink.end.reason


def test_a_dim_series_whose_dark_image_was_subtracted_is_a_success(subscribe):
    frames = (0.5 * FRAMES + NOISE).astype(np.float32)
    sink = ended(subscribe, [("primary", frames, EVERY)], PERIOD, settings={"denoise": False})
    assert (sink.end.analysis_exit_status, sink.end.reason) == ("success", "")


def test_half_a_series_of_a_beam_dump_is_a_success(subscribe):
    frames = series(110)
    frames[55:] = 0
    stamps = 1.7e9 + 0.2 * np.arange(110)
    sink = ended(subscribe, [("primary", frames, stamps)], PERIOD, settings={"denoise": False})
    assert (sink.end.analysis_exit_status, sink.end.reason) == ("success", "")


# --- what is said of runs ---------------------------------------------------------------------


def two_detectors():
    """Two callbacks of one process, of two detectors, and the lines that they print."""
    lines = []
    lives = [
        LiveDenoise(
            Settings(detector=name, denoise=False),
            rois=RoiMap.from_labels(np.ones(SHAPE, int)),
            sinks=[MemorySink],
            report=lines.append,
        )
        for name in ("other", "cam")
    ]

    def both(name, doc):
        for live in lives:
            live(name, doc)

    both.wait = lambda timeout: all(live.wait(timeout) for live in lives)
    return lives, both, lines


@pytest.mark.parametrize("stream", ["primary", "detector_stream"])
def test_a_run_that_another_callback_takes_is_no_matter_for_a_warning(caplog, stream):
    lives, both, lines = two_detectors()
    period = {"cam_cam_acquire_period": 0.2}
    uid = send_run(both, [(stream, FRAMES[:20], EVERY)], period)
    assert "is not analysed" not in caplog.text
    for live in lives:
        assert live.close(10)
    assert lines == [f"Run {uid[:8]} analysed: 20 frames, 1 ROI."]


def test_a_run_that_nobody_takes_is(caplog):
    lives, both, _ = two_detectors()
    lives[1].close(10)
    send_run(both, [("primary", FRAMES[:2], EVERY)])
    assert "is not analysed. No data key 'other_image'" in caplog.text
    lives[0].close(10)


@pytest.mark.parametrize(
    ("exit_status", "reason", "said"),
    [
        ("fail", "motor at its limit", "The plan ended with 'fail' before any data came"),
        ("abort", "", "The plan ended with 'abort' before any data came"),
        ("success", "", "The run ended without any data"),
    ],
)
def test_a_plan_that_ends_before_any_data_says_that(subscribe, exit_status, reason, said):
    sink = ended(subscribe, [], exit_status=exit_status, reason=reason)
    assert sink.end.reason.startswith(f"{said}: there is nothing to analyse.")
    assert sink.end.reason.endswith(reason)
    assert "image_key" not in sink.end.reason
