"""The simulated detectors in a real RunEngine, read while their runs go on."""

from __future__ import annotations

import threading
from typing import Any

import bluesky.plans as bp
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky import RunEngine, protocols
from bluesky.utils import FailedStatus, RunEngineInterrupted
from event_model import RunRouter

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.metadata import find_frame_time

KEY = "eiger4m_single_image"


@pytest.fixture
def frames():
    return np.random.default_rng(3).poisson(2.0, (60, 8, 10)).astype("u2")


@pytest.fixture
def run_engine():
    engine = RunEngine({}, context_managers=[])
    yield engine
    if engine.state != "idle":
        engine.abort()


class Analysis:
    """Reads every frame of every run as soon as its document comes."""

    def __init__(self, data_key: str = KEY) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self._data_key = data_key
        self._router = RunRouter([self._begin])

    def __call__(self, name: str, doc: Any) -> None:
        self._router(name, doc)

    def _begin(self, _: str, start: Any) -> Any:
        documents = RunDocuments(start, detector="eiger4m_single", data_key=self._data_key)
        reader = FrameReader(roots=ANYWHERE, timeout_s=0.5)
        run: dict[str, Any] = {"documents": documents, "blocks": [], "before_stop": 0}
        self.runs[start["uid"]] = run

        def receive(name: str, doc: Any) -> None:
            for reference in documents.receive(name, doc):
                run["blocks"] += list(reader.read(reference, 1000))
            if name == "stop":
                run["stop"] = doc
                run["before_stop"] = sum(len(block) for block in run["blocks"])
                reader.close()

        return [receive], []

    def frames(self, uid: str) -> Any:
        return np.concatenate(self.runs[uid]["blocks"])


# --- the streaming detector -------------------------------------------------------------------


def test_the_frames_of_a_flown_series_are_read_exactly_while_it_runs(tmp_path, run_engine, frames):
    read_live = threading.Event()

    def factory():
        yield from recorded(frames[:30], block=7)()
        assert read_live.wait(30), "the first frames were not announced while the series ran"
        yield from recorded(frames[30:], block=7)()

    eiger = SimulatedEiger(factory, tmp_path, n_frames=60, frame_rate_hz=300)
    analysis = Analysis()
    run_engine.subscribe(analysis)
    run_engine.subscribe(lambda name, doc: read_live.set(), "stream_datum")
    (uid,) = run_engine(fly_series(eiger, flush_period=0.03))

    np.testing.assert_array_equal(analysis.frames(uid), frames)
    run = analysis.runs[uid]
    assert run["before_stop"] == 60
    documents = run["documents"]
    assert run["stop"]["exit_status"] == "success"
    assert run["stop"]["num_events"] == {"primary": 60}
    assert documents.n_expected == 60
    assert documents.frame_shape == (8, 10)
    assert documents.start["plan_name"] == "fly_series"
    assert documents.start["detectors"] == ["eiger4m_single"]
    assert 0 < eiger.achieved_rate_hz <= 301
    assert h5py.File(eiger.path)["/entry/data/data"].shape == (60, 8, 10)


def test_the_detector_obeys_the_protocols_that_bluesky_checks(tmp_path, frames):
    eiger = SimulatedEiger(recorded(frames), tmp_path, n_frames=5)
    for protocol in ("Stageable", "Flyable", "Collectable", "WritesStreamAssets", "Configurable"):
        assert isinstance(eiger, getattr(protocols, protocol)), protocol
    assert isinstance(eiger.complete(), protocols.Status)
    camera = SimulatedCamera(recorded(frames))
    for protocol in ("Stageable", "Readable", "Configurable"):
        assert isinstance(camera, getattr(protocols, protocol)), protocol


