"""The agent of profile_collection: series that end when Gamma is known, at its own temperatures."""

import math
import sys
from pathlib import Path

import bluesky.plans as bp
import pytest
from bluesky.run_engine import RunEngine
from bluesky_adaptive.plans import optimize
from ophyd.sim import SynAxis

from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, simulate_speckle
from xpcs_live_denoise.simulation import SimulatedCamera

sys.path.append(str(Path(__file__).parents[2] / "profile_collection"))
from adaptive import TemperatureForRate, rate_problem

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(300)]

SHAPE = (64, 64)
RINGS = RoiMap.rings(SHAPE, (31.5, 31.5), [(10, 20), (20, 30)])
ACTIVATION_K, AT_K, PER_FRAME = 6000.0, 300.0, 0.05


def test_an_agent_finds_the_temperature_of_a_rate(tmp_path):
    heater = SynAxis(name="heater")
    heater.set(AT_K).wait()

    def frames():
        kelvin = heater.readback.get()
        rate = PER_FRAME * math.exp(ACTIVATION_K * (1 / AT_K - 1 / kelvin))
        return simulate_speckle(RINGS, 600, relaxation_rate=rate, mean_counts=1.0, seed=int(kelvin))

    camera = SimulatedCamera(frames, name="cam", frame_rate_hz=100)
    live = LiveDenoise(
        Settings(detector="cam", denoise=False, publish_period_s=0.1, frame_time_s=0.01),
        rois=RINGS,
        sinks=[],
        report=None,
    )
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(live)
    agent = TemperatureForRate("heater", rate=7.0, between=(290.0, 320.0), rate_error=0.12)
    problem = rate_problem(
        agent,
        heater,
        live,
        lambda md: bp.count([camera], num=400, md=md),
        roi=2,
        rate_error=0.06,
    )
    engine(optimize(problem, iterations=6))
    assert live.close(20)

    ((_, parameters, outcome),) = agent.get_best_points()
    truth = 1 / (1 / AT_K - math.log(7.0 / (100 * PER_FRAME)) / ACTIVATION_K)
    assert abs(math.log(outcome["relaxation_rate"] / 7.0)) < 0.12
    assert parameters["heater"] == pytest.approx(truth, abs=3)
