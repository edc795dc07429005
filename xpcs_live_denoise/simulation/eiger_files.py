"""The files of a DECTRIS series as a detector writes them: a master and data files behind it."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Array, BoolArray

# Edges of a module and of the gaps between modules, pixels (rows, cols).
MODULE, GAP = (514, 1030), (37, 10)
DATASET = "/entry/data/data"


def chip_gaps(shape: tuple[int, int]) -> BoolArray:
    """Return where an Eiger of that shape has no pixels: the gaps between its modules."""
    rows, cols = (
        np.arange(edge) % (module + gap) >= module
        for edge, module, gap in zip(shape, MODULE, GAP, strict=True)
    )
    return rows[:, np.newaxis] | cols


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFiles:
    """Writes the files of one series.

    Attributes
    ----------
    series
        Path of the files up to, without, "_master.h5".
    n_frames, images_per_file
        Frames of the series, all triggers together, and of a full data file.
    frame_shape, dtype
        Of the frames.
    frame_time_s
        Frame period, for the master file.
    bad_pixels
        Shape of a frame, True = no measurement: gets the largest value of the dtype.
    copy_s
        0: a data file appears complete. Above: it appears half, as on a network file system, and
        is complete this many seconds later.
    n_triggers
        Triggers of the series.
    geometry
        For the master file; None fields are 0 there, as what nobody set.
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
