"""A simulated classic Eiger as CHX has them: an ophyd device, and the DECTRIS files it writes."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import hdf5plugin
import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Array, BoolArray, Document

from .detectors import DATASET, SIMULATED_GEOMETRY, FrameFactory, FrameSupply, SimulatedStatus

try:
    from ophyd import Component, Device, DynamicDeviceComponent, Signal
    from ophyd.device import Staged
except ImportError as error:
    raise MissingDependencyError(
        "The simulated classic Eiger is an ophyd device and ophyd is not installed. "
        f"{install_line('profile')}."
    ) from error

# A component of ophyd is the signal or device itself on an instance: not typed.
Part: TypeAlias = Any


def _signals(kind: str, **values: float | str) -> Any:
    """Return signals with their first values, for a group of them."""
    return {name: (Signal, None, {"value": v, "kind": kind}) for name, v in values.items()}


# Edges of a module and of the gaps between modules, pixels (rows, cols).
MODULE, GAP = (514, 1030), (37, 10)


def chip_gaps(shape: tuple[int, int]) -> BoolArray:
    """Return where an Eiger of that shape has no pixels: the gaps between its modules."""
    rows, cols = (
        np.arange(edge) % (module + gap) >= module
        for edge, module, gap in zip(shape, MODULE, GAP, strict=True)
    )
    return rows[:, np.newaxis] | cols


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFiles:
    """Writes the files of one series: a master at once, and data files behind it.

    `series` is the path up to, without, "_master.h5"; `n_frames` are those of all its triggers.
    Where `bad_pixels`, the shape of a frame, is True, frames get the largest value of the dtype.
    With `copy_s` above 0 a data file appears half, as on a network file system, and is complete so
    many seconds later. What `geometry` does not tell is 0 in the master, as what nobody set.
    """

    series: Path
    n_frames: int
    images_per_file: int
    frame_shape: tuple[int, int]
    dtype: np.dtype
    frame_time_s: float
    bad_pixels: BoolArray | None = None
    copy_s: float = 0.0
    n_triggers: int = 1
    geometry: Geometry = dataclasses.field(default_factory=Geometry)

    @property
    def n_files(self) -> int:
        """Number of data files."""
        return math.ceil(self.n_frames / self.images_per_file)

    def data_path(self, number: int) -> Path:
        """Path of a data file, which count from 1."""
        return self.series.with_name(f"{self.series.name}_data_{number:06d}.h5")

    def write_master(self) -> None:
        """Write the master file, whose links point at data files still to come."""

        def fill(file: h5py.File) -> None:
            for number in range(1, self.n_files + 1):
                link = h5py.ExternalLink(self.data_path(number).name, DATASET)
                file[f"/entry/data/data_{number:06d}"] = link
            detector = file.create_group("/entry/instrument/detector")
            detector["frame_time"] = self.frame_time_s
            detector["count_time"] = self.frame_time_s
            row, col = self.geometry.beam_center or (0.0, 0.0)
            detector["beam_center_y"], detector["beam_center_x"] = row, col
            detector["detector_distance"] = self.geometry.detector_distance_m or 0.0
            detector["x_pixel_size"] = detector["y_pixel_size"] = self.geometry.pixel_size_m or 0.0
            wavelength = self.geometry.wavelength_angstrom or 0.0
            file["/entry/instrument/beam/incident_wavelength"] = wavelength
            specific = detector.create_group("detectorSpecific")
            specific["nimages"] = self.n_frames // self.n_triggers
            specific["ntrigger"] = self.n_triggers
            if self.bad_pixels is not None:
                specific.create_dataset(
                    "pixel_mask", data=self.bad_pixels.astype(np.uint32), **hdf5plugin.Bitshuffle()
                )

        self._appear(self.series.with_name(f"{self.series.name}_master.h5"), fill, None)

    def write_data(
        self, number: int, frames: Array, stopping: threading.Event | None = None
    ) -> None:
        """Write a data file, compressed as a detector does."""
        if self.bad_pixels is not None:
            frames = frames.copy()
            frames[:, self.bad_pixels] = np.iinfo(self.dtype).max

        def fill(file: h5py.File) -> None:
            dataset = file.create_dataset(
                DATASET,
                data=frames,
                chunks=(1, *self.frame_shape),
                maxshape=(None, *self.frame_shape),
                **hdf5plugin.Bitshuffle(cname="lz4"),
            )
            first = (number - 1) * self.images_per_file + 1
            dataset.attrs["image_nr_low"] = first
            dataset.attrs["image_nr_high"] = first + len(frames) - 1

        self._appear(self.data_path(number), fill, stopping or threading.Event())

    def _appear(
        self, path: Path, fill: Callable[[h5py.File], None], stopping: threading.Event | None
    ) -> None:
        """Write under a hidden name, then let the file appear at once or in two halves."""
        hidden = path.with_name(f".{path.name}.part")
        with h5py.File(hidden, "w") as file:
            fill(file)
        if not self.copy_s or stopping is None:
            os.replace(hidden, path)
            return
        content = hidden.read_bytes()
        hidden.unlink()
        with path.open("wb") as copy:
            copy.write(content[: len(content) // 2])
            copy.flush()
            stopping.wait(self.copy_s)
            copy.write(content[len(content) // 2 :])


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
    name, prefix
        The device's name; the data key is `<name>_image`. What the names of its files begin with;
        None: another text each staging, as at CHX.
    n_frames, images_per_file, frame_rate_hz
        Frames of one series, of a full data file, and per second; `cam.num_images`,
        `file.file_write_images_per_file` and `cam.acquire_period` change them. All above 0.
    geometry
        Reported in the configuration; None fields are not.
    bad_pixels, copy_s
        See SeriesFiles.
    write_delay_s
        How long after its last frame a data file appears.
    make_files
        Makes the files of a series from the fields of SeriesFiles; another function or subclass
        for a detector that writes differently.
    """

    # What plans set; times in s.
    cam: Part = DynamicDeviceComponent(
        {
            **_signals("config", acquire_time=0.01, acquire_period=0.01, num_images=1),
            **_signals("omitted", acquire=0),
        }
    )
    # As NSLS-II's EigerSimulatedFilePlugin. `sequence_id` is that of the last series: the detector
    # writes to the next one.
    file: Part = DynamicDeviceComponent(
        _signals(
            "omitted",
            file_path="",
            file_write_name_pattern="",
            sequence_id=0,
            file_write_images_per_file=100,
        )
    )
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
        prefix: str | None = None,
        n_frames: int = 100,
        images_per_file: int = 50,
        frame_rate_hz: float = 100.0,
        geometry: Geometry = SIMULATED_GEOMETRY,
        bad_pixels: BoolArray | None = None,
        write_delay_s: float = 0.06,
        copy_s: float = 0.0,
        make_files: Callable[..., SeriesFiles] = SeriesFiles,
    ) -> None:
        if n_frames < 1 or images_per_file < 1 or not frame_rate_hz > 0:
            raise InvalidInputError(
                f"SimulatedClassicEiger: got n_frames={n_frames}, images_per_file="
                f"{images_per_file} and frame_rate_hz={frame_rate_hz}; expected all above 0."
            )
        super().__init__("", name=name)
        self._frames = FrameSupply(frames)
        self._prefix = prefix
        self._geometry = geometry
        self._make_files = functools.partial(make_files, bad_pixels=bad_pixels, copy_s=copy_s)
        self._write_delay_s = write_delay_s
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

    def stage(self) -> list[object]:
        """Start the series anew, with a new prefix of its files."""
        self._end_series()
        self._frames.restart()
        rows, cols = self._frames.frame_shape
        row, col = self._geometry.beam_center or ((rows - 1) / 2, (cols - 1) / 2)
        self.beam_center_x.put(col)
        self.beam_center_y.put(row)
        prefix = uuid.uuid4().hex[:12] if self._prefix is None else self._prefix
        self.file.file_write_name_pattern.put(f"{prefix}_$id")
        staged = super().stage()
        folder = Path(self.file.file_path.get())
        folder.mkdir(parents=True, exist_ok=True)
        self._resource_uid = str(uuid.uuid4())
        resource = {
            "uid": self._resource_uid,
            "spec": "AD_EIGER2",
            "root": "/",
            "resource_path": str(folder / prefix).lstrip("/"),
            "resource_kwargs": {"images_per_file": self._images_per_file()},
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

    def trigger(self) -> Any:
        """Take one series; done when all its files are written. Refused without staging."""
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
        return {**super().describe(), f"{self.name}_image": key}

    def read(self) -> Any:
        """Return the datum of the last series."""
        reading = {} if self._reading is None else {f"{self.name}_image": self._reading}
        return {**super().read(), **reading}

    def collect_asset_docs(self) -> Iterator[tuple[str, Document]]:
        """Yield the resource, once a staging, and the datums since the last call."""
        while self._asset_docs:
            yield self._asset_docs.popleft()

    def _images_per_file(self) -> int:
        return int(self.file.file_write_images_per_file.get())

    def _files(self, sequence_id: int) -> SeriesFiles:
        name = self.file.file_write_name_pattern.get().replace("$id", str(sequence_id))
        n_triggers = int(self.num_triggers.get())
        return self._make_files(
            series=Path(self.file.file_path.get()) / name,
            n_frames=n_triggers * int(self.cam.num_images.get()),
            n_triggers=n_triggers,
            images_per_file=self._images_per_file(),
            frame_shape=self._frames.frame_shape,
            dtype=self._frames.dtype,
            frame_time_s=float(self.cam.acquire_period.get()),
        )

    def _acquire(self, files: SeriesFiles, status: SimulatedStatus) -> None:
        with status.finishing():
            self.cam.acquire.put(1)
            try:
                self.file.sequence_id.put(int(files.series.name.rpartition("_")[2]))
                files.write_master()
                self._write_series(files, status)
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
