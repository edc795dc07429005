"""The analysis in another process, with the plugs pulled: nothing is lost, nothing differs."""

import threading

import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter

from tests.support.serving import (
    Serving,
    differences,
    speckle,
    stripes,
    wait_for_result,
    write_settings,
)
from xpcs_live_denoise.commands.replay import UNFINISHED, replay_runs
from xpcs_live_denoise.simulation import SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sources.remote.publisher import document_publisher

pytestmark = [pytest.mark.system, pytest.mark.slow]

SHAPE = (40, 50)
ROIS = stripes(SHAPE, 2)


@pytest.fixture
def server(outage_server):
    return outage_server


@pytest.fixture
def publishing():
    """Return a function that subscribes a publisher to a RunEngine."""
    made = []

    def subscribe(engine, address):
        made.append(document_publisher(address))
        engine.subscribe(made[-1])
        return made[-1]

    yield subscribe
    for publisher in made:
        publisher.close()


def take(engine, frames, folder, rate=50):
    """Take a series; return the uid of its run."""
    detector = SimulatedEiger(
        recorded(frames), folder, n_frames=len(frames), name="eiger", frame_rate_hz=rate
    )
    return engine(fly_series(detector))[0]


def assert_as_offline(result, frames, settings):
    found = differences(result, frames, settings)
    assert found["missing"] == 0
    assert found["c2"] < 1e-5
    assert found["c2_denoised"] < 1e-4
    assert found["recommended"] > 0
    assert found["rows"] <= 0.02 * found["recommended"]
    assert found["gamma"] < 1e-3
    assert result.metadata["stop"]["exit_status"] == "success"


@pytest.mark.soak
def test_an_outage_of_tiled_in_the_middle_costs_nothing(server, tmp_path, publishing):
    frames = speckle(150, SHAPE)
    settings = write_settings(tmp_path, ROIS, server.uri, frame_time_s=0.02)
    engine = RunEngine({}, context_managers=[])
    with Serving(tmp_path / "xpcs.yml", server.api_key, tmp_path / "state") as serving:
        publisher = publishing(engine, serving.address)
        outage = threading.Timer(1.0, server.stop)
        outage.start()
        uid = take(engine, frames, tmp_path / "detector")
        outage.join()
        assert not server.running
        server.start()
        result = wait_for_result(server.client(), uid)
        assert serving.terminate() == 0
    assert publisher.n_lost == 0
    assert_as_offline(result, frames, settings)
    assert result.validate()
    assert server.api_key not in serving.output
    assert f"Run {uid[:8]}: 150 of 150 frames" in serving.output


@pytest.mark.soak
def test_what_was_killed_in_the_middle_is_computed_by_replay(
    server, tmp_path, publishing, monkeypatch, capsys
):
    frames = speckle(100, SHAPE, seed=1)
    settings = write_settings(tmp_path, ROIS, server.uri, frame_time_s=0.04)
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(server.client()["raw"], batch_size=1))
    with Serving(tmp_path / "xpcs.yml", server.api_key, tmp_path / "state") as serving:
        publishing(engine, serving.address)
        killing = kill_in_the_middle(serving)
        uid = take(engine, frames, tmp_path / "detector", rate=25)
        killing.join()
    comparison = replay_runs(settings, [uid])[uid]
    result = wait_for_result(server.client(), uid)
    assert_as_offline(result, frames, settings)
    if comparison is not None:  # it had begun to publish
        assert comparison["n_compared"] < 100
        assert UNFINISHED in capsys.readouterr().out
    again = replay_runs(settings, [uid])[uid]
    assert again is not None
    assert again["n_compared"] == 100
    assert again["c2_difference"] < 1e-5
    assert again["rate_difference"] < 1e-3
    assert UNFINISHED not in capsys.readouterr().out


def kill_in_the_middle(serving):
    """Kill it as soon as it says that a run has begun."""

    def kill():
        serving.wait_for(" of ")
        serving.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.soak
def test_raw_runs_in_tiled_are_followed(server, tmp_path):
    frames = speckle(80, SHAPE, seed=2)
    (tmp_path / "elsewhere").mkdir()
    settings = write_settings(
        tmp_path,
        ROIS,
        server.uri,
        frame_time_s=0.04,
        file_roots=[str(tmp_path / "elsewhere")],  # so that frames come from Tiled
    )
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(server.client()["raw"], batch_size=1))
    options = ("--tiled",)
    with Serving(tmp_path / "xpcs.yml", server.api_key, tmp_path / "state", options) as serving:
        uid = take(engine, frames, tmp_path / "detector", rate=25)
        result = wait_for_result(server.client(), uid)
        assert serving.terminate() == 0
    assert result.xpcs["analysed_by"] == "serve"
    assert_as_offline(result, frames, settings)
