"""The configuration that simulated detectors report, in the words of CHX's documents."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from xpcs_live_denoise.records.results import Geometry
from xpcs_live_denoise.sources.simulated_frames import FrameFactory, FrameSupply

# About CHX's: 9.65 keV, 10 m, an Eiger's pixels; the beam in the middle of the detector.
SIMULATED_GEOMETRY = Geometry(
    wavelength_angstrom=1.2848, detector_distance_m=10.0, pixel_size_m=75e-6
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfiguration:
    """What a simulated detector knows about itself.

    Attributes
    ----------
    name
        The device's name, which every key starts with.
    frame_shape
        (rows, cols).
    geometry
        None fields are not reported; without a beam centre, the middle of the frame is.
    acquire_time_s, acquire_period_s
        Exposure and frame period.
    num_images
        Frames of one series.
    """

    name: str
    frame_shape: tuple[int, int]
    geometry: Geometry
    acquire_time_s: float
    acquire_period_s: float
    num_images: int

    def read(self) -> dict[str, Any]:
        """Return the readings, {key: {"value": ..., "timestamp": ...}}."""
        now = time.time()
        return {
            key: {"value": value, "timestamp": now} for key, (value, _) in self._values().items()
        }

    def describe(self) -> dict[str, Any]:
        """Return the data keys of `read`."""
        return {
            key: {
                "source": f"SIM:{key}",
                "dtype": "integer" if isinstance(value, int) else "number",
                "shape": [],
                "units": unit,
            }
            for key, (value, unit) in self._values().items()
        }

    def _values(self) -> dict[str, tuple[float | int, str]]:
        geometry, (rows, cols) = self.geometry, self.frame_shape
        center_row, center_col = geometry.beam_center or ((rows - 1) / 2, (cols - 1) / 2)
        values: dict[str, tuple[float | int | None, str]] = {
            "beam_center_x": (center_col, "pixels"),
            "beam_center_y": (center_row, "pixels"),
            "wavelength": (geometry.wavelength_angstrom, "Angstrom"),
            "det_distance": (geometry.detector_distance_m, "m"),
            "x_pixel_size": (geometry.pixel_size_m, "m"),
            "y_pixel_size": (geometry.pixel_size_m, "m"),
            "cam_acquire_time": (self.acquire_time_s, "s"),
            "cam_acquire_period": (self.acquire_period_s, "s"),
            "cam_num_images": (self.num_images, ""),
        }
        return {
            f"{self.name}_{key}": (value, unit)
            for key, (value, unit) in values.items()
            if value is not None
        }


class Configured:
    """A simulated detector's answers about its configuration, from a few attributes of its own."""

    name: str
    _factory: FrameFactory
    _supply: FrameSupply | None
    _frame_rate_hz: float
    _geometry: Geometry
    _num_images: int  # frames of one trigger

    @property
    def hints(self) -> dict[str, Any]:
        """Say that no field is for plots and tables of scalars: frames are too large for them."""
        return {"fields": []}

    def read_configuration(self) -> dict[str, Any]:
        """Return exposure, frame period and geometry under CHX's names."""
        return self._configuration().read()

    def describe_configuration(self) -> dict[str, Any]:
        """Return the data keys of `read_configuration`."""
        return self._configuration().describe()

    def _series(self) -> FrameSupply:
        if self._supply is None:  # asked before the first staging, or by a plan without one
            self._supply = FrameSupply(self._factory)
        return self._supply

    def _configuration(self) -> DetectorConfiguration:
        return DetectorConfiguration(
            name=self.name,
            frame_shape=self._series().frame_shape,
            geometry=self._geometry,
            acquire_time_s=1 / self._frame_rate_hz,
            acquire_period_s=1 / self._frame_rate_hz,
            num_images=self._num_images,
        )
