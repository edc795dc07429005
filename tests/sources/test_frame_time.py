"""How far apart frames are: documents, the exposure, and the times of events."""

import re

import numpy as np
import pytest

from xpcs_live_denoise.sources.frame_time import EventTimes, choose_frame_time
from xpcs_live_denoise.sources.metadata import find_exposure, find_frame_time, geometry_conflicts

config = pytest.importorskip("xpcs_live_denoise.config")
BEGAN = 1.7e9
EVERY = BEGAN + 0.2 * np.arange(60)


def spacing(stamps, times=None, n_frames=None):
    """What events tell whose frames have these timestamps."""
    events = EventTimes(BEGAN)
    stamps = list(stamps)
    events.add(range(1, len(stamps) + 1), stamps, stamps if times is None else list(times))
    events.n_frames = len(stamps) if n_frames is None else n_frames
    return events.spacing()


def chosen(stamps, documented=0.1, exposure=0.1, setting=None, **more):
    return choose_frame_time(setting, documented, exposure, spacing(stamps, **more))


# --- names and impossible periods -------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "det-driver-acquire_period",
        "det-drv-acquire_period",
        "det_cam_acquire_period",
        "det-drv-detector-frame_time",
        "det:cam1:AcquirePeriod",
        "det.driver.acquire-period",
        "acquire_period",
        "Acquire Period",
        "det_cam_acquire_period_RBV",
        "det-driver-acquire_period-readback",
    ],
)
def test_a_period_is_known_by_its_name_however_it_is_spelled(key):
    described = {"det": {"data": {key: 0.2}}}
    assert find_frame_time(None, {}, None, described, "det") == 0.2
    assert find_frame_time(None, {key: "0.2"}, None, None, "det") == 0.2


@pytest.mark.parametrize("value", [[0.2], np.array([0.2]), (0.2,), ["0.2"], [[0.2]]])
def test_a_period_in_a_list_of_one_is_a_period(value):
    described = {"det": {"data": {"det_cam_acquire_period": value}}}
    assert find_frame_time(None, {}, None, described, "det") == 0.2


@pytest.mark.parametrize("name", ["det-driver", "det_cam", "det:drv", "DET.camera1"])
@pytest.mark.parametrize("key", ["{}-acquire_period", "acquire_period", "{}_frame_time"])
def test_a_driver_that_is_a_device_of_its_own_tells_the_period(name, key):
    described = {
        "det": {"data": {"det_gain": 3}},
        "det2-driver": {"data": {"acquire_period": 0.7}},
        name: {"data": {key.format(name): 0.2}},
    }
    assert find_frame_time(None, {}, None, described, "det") == 0.2
    described["det"]["data"]["det_acquire_period"] = 0.3
    assert find_frame_time(None, {}, None, described, "det") == 0.3, "the detector's own first"


@pytest.mark.parametrize(
    "key", ["frame_rate", "det_cam_frame_rate", "Frame Rate", "frame-rate_RBV"]
)
def test_a_frame_rate_tells_the_period_where_no_period_does(key):
    data = {key: 5.0}
    assert find_frame_time(None, {}, None, {"det": {"data": data}}, "det") == 0.2
    data["det_driver_acquire_period"] = 0.1
    assert find_frame_time(None, {}, None, {"det": {"data": data}}, "det") == 0.1
    settings = config.Settings(detector="det")
    assert geometry_conflicts(settings, {}, None, {"det": {"data": data}}, "det") == ()


def test_a_conflict_of_periods_does_not_say_which_is_used_before_events_were_asked():
    start, data = {"frame_time": 0.3}, {"det_cam_acquire_period": 0.1}
    facts = (start, None, {"det": {"data": data}}, "det")
    (sentence,) = geometry_conflicts(config.Settings(detector="det"), *facts)
    assert sentence == (
        "The descriptor's 'det_cam_acquire_period' (frame time) is 0.1 s; 0.3 s, of a setting or "
        "another document, goes first."
    )


@pytest.mark.parametrize(
    "key", ["det2_acquire_period", "other_cam_acquire_period", "det_roi1_acquire_period_rbv"]
)
def test_a_name_of_something_else_is_none(key):
    assert find_frame_time(None, {key: 0.2}, None, None, "det") is None


@pytest.mark.parametrize("exposure", ["acquire_time", "count_time", "exposure time"])
def test_a_period_below_the_exposure_is_passed_over_and_told(exposure):
    data = {"det-driver-acquire_period": 0.0147, f"det-driver-{exposure}": 0.1}
    facts = ({}, None, {"det": {"data": data}}, "det")
    assert find_frame_time(None, *facts) is None
    assert find_exposure(*facts) == 0.1
    (sentence,) = geometry_conflicts(config.Settings(detector="det"), *facts)
    assert sentence == (
        "The descriptor's 'det-driver-acquire_period' (frame time) is 0.0147 s, below the "
        "exposure of 0.1 s, which cannot be; it was ignored."
    )


@pytest.mark.parametrize("period", [0.1, 0.0999, 0.2])
def test_a_period_as_long_as_the_exposure_is_used_whatever_documents_round(period):
    data = {"det_cam_acquire_period": period, "det_cam_acquire_time": 0.1}
    assert find_frame_time(None, {}, None, {"det": {"data": data}}, "det") == period


def test_what_cannot_be_does_not_hide_what_can():
    start = {"acquire period": "0.0147", "exposure time": "0.1"}
    described = {"det": {"data": {"det_cam_acquire_period": 0.2}}}
    assert find_frame_time(None, start, None, described, "det") == 0.2


# --- the times of events ----------------------------------------------------------------------


