"""The raw runs of the simulated detectors in Tiled, as its own writer and validator see them."""

from __future__ import annotations

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plans as bp
from bluesky_tiled_plugins import TiledWriter

from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded

pytestmark = pytest.mark.system

FRAMES = np.random.default_rng(5).poisson(2.0, (40, 8, 10)).astype("u2")


@pytest.fixture
def written(tiled_client):
    """Return a function that runs a plan with a TiledWriter and gives the run back."""
    raw = tiled_client["raw"]
    run_engine = RunEngine({}, context_managers=[])
    run_engine.subscribe(TiledWriter(raw, batch_size=1))

    def run(plan):
        (uid,) = run_engine(plan)
        return raw[uid]

    return run


def test_a_flown_series_is_valid_and_reads_back_exactly(written, tiled_server):
    folder = tiled_server.readable / "detector"
    eiger = SimulatedEiger(recorded(FRAMES), folder, n_frames=40, frame_rate_hz=400)
    run = written(fly_series(eiger, flush_period=0.03))
    assert run.validate(fix_errors=False, raise_on_error=True)
    assert run.metadata["stop"]["exit_status"] == "success"
    assert "notes" not in run.metadata, "the validator had nothing to remark"
    np.testing.assert_array_equal(run["primary"]["eiger4m_single_image"].read(), FRAMES)


@pytest.mark.parametrize("per_event", [1, 5])
def test_a_counted_camera_is_valid_and_reads_back_exactly(written, per_event):
    camera = SimulatedCamera(recorded(FRAMES), frames_per_event=per_event)
    run = written(bp.count([camera], num=4))
    assert run.validate(fix_errors=False, raise_on_error=True)
    got = np.asarray(run["primary"]["camera_image"].read())
    np.testing.assert_array_equal(got.reshape(-1, 8, 10), FRAMES[: 4 * per_event])
