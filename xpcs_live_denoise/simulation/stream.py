"""A simulated Eiger that streams: it writes SWMR HDF5 at a frame rate and announces the frames."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
from event_model import ComposeStreamResource, ComposeStreamResourceBundle

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Document, Fields

from .camera import SIMULATED_GEOMETRY, FrameFactory, SimulatedDetector, SimulatedStatus

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

DATASET = "/entry/data/data"
# Frames that fall due within this time are written together.
WRITE_PERIOD_S = 0.02


class SimulatedEiger(SimulatedDetector):
    """A bluesky Stageable, Flyable, Collectable, WritesStreamAssets and Configurable.

    Each staging makes a new file and starts the series anew. From the kickoff a thread writes the
    frames at the frame rate; where they are made more slowly the rate drops and no frame is lost.
    Run it with `fly_series`.

    Parameters
    ----------
    frames
        Called for each series; returns an iterator of blocks (k, rows, cols).
    directory
        Where the files go; created if absent.
    n_frames
        Frames of one series.
    name
        The device's name; the data key is `<name>_image`.
    frame_rate_hz
        Frames per second.
    geometry
        Reported in the configuration.

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

    # --- Stageable ----------------------------------------------------------------------------

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

    # --- Flyable ------------------------------------------------------------------------------

    def kickoff(self) -> SimulatedStatus:
        """Start to write frames.

        Raises
        ------
        InvalidInputError
            When the detector is not staged.
        """
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
        try:
            self._write_series(file)
        except Exception as error:
            # The thread's edge: whatever went wrong becomes the failure of the plan.
            self._completion.finish(error)
        else:
            self._completion.finish()
        finally:
            file.close()

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

    # --- Collectable, WritesStreamAssets ------------------------------------------------------

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

    The stream has to be declared before the kickoff: bluesky refuses to collect a detector of
    stream assets otherwise. However the plan ends, the run is closed first and the detector
    unstaged after it.

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
        yield from bps.declare_stream(detector, name=stream_name, collect=True)  # pyright: ignore[reportArgumentType]
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing(
            [detector], [detector], flush_period=flush_period, stream_name=stream_name
        )

    run = bpp.run_wrapper(series(), md=metadata)
    return (yield from bpp.stage_wrapper(run, [detector]))
