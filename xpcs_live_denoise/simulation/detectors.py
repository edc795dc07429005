"""Simulated detectors: a camera with frames in its events, and an Eiger that streams."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import numpy as np
from event_model import ComposeStreamResource, ComposeStreamResourceBundle

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Array, Document, Fields

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

# About CHX's: 9.65 keV, 10 m, an Eiger's pixels; the beam in the middle of the detector.
SIMULATED_GEOMETRY = Geometry(
    wavelength_angstrom=1.2848, detector_distance_m=10.0, pixel_size_m=75e-6
)

# The dataset of frames in the files that the simulated detectors write.
DATASET = "/entry/data/data"
# Called at the start of each series; every block has shape (k, rows, cols).
FrameFactory: TypeAlias = Callable[[], Iterator[Array]]


def recorded(frames: Array, *, block: int = 50) -> FrameFactory:
    """Return a factory that hands out an array or HDF5 dataset of frames (n, rows, cols) again."""

    def blocks() -> Iterator[Array]:
        for start in range(0, len(frames), block):
            yield np.asarray(frames[start : start + block])

    return blocks


class FrameSupply:
    """The series of a FrameFactory, one after another. `take` consumes frames of the present one.

    A series begins with `restart`, or with the first question about it. A factory that gives no
    frames, or not frames of shape (k, rows, cols), is an InvalidInputError.
    """

    def __init__(self, factory: FrameFactory) -> None:
        self._factory = factory
        self._blocks: Iterator[Array] = iter(())
        self._rest: Array | None = None  # what is left of the last block

    def restart(self) -> None:
        """Begin a series, and make its first block."""
        self._blocks = iter(self._factory())
        self._rest = self._next_block()
        if self._rest is None:
            raise InvalidInputError(
                "Simulated detector: its factory gave no frames; expected blocks of shape "
                "(k, rows, cols). A factory must return a new iterator each time it is called."
            )

    def drop(self) -> None:
        """Forget what is left of the series."""
        self._blocks, self._rest = iter(()), None

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        _, rows, cols = self._started().shape
        return rows, cols

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""
        return self._started().dtype

    def take(self, n_frames: int) -> Array:
        """Return the next `n_frames` frames, fewer (or none) at the end of the series."""
        rest, parts, missing = self._started(), [], n_frames
        while missing:
            if not len(rest):  # only then: the next block may take long to make
                block = self._next_block()
                if block is None:
                    break
                rest = block
            parts.append(rest[:missing])
            rest = rest[missing:]
            missing -= len(parts[-1])
        self._rest = rest
        if not parts:
            return rest[:0]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _started(self) -> Array:
        if self._rest is None:  # asked before the first staging, or by a plan without one
            self.restart()
        assert self._rest is not None  # noqa: S101 - for the type checker
        return self._rest

    def _next_block(self) -> Array | None:
        block = next(self._blocks, None)
        if block is not None and (block.ndim != 3 or not block.size):
            raise InvalidInputError(
                f"Simulated detector: its factory gave a block of shape {block.shape}; expected "
                "(k, rows, cols) with at least one frame."
            )
        return block


class SimulatedStatus:
    """A bluesky Status: done once, with or without an exception; a progress bar can watch it.

    `name` is the device's, `n_frames` how many frames it is about, for the progress bar.
    """

    def __init__(self, name: str = "", n_frames: int = 0) -> None:
        self._name, self._n_frames, self._n_done = name, n_frames, 0
        self._future: Future[None] = Future()
        self._watchers: list[Callable[..., None]] = []

    def finish(self, exception: BaseException | None = None) -> None:
        """Mark as done, once."""
        if exception is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(exception)

    @contextlib.contextmanager
    def finishing(self) -> Iterator[None]:
        """Finish with the block, the edge of a thread: what it raises fails the plan."""
        try:
            yield
        except Exception as error:
            self.finish(error)
        else:
            self.finish()

    def add_callback(self, callback: Callable[[SimulatedStatus], None]) -> None:
        """Call `callback` with this status when it is done, at once if it is."""
        self._future.add_done_callback(lambda _: callback(self))

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Return what went wrong, None if nothing did, after at most `timeout` s."""
        return self._future.exception(timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is done; raise what went wrong."""
        self._future.result(timeout)

    @property
    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._future.done()

    @property
    def success(self) -> bool:
        """Whether it has ended well."""
        return self.done and self._future.exception() is None

    def watch(self, func: Callable[..., None]) -> None:
        """Call `func` now, and with the number of frames whenever there are more of them."""
        self._watchers.append(func)
        self.advance(0)

    def advance(self, n_frames: int) -> None:
        """Count frames that were written."""
        self._n_done += n_frames
        for watcher in self._watchers:
            watcher(
                name=self._name,
                current=self._n_done,
                initial=0,
                target=self._n_frames,
                unit=" frames",
                precision=0,
            )


class SimulatedDetector:
    """What a detector knows about itself, and reports in the words of CHX's documents.

    Its parameters are those of the detectors below; `n_frames` are the frames of one trigger.
    """

    parent = None

    def __init__(
        self,
        frames: FrameFactory,
        *,
        name: str,
        frame_rate_hz: float,
        geometry: Geometry,
        n_frames: int,
    ) -> None:
        self.name = name
        self.n_frames = n_frames
        self._series = FrameSupply(frames)
        self._frame_rate_hz = frame_rate_hz
        self._geometry = geometry

    @property
    def hints(self) -> Document:
        """Say that no field is for plots and tables of scalars: frames are too large for them."""
        return {"fields": []}

    def read_configuration(self) -> Document:
        """Return exposure, frame period and geometry under CHX's names."""
        now = time.time()
        return {
            key: {"value": value, "timestamp": now}
            for key, (value, _) in self._configuration().items()
        }

    def describe_configuration(self) -> Document:
        """Return the data keys of `read_configuration`."""
        return {
            key: {
                "source": f"SIM:{key}",
                "dtype": "integer" if isinstance(value, int) else "number",
                "shape": [],
                "units": unit,
            }
            for key, (value, unit) in self._configuration().items()
        }

    def _data_key(self, shape: list[int], **more: str) -> Document:
        """Return the data key of frames."""
        return {
            f"{self.name}_image": {
                "source": f"SIM:{self.name}",
                "dtype": "array",
                "dtype_numpy": self._series.dtype.str,
                "shape": shape,
                **more,
            }
        }

    def _configuration(self) -> dict[str, tuple[float | int, str]]:
        geometry, (rows, cols) = self._geometry, self._series.frame_shape
        center_row, center_col = geometry.beam_center or ((rows - 1) / 2, (cols - 1) / 2)
        values: dict[str, tuple[float | int | None, str]] = {
            "beam_center_x": (center_col, "pixels"),
            "beam_center_y": (center_row, "pixels"),
            "wavelength": (geometry.wavelength_angstrom, "Angstrom"),
            "det_distance": (geometry.detector_distance_m, "m"),
            "x_pixel_size": (geometry.pixel_size_m, "m"),
            "y_pixel_size": (geometry.pixel_size_m, "m"),
            "cam_acquire_time": (1 / self._frame_rate_hz, "s"),
            "cam_acquire_period": (1 / self._frame_rate_hz, "s"),
            "cam_num_images": (self.n_frames, ""),
        }
        return {
            f"{self.name}_{key}": (value, unit)
            for key, (value, unit) in values.items()
            if value is not None
        }


class SimulatedCamera(SimulatedDetector):
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
        Reported in the configuration: None fields are not; without a beam centre, the middle of
        the frame is.
    """

    def __init__(
        self,
        frames: FrameFactory,
        *,
        name: str = "camera",
        frames_per_event: int = 1,
        frame_rate_hz: float = 100.0,
        geometry: Geometry = SIMULATED_GEOMETRY,
    ) -> None:
        super().__init__(
            frames,
            name=name,
            frame_rate_hz=frame_rate_hz,
            geometry=geometry,
            n_frames=frames_per_event,
        )

    def stage(self) -> list[SimulatedCamera]:
        """Start the series anew."""
        self._series.restart()
        return [self]

    def unstage(self) -> list[SimulatedCamera]:
        """Drop what is left of the series."""
        self._series.drop()
        return [self]

    def read(self) -> Document:
        """Return the next frames of the series; refused where it has ended."""
        frames = self._series.take(self.n_frames)
        if len(frames) < self.n_frames:
            raise InvalidInputError(
                f"{self.name}: its series has ended; expected {self.n_frames} more "
                "frames. Plan fewer points or simulate more frames."
            )
        value = frames[0] if self.n_frames == 1 else frames
        return {f"{self.name}_image": {"value": value, "timestamp": time.time()}}

    def describe(self) -> Document:
        """Return the data key of the frames."""
        several = [self.n_frames] if self.n_frames > 1 else []
        return self._data_key([*several, *self._series.frame_shape])


# Frames that fall due within this time are written together.
WRITE_PERIOD_S = 0.02


class SimulatedEiger(SimulatedDetector):
    """An Eiger that streams: it writes SWMR HDF5 at a frame rate and announces the frames.

    A bluesky Stageable, Flyable, Collectable, WritesStreamAssets and Configurable. Each staging
    makes a new file and starts the series anew. From the kickoff a thread writes the frames at the
    frame rate; where they are made more slowly the rate drops and no frame is lost. Run it with
    `fly_series`.

    Parameters
    ----------
    directory
        Where the files go; created if absent.
    n_frames, frame_rate_hz
        Frames of one series, and per second.
    frames, name, geometry
        As of SimulatedCamera.

    Attributes
    ----------
    n_written
        Frames in the file that a reader can see.
    path
        File of the last series; None before the first.
    """

    def __init__(
        self,
        frames: FrameFactory,
        directory: str | Path,
        *,
        n_frames: int,
        name: str = "eiger4m_single",
        frame_rate_hz: float = 100.0,
        geometry: Geometry = SIMULATED_GEOMETRY,
    ) -> None:
        if n_frames < 1 or not frame_rate_hz > 0:
            raise InvalidInputError(
                f"SimulatedEiger: got n_frames={n_frames} and frame_rate_hz={frame_rate_hz}; "
                "expected both above 0."
            )
        super().__init__(
            frames, name=name, frame_rate_hz=frame_rate_hz, geometry=geometry, n_frames=n_frames
        )
        self.n_written = 0
        self.path: Path | None = None
        self._directory = Path(directory)
        self._file: h5py.File | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._completion = SimulatedStatus()
        self._elapsed_s = 0.0
        self._resource: ComposeStreamResourceBundle | None = None
        self._n_announced = 0

    @property
    def achieved_rate_hz(self) -> float:
        """Frames per second that were written since the kickoff; 0 before the first."""
        return self.n_written / self._elapsed_s if self._elapsed_s else 0.0

    def stage(self) -> list[SimulatedEiger]:
        """Start the series anew and open its file, empty and in SWMR mode."""
        self.unstage()
        self._series.restart()
        self._directory.mkdir(parents=True, exist_ok=True)
        self.path = self._directory.resolve() / f"{self.name}_{uuid.uuid4().hex[:12]}.h5"
        shape = self._series.frame_shape
        self._file = h5py.File(self.path, "w", libver="latest")
        self._file.create_dataset(
            DATASET,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=self._series.dtype,
        )
        self._file.swmr_mode = True
        self._stopping.clear()
        self._completion = SimulatedStatus()
        self._elapsed_s, self.n_written = 0.0, 0
        self._resource, self._n_announced = None, 0
        return [self]

    def unstage(self) -> list[SimulatedEiger]:
        """Stop the writing, if it still goes on, and close the file."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._file is not None:
            self._file.close()
            self._file = None
        return [self]

    def kickoff(self) -> SimulatedStatus:
        """Start to write frames; refused where the detector is not staged."""
        if self._file is None:
            raise InvalidInputError(
                f"{self.name}: kickoff of a detector that is not staged; expected stage first. "
                "Use the plan fly_series."
            )
        self._thread = threading.Thread(
            target=self._acquire, args=(self._file,), name=f"{self.name} writer", daemon=True
        )
        self._thread.start()
        started = SimulatedStatus()
        started.finish()
        return started

    def complete(self) -> SimulatedStatus:
        """Return the status that is done when the last frame is in the file."""
        return self._completion

    def _acquire(self, file: h5py.File) -> None:
        with self._completion.finishing(), file:
            self._write_series(file)

    def _write_series(self, file: h5py.File) -> None:
        dataset = file[DATASET]
        assert isinstance(dataset, h5py.Dataset)  # noqa: S101 - for the type checker
        together = max(1, round(self._frame_rate_hz * WRITE_PERIOD_S))
        kicked_off = time.monotonic()
        while self.n_written < self.n_frames:
            frames = self._series.take(min(together, self.n_frames - self.n_written))
            if not len(frames):
                raise InvalidInputError(
                    f"{self.name}: its frames ended after {self.n_written}; expected "
                    f"{self.n_frames}. Ask for fewer or simulate more."
                )
            stop = self.n_written + len(frames)
            due = kicked_off + stop / self._frame_rate_hz
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                return
            dataset.resize(stop, axis=0)
            dataset[self.n_written :] = frames
            dataset.flush()
            self._elapsed_s = time.monotonic() - kicked_off
            self.n_written = stop  # last: what counts as written can be read

    def describe_collect(self) -> Document:
        """Return the data key of the frames."""
        return self._data_key(list(self._series.frame_shape), external="STREAM:")

    def get_index(self) -> int:
        """Return how many frames are in the file."""
        return self.n_written

    def collect_asset_docs(self, index: int | None = None) -> Iterator[tuple[str, Any]]:
        """Yield the documents of what has been written since the last call, up to `index`."""
        stop = self.n_written if index is None else min(index, self.n_written)
        if stop <= self._n_announced or self.path is None:
            return
        if self._resource is None:
            self._resource = ComposeStreamResource()(
                mimetype="application/x-hdf5",
                uri=self.path.as_uri().replace("file:///", "file://localhost/"),
                data_key=f"{self.name}_image",
                parameters={
                    "dataset": DATASET,
                    "swmr": True,
                    "chunk_shape": (1, *self._series.frame_shape),
                    "join_method": "stack",
                },
            )
            yield "stream_resource", self._resource.stream_resource_doc
        start, self._n_announced = self._n_announced, stop
        yield (
            "stream_datum",
            self._resource.compose_stream_datum({"start": start, "stop": stop}),
        )


def fly_series(
    detector: SimulatedEiger,
    *,
    md: Fields | None = None,
    flush_period: float = 0.25,
    stream_name: str = "primary",
) -> MsgGenerator[str]:
    """Take one series of frames and announce them while it runs.

    However the plan ends, the run is closed first and the detector unstaged after it.

    Parameters
    ----------
    detector
        A device that is Stageable, Flyable, Collectable and WritesStreamAssets, with `n_frames`.
    md
        Further metadata for the start document.
    flush_period
        Longest time between two announcements, s.
    stream_name
        Name of the stream that holds the frames.

    Returns
    -------
    str
        Uid of the run.
    """
    metadata = {
        "plan_name": "fly_series",
        "detectors": [detector.name],
        "num_points": detector.n_frames,
        **(md or {}),
    }

    def series() -> MsgGenerator[None]:
        # Before the kickoff: bluesky refuses to collect a detector of stream assets otherwise.
        yield from bps.declare_stream(detector, name=stream_name, collect=True)  # pyright: ignore[reportArgumentType]
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing(
            [detector], [detector], flush_period=flush_period, stream_name=stream_name
        )

    run = bpp.run_wrapper(series(), md=metadata)
    return (yield from bpp.stage_wrapper(run, [detector]))
