"""Simulated detectors and their plan, in one place: for the demo, the tests and a first try."""

from __future__ import annotations

from xpcs_live_denoise.sources.plans import fly_series
from xpcs_live_denoise.sources.simulated_camera import SimulatedCamera
from xpcs_live_denoise.sources.simulated_configuration import SIMULATED_GEOMETRY
from xpcs_live_denoise.sources.simulated_frames import FrameFactory, recorded
from xpcs_live_denoise.sources.simulated_stream import SimulatedEiger

__all__ = [
    "SIMULATED_GEOMETRY",
    "FrameFactory",
    "SimulatedCamera",
    "SimulatedEiger",
    "fly_series",
    "recorded",
]
