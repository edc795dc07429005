"""A simulated camera whose frames travel inside the events, for any plan that reads detectors."""

from __future__ import annotations

import time
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import Geometry
from xpcs_live_denoise.sources.simulated_configuration import (
    SIMULATED_GEOMETRY,
    Configured,
)
from xpcs_live_denoise.sources.simulated_frames import FrameFactory, FrameSupply


class SimulatedCamera(Configured):
    """A bluesky Readable, Stageable and Configurable with its frames inline in each event.

    Each staging starts the series anew; each reading takes the next frames of it.

    Parameters
    ----------
    frames
        Called for each series; returns an iterator of blocks (k, rows, cols).
    name
        The device's name; the data key is `<name>_image`.
    frames_per_event
        1: events hold (rows, cols). More: (frames_per_event, rows, cols).
    frame_rate_hz
        Reported as 1 / `<name>_cam_acquire_period`; the plan makes the true rate.
    geometry
        Reported in the configuration.
    """

    parent = None

    def __init__(
        self,
        frames: FrameFactory,
        *,
        name: str = "camera",
        frames_per_event: int = 1,
        frame_rate_hz: float = 100.0,
        geometry: Geometry = SIMULATED_GEOMETRY,
    ) -> None:
        self.name = name
        self._factory = frames
        self._frames_per_event = frames_per_event
        self._frame_rate_hz = frame_rate_hz
        self._geometry = geometry
        self._supply: FrameSupply | None = None
        self._num_images = frames_per_event

    def stage(self) -> list[Any]:
        """Start the series anew."""
        self._supply = FrameSupply(self._factory)
        return [self]

    def unstage(self) -> list[Any]:
        """Drop what is left of the series."""
        self._supply = None
        return [self]

    def read(self) -> dict[str, Any]:
        """Return the next frames of the series.

        Raises
        ------
        InvalidInputError
            When the series has ended.
        """
        frames = self._series().take(self._frames_per_event)
        if len(frames) < self._frames_per_event:
            raise InvalidInputError(
                f"{self.name}: its series has ended; expected {self._frames_per_event} more "
                "frames. Plan fewer points or simulate more frames."
            )
        value = frames[0] if self._frames_per_event == 1 else frames
        return {f"{self.name}_image": {"value": value, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        """Return the data key of the frames."""
        series = self._series()
        k = self._frames_per_event
        return {
            f"{self.name}_image": {
                "source": f"SIM:{self.name}",
                "dtype": "array",
                "dtype_numpy": series.dtype.str,
                "shape": [*([k] if k > 1 else []), *series.frame_shape],
            }
        }