def test_the_descriptor_has_the_geometry_under_the_names_of_chx(tmp_path, run_engine, frames):
    geometry = Geometry(beam_center=(3.0, 4.5), wavelength_angstrom=1.3, detector_distance_m=5.0)
    eiger = SimulatedEiger(
        recorded(frames), tmp_path, n_frames=4, frame_rate_hz=200, geometry=geometry
    )
    analysis = Analysis()
    run_engine.subscribe(analysis)
    (uid,) = run_engine(fly_series(eiger, md={"sample": "gold"}))
    documents = analysis.runs[uid]["documents"]
    assert documents.start["sample"] == "gold"
    assert documents.configuration["eiger4m_single"]["data"] == {
        "eiger4m_single_beam_center_x": 4.5,
        "eiger4m_single_beam_center_y": 3.0,
        "eiger4m_single_wavelength": 1.3,
        "eiger4m_single_det_distance": 5.0,
        "eiger4m_single_cam_acquire_time": 0.005,
        "eiger4m_single_cam_acquire_period": 0.005,
        "eiger4m_single_cam_num_images": 4,
    }
    facts = (documents.start, eiger.read_configuration(), documents.configuration)
    assert find_frame_time(None, *facts, "eiger4m_single") == 0.005


def test_a_detector_can_be_flown_again_and_starts_anew(tmp_path, run_engine, frames):
    eiger = SimulatedEiger(recorded(frames), tmp_path, n_frames=20, frame_rate_hz=2000)
    analysis = Analysis()
    run_engine.subscribe(analysis)
    (first,) = run_engine(fly_series(eiger))
    first_path = eiger.path
    (second,) = run_engine(fly_series(eiger))
    np.testing.assert_array_equal(analysis.frames(first), frames[:20])
    np.testing.assert_array_equal(analysis.frames(second), frames[:20])
    assert eiger.path != first_path


def test_frames_that_are_made_slowly_lower_the_rate_and_none_is_lost(tmp_path, run_engine, frames):
    slow = threading.Event()

    def factory():
        for block in np.split(frames[:20], 4):
            slow.wait(0.05)
            yield block

    eiger = SimulatedEiger(factory, tmp_path, n_frames=20, frame_rate_hz=5000)
    analysis = Analysis()
    run_engine.subscribe(analysis)
    (uid,) = run_engine(fly_series(eiger, flush_period=0.02))
    np.testing.assert_array_equal(analysis.frames(uid), frames[:20])
    # Three of the four blocks are made after the kickoff: 0.15 s at least.
    assert eiger.achieved_rate_hz < 20 / 0.15


def test_an_abort_in_the_middle_closes_the_run_and_stops_the_writer(tmp_path, run_engine, frames):
    endless = recorded(np.tile(frames, (100, 1, 1)))
    eiger = SimulatedEiger(endless, tmp_path, n_frames=6000, frame_rate_hz=200)
    analysis = Analysis()
    run_engine.subscribe(analysis)

    enough = threading.Event()

    def count(name, doc):
        if doc["indices"]["stop"] >= 3:
            enough.set()

    def interrupt():  # as a user would, from outside the RunEngine's thread
        enough.wait()
        run_engine.request_pause()

    run_engine.subscribe(count, "stream_datum")
    user = threading.Thread(target=interrupt)
    user.start()
    with pytest.raises(RunEngineInterrupted):
        run_engine(fly_series(eiger, flush_period=0.03))
    user.join()
    run_engine.abort("enough")

    (run,) = analysis.runs.values()
    assert run["stop"]["exit_status"] == "abort"
    n_read = run["before_stop"]
    assert 3 <= n_read < 6000
    np.testing.assert_array_equal(
        np.concatenate(run["blocks"]), np.tile(frames, (100, 1, 1))[:n_read]
    )
    assert not any("writer" in thread.name for thread in threading.enumerate())
    with h5py.File(eiger.path, "a") as file:  # nobody holds it any more
        assert file["/entry/data/data"].shape[0] == eiger.n_written


