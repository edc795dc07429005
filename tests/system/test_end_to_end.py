"""Documents in, Gamma(t) out of Tiled: real RunEngine, real server, real files, real dynamics."""

import logging
import time
from pathlib import Path

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter

from tests.support.tiled_servers import Server
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, results, save_rois
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded

pytestmark = pytest.mark.system

BROWNIAN = Path(__file__).resolve().parents[2] / "../shared/data/brownian_speckle_300x424x424.npz"
STOKES_EINSTEIN_D = 0.43  # um^2/s, 1 um spheres in water at room temperature


@pytest.fixture
def brownian():
    if not BROWNIAN.is_file():
        pytest.skip(f"the recorded Brownian speckle series is not at {BROWNIAN}")
    with np.load(BROWNIAN) as stored:
        return {name: stored[name] for name in stored.files}


def test_diffusion_of_spheres_in_water_is_read_back_from_tiled(tiled_server, brownian, tmp_path):
    frames, center = brownian["frames"], tuple(brownian["center"])
    edges = np.array([[44, 50], [56, 62], [72, 78]])
    q_inv_um = 2 * np.pi * edges.mean(axis=1) / frames.shape[1] * brownian["px_per_um"]
    half_plane = np.arange(frames.shape[1])[:, np.newaxis] > center[0]
    rois = RoiMap.rings(
        frames.shape[1:],
        center,
        edges,
        mask=np.broadcast_to(half_plane, frames.shape[1:]),
        q_inv_angstrom=q_inv_um * 1e-4,
    )
    client = tiled_server.client()
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(client["raw"], batch_size=1))
    live = LiveDenoise(
        Settings(
            detector="eiger",
            frame_time_s=1 / brownian["fps"].item(),
            mode="equilibrium",
            tiled={"raw_path": "raw"},
        ),
        rois=rois,
        catalog=client,
    )
    engine.subscribe(live)
    detector = SimulatedEiger(
        recorded(frames), tmp_path / "detector", n_frames=300, name="eiger", frame_rate_hz=100
    )
    uid = engine(fly_series(detector, md={"sample": "spheres"}))[0]
    assert live.wait(120)
    live.close()

    result = results(tiled_server.client(), uid)
    fits = result.gamma_table(source="series_raw")
    diffusion = fits["relaxation_rate"] / (fits["q_inv_angstrom"] * 1e4) ** 2
    np.testing.assert_allclose(diffusion, STOKES_EINSTEIN_D, rtol=0.1)
    assert fits["converged"].all()
    np.testing.assert_allclose(fits["alpha"], 1.0, atol=0.2)
    np.testing.assert_allclose(fits["q_inv_angstrom"], q_inv_um * 1e-4)
    # The contrast at lag 1 is not beta where Gamma is fast, so denoised rates fall short there;
    # the slowest ring, well inside the network's range, must not.
    denoised = result.gamma_table(source="series_denoised")
    diffusion = denoised["relaxation_rate"] / (denoised["q_inv_angstrom"] * 1e4) ** 2
    np.testing.assert_allclose(diffusion.iloc[0], STOKES_EINSTEIN_D, rtol=0.15)
    assert (diffusion > 0.65 * STOKES_EINSTEIN_D).all()
    assert result.validate()
    raw = result.raw()
    assert raw.validate(fix_errors=False)
    assert raw.metadata["start"]["uid"] == uid


def test_a_beamline_scientist_needs_three_lines_and_a_settings_file(
    tiled_server, tmp_path, monkeypatch
):
    rng = np.random.default_rng(5)
    frames = rng.poisson(2.0, (60, 20, 30)).astype(np.uint16)
    labels = np.zeros((20, 30), int)
    labels[3:10], labels[12:18] = 1, 2
    save_rois(RoiMap.from_labels(labels), tmp_path / "rois.npz")
    (tmp_path / "xpcs.yml").write_text(
        f"detector: camera\nrois: rois.npz\ntiled: {{uri: '{tiled_server.uri}'}}\n"
    )
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    engine = RunEngine({}, context_managers=[])

    live = LiveDenoise(Settings.load(tmp_path / "xpcs.yml"))
    engine.subscribe(live)
    uid = engine(bp.count([SimulatedCamera(recorded(frames), name="camera")], num=60))[0]

    assert live.wait(60)
    live.close()
    table = results(tiled_server.client(), uid).gamma_table()
    ages = table[table["source"] == "raw"]
    assert len(ages) == 2 * 60
    assert ages["final"].all()
    start = results(tiled_server.client(), uid).start
    # 1.2848 Angstrom, 10 m, 75 um: the camera's configuration gave the ROIs their q.
    assert all(0 < q < 1e-3 for q in start["xpcs"]["q_inv_angstrom"])
    assert tiled_server.api_key not in str(start)


@pytest.mark.soak
def test_a_server_that_is_down_at_the_start_gets_everything_when_it_comes(
    tmp_path, caplog, monkeypatch
):
    server = Server(tmp_path / "catalog", readable=tmp_path)
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    rng = np.random.default_rng(6)
    frames = rng.poisson(2.0, (60, 20, 30)).astype(np.uint16)
    rois = RoiMap.from_labels(np.ones((20, 30), int))
    engine = RunEngine({}, context_managers=[])
    live = LiveDenoise(
        Settings(detector="camera", tiled={"uri": server.uri}),
        rois=rois,
        timings=Timings(first_pause_s=0.1, longest_pause_s=0.2),
    )
    engine.subscribe(live)
    with caplog.at_level(logging.WARNING):
        uid = engine(bp.count([SimulatedCamera(recorded(frames), name="camera")], num=60))[0]
        deadline = time.monotonic() + 60
        while live.status[uid].n_processed < 60:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not live.wait(0.5), "nothing can have been stored yet"
        assert "Not stored yet" in live.status[uid].message
        ours = [r for r in caplog.records if r.name.startswith("xpcs_live_denoise.live.delivery")]
        assert len(ours) == 1
        with server:
            assert live.wait(60)
            result = results(server.client(), uid)
            assert result.c2(1, denoised=False).shape == (60, 60)
            assert result.metadata["stop"]["exit_status"] == "success"
            assert result.validate()
            assert live.close()
    assert server.api_key not in caplog.text
    assert "Not stored yet" not in live.status[uid].message


def test_a_server_that_never_comes_costs_the_scan_nothing(caplog, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", "secret")
    rois = RoiMap.from_labels(np.ones((20, 30), int))
    frames = np.ones((3, 20, 30), np.uint16)
    engine = RunEngine({}, context_managers=[])
    live = LiveDenoise(Settings(detector="camera", tiled={"uri": "http://127.0.0.1:9"}), rois=rois)
    engine.subscribe(live)
    engine(bp.count([SimulatedCamera(recorded(frames), name="camera")], num=3))
    assert not live.close(1)
    assert caplog.text.count("could not be stored") == 1
    assert "secret" not in caplog.text
