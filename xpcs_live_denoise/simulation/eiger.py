"""A simulated classic Eiger as CHX has them: an ophyd device that writes DECTRIS files."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import BoolArray, Document

from .camera import SIMULATED_GEOMETRY, FrameFactory, FrameSupply, SimulatedStatus
from .eiger_files import SeriesFiles

try:
    from ophyd import Component, Device, DynamicDeviceComponent, Signal
    from ophyd.device import Staged
except ImportError as error:
    raise MissingDependencyError(
        "The simulated classic Eiger is an ophyd device and ophyd is not installed. "
        "Install it with: pip install 'xpcs-live-denoise[profile]'"
    ) from error

# A component of ophyd is the signal or device itself on an instance: not typed.
Part: TypeAlias = Any


def _signals(kind: str, **values: float | str) -> Any:
    """Return signals with their first values, for a group of them."""
    return {name: (Signal, None, {"value": v, "kind": kind}) for name, v in values.items()}


class SimulatedEigerFilePlugin(Device):
    """The signals of NSLS-II's EigerSimulatedFilePlugin.

    Each staging makes a new prefix. `sequence_id` is that of the last series: the detector writes
    to the next one.
    """

    file_path: Part = Component(Signal, value="", kind="omitted")
    file_write_name_pattern: Part = Component(Signal, value="", kind="omitted")
    sequence_id: Part = Component(Signal, value=0, kind="omitted")
    file_write_images_per_file: Part = Component(Signal, value=100, kind="omitted")

    def stage(self) -> list[object]:
        """Choose the name of the files to come."""
        self.file_write_name_pattern.put(f"{uuid.uuid4().hex[:12]}_$id")
        return super().stage()


class SimulatedClassicEiger(Device):
    """Behaves like CHX's `eiger4m_single`: a classic ophyd device for any plan that reads it.

    One trigger of a plan is a whole series of `cam.num_images` frames, `num_triggers` times: a
    master file at once, data files while it runs, the last one after it. Documents come when it is
    over: descriptor, resource (spec AD_EIGER2), datum and one event. As at CHX none of them tells
    `num_triggers`, only the master does. An aborted series still writes the frames it has. Each
    staging starts the simulated series anew, each trigger takes the next frames of it. The beam is
    in the middle of the detector unless `geometry` says otherwise.

    CHX has three of them, which differ in their name and in the shape of their frames:
    "eiger4m_single" (2167, 2070), "eiger1m_single" (1065, 1030), "eiger500K_single" (514, 1030);
    `chip_gaps` says where the larger ones have no pixels.

    Parameters
    ----------
    frames
        Called for each staging; returns an iterator of blocks (k, rows, cols).
    directory
        Where the files go; created if absent.
    name
        The device's name; the data key is `<name>_image`.
    n_frames
        Frames of one series; `cam.num_images` changes it.
    images_per_file
        Frames of a full data file; `file.file_write_images_per_file` changes it.
    frame_rate_hz
        Frames per second; `cam.acquire_period` changes it.
    geometry
        Reported in the configuration; None fields are not.
    bad_pixels
        Shape of a frame, True = no measurement: gets the largest value of the dtype.
    write_delay_s
        How long after its last frame a data file appears.
    copy_s
        0: a data file appears complete. Above: it appears half, and is complete this many seconds
        later.

    Raises
    ------
    InvalidInputError
        For numbers that are not positive.
    """

    # What plans set; times in s.
    cam: Part = DynamicDeviceComponent(
        {
            **_signals("config", acquire_time=0.01, acquire_period=0.01, num_images=1),
            **_signals("omitted", acquire=0),
        }
    )
    file: Part = Component(SimulatedEigerFilePlugin, "")
    beam_center_x: Part = Component(Signal, value=0.0, kind="config")
    beam_center_y: Part = Component(Signal, value=0.0, kind="config")
    wavelength: Part = Component(Signal, value=0.0, kind="config")
    det_distance: Part = Component(Signal, value=0.0, kind="config")
    num_triggers: Part = Component(Signal, value=1, kind="omitted")

    def __init__(
        self,
        frames: FrameFactory,
        directory: str | Path,
        *,
        name: str = "eiger4m_single",
        n_frames: int = 100,
        images_per_file: int = 50,
        frame_rate_hz: float = 100.0,
        geometry: Geometry = SIMULATED_GEOMETRY,
        bad_pixels: BoolArray | None = None,
        write_delay_s: float = 0.06,
        copy_s: float = 0.0,
    ) -> None:
        if n_frames < 1 or images_per_file < 1 or not frame_rate_hz > 0:
            raise InvalidInputError(
                f"SimulatedClassicEiger: got n_frames={n_frames}, images_per_file="
                f"{images_per_file} and frame_rate_hz={frame_rate_hz}; expected all above 0."
            )
        super().__init__("", name=name)
        self._frames = FrameSupply(frames)
        self._geometry = geometry
        self._bad_pixels = bad_pixels
        self._write_delay_s, self._copy_s = write_delay_s, copy_s
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._asset_docs: deque[tuple[str, Document]] = deque()
        self._resource_uid = ""
        self._reading: Document | None = None
        self.cam.acquire_time.put(1 / frame_rate_hz)
        self.cam.acquire_period.put(1 / frame_rate_hz)
        self.cam.num_images.put(n_frames)
        self.file.file_path.put(str(Path(directory).resolve()) + "/")
        self.file.file_write_images_per_file.put(images_per_file)
        self.wavelength.put(geometry.wavelength_angstrom or 0.0)
        self.det_distance.put(geometry.detector_distance_m or 0.0)

    @property
    def image_key(self) -> str:
        """The data key of the frames."""
        return f"{self.name}_image"

    # --- Stageable ----------------------------------------------------------------------------

    def stage(self) -> list[object]:
        """Start the series anew, with a new prefix of its files."""
        self._end_series()
        self._frames.restart()
        rows, cols = self._frames.frame_shape
        row, col = self._geometry.beam_center or ((rows - 1) / 2, (cols - 1) / 2)
        self.beam_center_x.put(col)
        self.beam_center_y.put(row)
        staged = super().stage()
        folder = Path(self.file.file_path.get())
        folder.mkdir(parents=True, exist_ok=True)
        prefix = self.file.file_write_name_pattern.get().removesuffix("_$id")
        self._resource_uid = str(uuid.uuid4())
        resource = {
            "uid": self._resource_uid,
            "spec": "AD_EIGER2",
            "root": "/",
            "resource_path": str(folder / prefix).lstrip("/"),
            "resource_kwargs": {"images_per_file": self._images_per_file},
            "path_semantics": "posix",
        }
        self._asset_docs.clear()
        self._asset_docs.append(("resource", resource))
        return staged

    def unstage(self) -> list[object]:
        """End the series, if it still goes on, and close its files."""
        self._end_series()
        self._asset_docs.clear()
        return super().unstage()

    def stop(self, *, success: bool = False) -> None:
        """Disarm: the series ends with the frames it has."""
        self._stopping.set()
        super().stop(success=success)

    # --- Triggerable and Readable -------------------------------------------------------------

    def trigger(self) -> Any:
        """Take one series; done when all its files are written.

        Raises
        ------
        InvalidInputError
            When the detector is not staged.
        """
        if self._staged != Staged.yes:
            raise InvalidInputError(
                f"{self.name}: triggered without being staged; expected stage first, as every "
                "plan of bluesky does."
            )
        self._end_series()
        sequence_id = int(self.file.sequence_id.get()) + 1
        datum = {
            "resource": self._resource_uid,
            "datum_id": f"{self._resource_uid}/{sequence_id}",
            "datum_kwargs": {"seq_id": sequence_id},
        }
        self._asset_docs.append(("datum", datum))
        self._reading = {"value": datum["datum_id"], "timestamp": time.time()}
        files = self._files(sequence_id)
        status = SimulatedStatus(self.name, files.n_frames)
        self._thread = threading.Thread(
            target=self._acquire, args=(files, status), name=f"{self.name} writer", daemon=True
        )
        self._thread.start()
        return status

    def describe(self) -> Any:
        """Return the data key of the frames."""
        key = {
            "source": f"SIM:{self.name}",
            "dtype": "array",
            "dtype_numpy": self._frames.dtype.str,
            "shape": [int(self.cam.num_images.get()), *self._frames.frame_shape],
            "external": "FILESTORE:",
        }
        return {**super().describe(), self.image_key: key}

    def read(self) -> Any:
        """Return the datum of the last series."""
        reading = {} if self._reading is None else {self.image_key: self._reading}
        return {**super().read(), **reading}

    def collect_asset_docs(self) -> Iterator[tuple[str, Document]]:
        """Yield the resource, once a staging, and the datums since the last call."""
        while self._asset_docs:
            yield self._asset_docs.popleft()

    # --- the series ---------------------------------------------------------------------------

    @property
    def _images_per_file(self) -> int:
        return int(self.file.file_write_images_per_file.get())

    @property
    def _n_triggers(self) -> int:
        return int(self.num_triggers.get())

    def _files(self, sequence_id: int) -> SeriesFiles:
        name = self.file.file_write_name_pattern.get().replace("$id", str(sequence_id))
        return SeriesFiles(
            series=Path(self.file.file_path.get()) / name,
            n_frames=self._n_triggers * int(self.cam.num_images.get()),
            n_triggers=self._n_triggers,
            images_per_file=self._images_per_file,
            frame_shape=self._frames.frame_shape,
            dtype=self._frames.dtype,
            frame_time_s=float(self.cam.acquire_period.get()),
            bad_pixels=self._bad_pixels,
            copy_s=self._copy_s,
        )

    def _acquire(self, files: SeriesFiles, status: SimulatedStatus) -> None:
        try:
            self.cam.acquire.put(1)
            self.file.sequence_id.put(int(files.series.name.rpartition("_")[2]))
            files.write_master()
            self._write_series(files, status)
        except Exception as error:
            # The thread's edge: whatever went wrong becomes the failure of the plan.
            status.finish(error)
        else:
            status.finish()
        finally:
            self.cam.acquire.put(0)

    def _write_series(self, files: SeriesFiles, status: SimulatedStatus) -> None:
        armed, n_written = time.monotonic(), 0
        for number in range(1, files.n_files + 1):
            wanted = min(files.images_per_file, files.n_frames - n_written)
            frames = self._frames.take(wanted)
            if len(frames) < wanted:
                raise InvalidInputError(
                    f"{self.name}: its frames ended after {n_written + len(frames)}; expected "
                    f"{files.n_frames}. Ask for fewer or simulate more."
                )
            due = armed + (n_written + wanted) * files.frame_time_s + self._write_delay_s
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                missing_s = due - time.monotonic() - self._write_delay_s
                frames = frames[: wanted - round(max(0.0, missing_s) / files.frame_time_s)]
                if len(frames):
                    files.write_data(number, frames)
                return
            files.write_data(number, frames, self._stopping)
            n_written += wanted
            status.advance(wanted)

    def _end_series(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._stopping = threading.Event()