@pytest.mark.parametrize(
    ("factory_frames", "message"),
    [(10, "its frames ended after 10; expected 20"), (0, "its factory gave no frames")],
)
def test_frames_that_run_out_fail_the_plan(tmp_path, run_engine, frames, factory_frames, message):
    eiger = SimulatedEiger(
        recorded(frames[:factory_frames]), tmp_path, n_frames=20, frame_rate_hz=1000
    )
    analysis = Analysis()
    run_engine.subscribe(analysis)
    with pytest.raises((FailedStatus, InvalidInputError)) as caught:
        run_engine(fly_series(eiger))
    causes = (caught.value, caught.value.__cause__, *caught.value.args)
    assert any(message in str(cause) for cause in causes)
    for run in analysis.runs.values():
        assert run["stop"]["exit_status"] == "fail"


def test_a_fault_of_the_frame_source_fails_the_plan_not_the_thread(tmp_path, run_engine, frames):
    def factory():
        yield frames[:5]
        raise OSError("the simulated sample fell off")

    eiger = SimulatedEiger(factory, tmp_path, n_frames=20, frame_rate_hz=1000)
    with pytest.raises(FailedStatus) as caught:
        run_engine(fly_series(eiger))
    assert "fell off" in str(caught.value.__cause__)


def test_a_detector_that_is_not_staged_refuses_the_kickoff(tmp_path, frames):
    eiger = SimulatedEiger(recorded(frames), tmp_path, n_frames=20)
    with pytest.raises(InvalidInputError, match="kickoff of a detector that is not staged"):
        eiger.kickoff()


@pytest.mark.parametrize("wrong", [{"n_frames": 0}, {"n_frames": 5, "frame_rate_hz": 0.0}])
def test_a_series_needs_frames_and_a_rate(tmp_path, frames, wrong):
    with pytest.raises(InvalidInputError, match="expected both above 0"):
        SimulatedEiger(recorded(frames), tmp_path, **wrong)


def test_two_runs_at_once_do_not_mix(tmp_path, frames):
    """Two RunEngines share one analysis; each has its own detector, both called the same."""
    analysis = Analysis()
    lock = threading.Lock()

    def locked(name, doc):
        with lock:
            analysis(name, doc)

    series = {"a": frames[:30], "b": frames[30:]}
    uids: dict[str, str] = {}

    def fly(which):
        engine = RunEngine({}, context_managers=[])
        engine.subscribe(locked)
        eiger = SimulatedEiger(
            recorded(series[which]), tmp_path / which, n_frames=30, frame_rate_hz=200
        )
        (uids[which],) = engine(fly_series(eiger, flush_period=0.03))

    threads = [threading.Thread(target=fly, args=(which,)) for which in series]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, expected in series.items():
        np.testing.assert_array_equal(analysis.frames(uids[which]), expected)


# --- the camera with inline frames ------------------------------------------------------------


@pytest.mark.parametrize("per_event", [1, 4])
def test_a_counted_camera_puts_its_frames_into_the_events(run_engine, frames, per_event):
    camera = SimulatedCamera(
        recorded(frames, block=7), name="eiger4m_single", frames_per_event=per_event
    )
    analysis = Analysis()
    run_engine.subscribe(analysis)
    for _ in range(2):  # the second run starts the series anew
        (uid,) = run_engine(bp.count([camera], num=12))
        np.testing.assert_array_equal(analysis.frames(uid), frames[: 12 * per_event])
        documents = analysis.runs[uid]["documents"]
        assert documents.n_expected == 12 * per_event
        assert documents.frame_shape == (8, 10)


def test_a_camera_whose_series_has_ended_says_so(run_engine, frames):
    camera = SimulatedCamera(recorded(frames[:3]))
    with pytest.raises(InvalidInputError, match="camera: its series has ended"):
        run_engine(bp.count([camera], num=4))


def test_a_camera_is_read_without_being_staged(run_engine, frames):
    camera = SimulatedCamera(recorded(frames))

    @bpp.run_decorator()
    def plan():
        yield from bp.bps.trigger_and_read([camera])

    analysis = Analysis("camera_image")
    run_engine.subscribe(analysis)
    (uid,) = run_engine(plan())
    np.testing.assert_array_equal(analysis.frames(uid), frames[:1])
