"""The configuration that simulated detectors report, in the words of CHX's documents."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import Geometry

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


# Called at the start of each series; every block has shape (k, rows, cols).
FrameFactory: TypeAlias = Callable[[], Iterator[NDArray[Any]]]


def recorded(frames: NDArray[Any], *, block: int = 50) -> FrameFactory:
    """Return a factory that hands out an array or HDF5 dataset of frames (n, rows, cols) again."""

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(frames), block):
            yield np.asarray(frames[start : start + block])

    return blocks


class FrameSupply:
    """One series of a FrameFactory. `take` consumes frames, the attributes do not.

    Attributes
    ----------
    frame_shape, dtype
        Of the frames; the first block is made when the supply is.

    Raises
    ------
    InvalidInputError
        When the factory gives no frames, or not frames of shape (k, rows, cols).
    """

    def __init__(self, factory: FrameFactory) -> None:
        self._blocks = iter(factory())
        self._rest = self._next_block()
        if self._rest is None:
            raise InvalidInputError(
                "Simulated detector: its factory gave no frames; expected blocks of shape "
                "(k, rows, cols). A factory must return a new iterator each time it is called."
            )
        self.frame_shape: tuple[int, int] = (self._rest.shape[1], self._rest.shape[2])
        self.dtype: np.dtype[Any] = self._rest.dtype

    def take(self, n_frames: int) -> NDArray[Any]:
        """Return the next `n_frames` frames, fewer (or none) at the end of the series."""
        parts: list[NDArray[Any]] = []
        missing = n_frames
        while missing and self._rest is not None:
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
            if missing:  # only then: the next block may take long to make
                self._rest = self._next_block()
        if not parts:
            return np.empty((0, *self.frame_shape), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next_block(self) -> NDArray[Any] | None:
        block = next(self._blocks, None)
        if block is not None and (block.ndim != 3 or not block.size):
            raise InvalidInputError(
                f"Simulated detector: its factory gave a block of shape {block.shape}; expected "
                "(k, rows, cols) with at least one frame."
            )
        return block


class SimulatedStatus:
    """A bluesky Status: done once, with or without an exception."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[SimulatedStatus], None]] = []

    def finish(self, exception: BaseException | None = None) -> None:
        """Mark as done; later calls change nothing."""
        with self._lock:
            if self._done.is_set():
                return
            self._exception = exception
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_callback(self, callback: Callable[[SimulatedStatus], None]) -> None:
        """Call `callback` with this status when it is done, at once if it is."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Return what went wrong, None if nothing did, after at most `timeout` s."""
        if not self._done.wait(timeout):
            raise TimeoutError("The status is not done.")
        return self._exception

    @property
    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._done.is_set()

    @property
    def success(self) -> bool:
        """Whether it has ended well."""
        return self.done and self._exception is None


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
