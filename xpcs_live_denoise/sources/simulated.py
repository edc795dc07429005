"""Simulated detectors and their plan, in one place: for the demo, the tests and a first try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.sources.plans import fly_series
from xpcs_live_denoise.sources.simulated_camera import SimulatedCamera
from xpcs_live_denoise.sources.simulated_configuration import SIMULATED_GEOMETRY
from xpcs_live_denoise.sources.simulated_frames import FrameFactory, recorded
from xpcs_live_denoise.sources.simulated_stream import SimulatedEiger

if TYPE_CHECKING:
    from xpcs_live_denoise.sources.simulated_eiger import SimulatedClassicEiger

__all__ = [
    "SIMULATED_GEOMETRY",
    "FrameFactory",
    "SimulatedCamera",
    "SimulatedClassicEiger",
    "SimulatedEiger",
    "fly_series",
    "recorded",
]


def __getattr__(name: str) -> Any:
    """Import the one detector that needs ophyd when somebody asks for it."""
    if name != "SimulatedClassicEiger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xpcs_live_denoise.sources.simulated_eiger import SimulatedClassicEiger

    return SimulatedClassicEiger
