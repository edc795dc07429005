"""A series that is longer than its map, from the RunEngine to Tiled, also with the server away."""

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine

from tests.support.live_runs import LABELS, series
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, analyse, results
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.numerics.two_time import band_of_c2
from xpcs_live_denoise.simulation import SimulatedCamera, recorded

pytestmark = pytest.mark.system


@pytest.mark.parametrize("away", [pytest.param(False, marks=pytest.mark.soak), True])
def test_every_row_of_a_long_series_is_in_tiled_whether_the_server_was_there_or_not(
    outage_server, tmp_path, away
):
    frames, rois = series(250), RoiMap.from_labels(LABELS)
    settings = Settings(
        detector="camera",
        denoise=False,
        frame_time_s=0.01,
        map_frames=64,
        publish_period_s=0.1,
        spool=tmp_path / "spool",
        tiled={"uri": outage_server.uri},
    )
    client = outage_server.client()
    if away:
        outage_server.stop()
    engine = RunEngine({}, context_managers=[])
    timings = Timings(first_pause_s=0.2, longest_pause_s=0.2)
    live = LiveDenoise(settings, rois=rois, catalog=client, timings=timings)
    engine.subscribe(live)
    (uid,) = engine(bp.count([SimulatedCamera(recorded(frames), name="camera")], num=250))
    if away:
        assert not live.wait(1)
        outage_server.start()
    assert live.wait(100)
    live.close()

    result = results(outage_server.client(), uid)
    whole = analyse(frames, settings.model_copy(update={"map_frames": 1024}), rois=rois).c2
    expected = band_of_c2(whole, 0, 250, 50)
    np.testing.assert_allclose(result.band(denoised=False), expected, rtol=1e-5)
    c2 = result.c2()
    assert c2.attrs["frames_per_bin"] == 4
    block = whole[:, 40:44, 100:104].mean(axis=(1, 2), dtype=np.float64)
    np.testing.assert_allclose(c2.values[:, 10, 25], block, rtol=1e-5)
    assert result.validate(fix_errors=False, raise_on_error=True)