@pytest.mark.parametrize("jitter_s", [0.0, 0.008])
def test_frames_that_a_plan_triggers_are_as_far_apart_as_their_events(jitter_s):
    found = chosen(EVERY + np.random.default_rng(0).normal(0, jitter_s, 60))
    assert found.period_s == pytest.approx(0.2, rel=0.01)
    (note,) = found.notes
    assert note.startswith("The documents tell a frame period of 0.1 s, but the frames came every")


def test_a_period_that_events_agree_with_is_used_as_it_is_told():
    found = chosen(EVERY, documented=0.19)
    assert (found.period_s, found.notes) == (0.19, ())


def test_missing_events_and_one_pause_do_not_move_the_period():
    events = EventTimes(BEGAN)
    numbers = [n for n in range(1, 61) if n not in (7, 20, 21)]
    stamps = [EVERY[n - 1] + (300 if n > 40 else 0) for n in numbers]
    events.add(numbers, stamps, stamps)
    events.n_frames = 60
    found = choose_frame_time(None, 0.1, 0.1, events.spacing())
    assert found.period_s == pytest.approx(0.2)
    assert "pauses of 300 s in all" in found.notes[1]


@pytest.mark.parametrize("documented", [0.1, 0.2])
@pytest.mark.parametrize("spread", [0.3, 0.6])
def test_irregular_spacing_is_told(documented, spread):
    steps = 0.2 * np.random.default_rng(1).uniform(1 - 1.6 * spread, 1 + 1.6 * spread, 60)
    found = chosen(BEGAN + np.cumsum(steps), documented=documented, exposure=None)
    assert found.notes[-1].startswith("The frames are not evenly spaced: ")


@pytest.mark.parametrize("every", [8, 20])
def test_steps_of_which_few_are_late_are_told(every):
    steps = np.where(np.arange(60) % every == 0, 0.32, 0.2)
    found = chosen(BEGAN + np.cumsum(steps), documented=0.2, exposure=None)
    assert found.period_s == 0.2
    assert re.match(
        r"The frames are not evenly spaced: \d of 59 steps between them are more than 20% away",
        found.notes[-1],
    )


@pytest.mark.parametrize(
    ("n_events", "n_frames", "undecided"),
    [(0, 0, False), (0, 1, True), (1, 2, True), (5, 5, True), (0, 50, False), (6, 6, False)],
)
def test_the_axis_waits_for_events_although_documents_of_frames_come_before_them(
    n_events, n_frames, undecided
):
    events = EventTimes(BEGAN)
    events.add(range(1, n_events + 1), EVERY[:n_events], EVERY[:n_events])
    events.n_frames = n_frames
    assert events.undecided is undecided


def test_a_clock_that_is_set_back_does_nothing():
    found = chosen(np.where(np.arange(60) < 30, EVERY, EVERY - 3600), documented=0.2)
    assert (found.period_s, found.notes) == (0.2, ())


BURST = BEGAN + 12 + 0.001 * np.arange(60)
BATCHES = BEGAN + np.repeat(np.arange(1, 7), 10) + np.tile(0.001 * np.arange(10), 6)


@pytest.mark.parametrize(
    ("stamps", "exposure"),
    [
        (np.full(60, BEGAN), None),
        (np.zeros(60), None),
        (BURST, None),
        (BURST, 0.05),
        (BATCHES, None),
        (BATCHES, 0.05),
    ],
    ids=["all equal", "zeros", "burst", "burst, exposure", "batches", "batches, exposure"],
)
def test_times_of_events_that_are_not_those_of_frames_tell_nothing(stamps, exposure):
    found = chosen(stamps, exposure=exposure)
    assert (found.period_s, found.notes) == (0.1, ())


def test_frames_that_came_faster_than_their_period_allows_are_believed():
    found = chosen(EVERY, documented=1.0, exposure=0.01)
    assert found.period_s == pytest.approx(0.2)


def test_timestamps_that_nobody_set_leave_the_times_of_documents_which_may_only_be_longer():
    assert chosen(np.zeros(60), times=EVERY).period_s == pytest.approx(0.2)
    assert chosen(np.zeros(60), documented=1.0, exposure=None, times=EVERY).period_s == 1.0
    assert chosen([None] * 60, times=EVERY, exposure=None).period_s == pytest.approx(0.2)


@pytest.mark.parametrize("n_frames", [0, 120, 60 * 400])
def test_events_that_hold_no_or_several_frames_tell_nothing(n_frames):
    assert spacing(EVERY, n_frames=n_frames) is None


def test_without_a_possible_period_the_events_tell_it():
    found = chosen(EVERY, documented=None)
    assert found.period_s == pytest.approx(0.2)
    assert found.notes[0].startswith("No document tells a possible frame period; the frames came")


def test_without_anything_rates_are_per_frame_and_that_is_told():
    found = chosen(np.zeros(60), documented=None, exposure=None, times=BURST)
    assert found.period_s is None
    assert "rates are per frame (1/frame)" in found.notes[0]


def test_the_setting_counts_and_what_contradicts_it_is_told():
    found = chosen(EVERY, setting=0.1, documented=0.3, exposure=0.15)
    assert found.period_s == 0.1
    assert found.notes[0] == (
        "The setting frame_time_s is 0.1 s, but the frames came every 0.2 s by the times of "
        "their events; the setting is used."
    )
    assert (
        choose_frame_time(0.1, None, 0.15, None)
        .notes[0]
        .startswith("The setting frame_time_s is 0.1 s, below the exposure of 0.15 s")
    )


@pytest.mark.parametrize("hostile", [object(), "1", 10**400, float("nan"), -1.0, True, [1], None])
def test_times_that_are_no_numbers_are_none(hostile):
    events = EventTimes(hostile)
    events.add([1, 2, "x", None, 3], [hostile] * 5, [hostile] * 5)
    events.n_frames = 4
    assert events.spacing() is None
