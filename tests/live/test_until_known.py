"""Plans that end when Gamma is known, or at a limit, with the detectors that beamlines have."""

import math
import time

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest

from tests.support.live_runs import engine, series, subscribe  # noqa: F401
from xpcs_live_denoise import InvalidInputError, stop_when_known, until_known
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedClassicEiger, recorded

N_FRAMES = 400


class Camera(SimulatedCamera):
    """Takes a frame in 10 ms."""

    def read(self):
        time.sleep(0.01)
        return super().read()


@pytest.fixture
def camera():
    """A detector of which one trigger is one frame."""
    return Camera(recorded(series(N_FRAMES)), name="cam")


@pytest.fixture
def eiger(tmp_path):
    """A detector of which one trigger is the whole series."""
    return SimulatedClassicEiger(
        recorded(series(N_FRAMES)),
        tmp_path,
        name="cam",
        n_frames=N_FRAMES,
        images_per_file=20,
        frame_rate_hz=100,
    )


def stepwise(camera, live, **limits):
    """A plan of one's own, with the stub inside its run; returns what the stub returned."""
    known = []

    @bpp.stage_decorator([camera])
    @bpp.run_decorator()
    def inner():
        known.append((yield from until_known(live, [camera], **limits)))

    yield from inner()
    return known[0]


def frames_of(live):
    (status,) = live.status.values()
    return status.n_processed


def stops(engine):
    documents = []
    engine.subscribe(lambda _, doc: documents.append(doc), "stop")
    return documents


def result_of(engine, plan):
    """Run a plan and return what it returned."""
    answer = []

    def keeping():
        answer.append((yield from plan))

    engine(keeping())
    return answer[0]


def test_frames_are_taken_until_every_rate_is_known(engine, subscribe, camera):
    live, _ = subscribe()
    known = result_of(
        engine, stepwise(camera, live, rate_error=0.3, most_frames=N_FRAMES, poll_s=0.05)
    )
    assert live.wait(30)

    assert known.why == "known"
    assert set(known.rate_error) == {1, 2}
    assert max(known.rate_error.values()) <= 0.3
    assert 50 < frames_of(live) < N_FRAMES


def test_it_ends_at_the_most_frames(engine, subscribe, camera):
    live, _ = subscribe()
    known = result_of(engine, stepwise(camera, live, rate_error=1e-4, most_frames=80))
    assert live.wait(30)

    assert known.why == "most_frames"
    assert frames_of(live) == 80


@pytest.mark.soak
def test_it_ends_at_the_most_dose_of_the_roi_that_is_named(engine, subscribe, camera):
    live, _ = subscribe()
    known = result_of(
        engine,
        stepwise(camera, live, rate_error=1e-4, rois=[2], most_dose=500, most_frames=N_FRAMES),
    )
    assert live.wait(30)

    assert known.why == "most_dose"
    assert 0 < known.dose[2] < math.inf
    assert frames_of(live) < N_FRAMES


@pytest.mark.soak
def test_a_plan_that_waits_for_a_series_can_stop_the_detector(engine, subscribe, eiger):
    live, _ = subscribe(device=eiger)
    known = []

    @bpp.stage_decorator([eiger])
    @bpp.run_decorator(md={"detectors": ["cam"]})
    def inner():
        yield from bps.trigger(eiger, group="series")
        known.append((yield from until_known(live, rate_error=0.4, poll_s=0.05)))
        eiger.stop(success=True)
        yield from bps.wait("series")
        yield from bps.create()
        yield from bps.read(eiger)
        yield from bps.save()

    engine(inner())
    assert live.wait(30)

    assert known[0].why == "known"
    assert frames_of(live) < N_FRAMES


def test_without_any_analysis_it_ends_all_the_same(engine, subscribe, camera):
    live, _ = subscribe(detector="another")

    known = result_of(engine, until_known(live, patience_s=0.3, poll_s=0.05))

    assert known.why == "no_news"


def test_any_plan_ends_itself_as_a_success(engine, subscribe, camera):
    live, _ = subscribe()
    ended = stops(engine)
    engine(stop_when_known(bp.count([camera], num=N_FRAMES), live, rate_error=0.3, poll_s=0.05))
    assert live.wait(30)

    assert ended[0]["exit_status"] == "success"
    assert 50 < ended[0]["num_events"]["primary"] < N_FRAMES
    assert frames_of(live) == ended[0]["num_events"]["primary"]


def test_a_series_in_one_trigger_ends_with_the_frames_that_it_has(engine, subscribe, eiger):
    live, _ = subscribe(device=eiger)
    ended = stops(engine)
    engine(stop_when_known(bp.count([eiger]), live, device=eiger, rate_error=0.4, poll_s=0.05))
    assert live.wait(30)

    assert ended[0]["exit_status"] == "success"
    assert ended[0]["num_events"] == {"primary": 1}
    assert 50 < frames_of(live) < N_FRAMES


def test_a_run_before_does_not_end_the_next_one(engine, subscribe, camera):
    live, _ = subscribe()
    for _ in range(2):
        engine(stop_when_known(bp.count([camera], num=90), live, rate_error=1e-4, poll_s=0.02))
        engine(
            stop_when_known(
                bp.count([camera], num=60), live, rate_error=1e-4, most_frames=70, poll_s=0.02
            )
        )
    assert live.wait(60)

    assert [status.n_processed for status in live.status.values()] == [90, 60, 90, 60]


def test_a_plan_that_is_never_known_runs_to_its_end(engine, subscribe, camera):
    live, _ = subscribe()
    engine(stop_when_known(bp.count([camera], num=60), live, rate_error=1e-4, poll_s=0.05))
    assert live.wait(30)

    assert frames_of(live) == 60


def test_what_goes_wrong_in_the_plan_is_the_plans_own(engine, subscribe, camera):
    live, _ = subscribe()

    def failing():
        yield from bp.count([camera], num=3)
        raise RuntimeError("a plan of somebody")

    with pytest.raises(RuntimeError, match="a plan of somebody"):
        engine(stop_when_known(failing(), live))


def test_a_roi_that_is_not_there_is_refused(engine, subscribe, camera):
    live, _ = subscribe()

    with pytest.raises(InvalidInputError, match=r"got the ROI 7; expected of \[1, 2\]"):
        engine(stepwise(camera, live, rois=[7], most_frames=N_FRAMES, poll_s=0.05))
    with pytest.raises(InvalidInputError, match="got rate_error=0; expected a number above 0"):
        until_known(live, rate_error=0)
