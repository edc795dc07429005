"""References to frames, the Protocol of what turns them into pixels, and where pixels are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFrames:
    """Frames that a document carried itself.

    Attributes
    ----------
    frames
        Shape (k, rows, cols), any real dtype. Shared with the document: whoever keeps it copies.
    """

    frames: NDArray[Any]

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.frames.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class HDF5Frames:
    """Frames that lie in an HDF5 dataset, possibly still being written (SWMR).

    Attributes
    ----------
    path, dataset
        Local path of the file and name of the dataset in it, whose shape is (n, rows, cols).
    start, stop
        Frames [start, stop) of the dataset.
    swmr
        Whether the writer still has the file open in SWMR mode.
    """

    path: str
    dataset: str
    start: int
    stop: int
    swmr: bool = True

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class EigerFrames:
    """Frames of one DECTRIS series: `<prefix>_<sequence_id>_master.h5` and its data files.

    Attributes
    ----------
    prefix
        Path of the files up to, without, "_<sequence_id>".
    sequence_id
        Number of the series, as the detector counts them.
    start, stop
        Frames [start, stop) of the series; stop None: as many as the files hold.
    images_per_file
        Frames of a full data file, where a document or the device tells.
    """

    prefix: str
    sequence_id: int
    start: int
    stop: int | None
    images_per_file: int | None = None

    @property
    def series(self) -> str:
        """What names the series: path without "_master.h5"."""
        return f"{self.prefix}_{self.sequence_id}"

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference; 0 where only the files know."""
        return 0 if self.stop is None else self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFrames:
    """Frames of one legacy datum, read by the handler of its resource's spec.

    Attributes
    ----------
    resource, datum
        The two documents.
    n_frames
        Number of frames that the event should hold.
    """

    resource: Mapping[str, Any]
    datum: Mapping[str, Any]
    n_frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledFrames:
    """Frames of an array in Tiled.

    Attributes
    ----------
    path
        Keys from the client that reads them down to the array, "/" between them.
    start, stop
        Frames [start, stop).
    """

    path: str
    start: int
    stop: int

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.stop - self.start


FrameReference: TypeAlias = InlineFrames | HDF5Frames | EigerFrames | AssetFrames | TiledFrames


class FrameSource(Protocol):
    """Turns frame references into pixels. The in-memory fake of the tests is one, too."""

    def read(self, reference: FrameReference, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Yield the frames of `reference` in order, as arrays (k, rows, cols) below `max_bytes`.

        Raises
        ------
        UnreadableFramesError
            When the file or dataset cannot be read; frames yielded before are good.
        """
        ...

    def close(self) -> None:
        """Close every file that is held open."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What is needed to give a pixel its q. Every field is None where nobody told us.

    Attributes
    ----------
    beam_center
        (row, col) in pixels.
    wavelength_angstrom, detector_distance_m, pixel_size_m
        X-ray wavelength, sample to detector, edge of a (square) pixel.
    """

    beam_center: tuple[float, float] | None = None
    wavelength_angstrom: float | None = None
    detector_distance_m: float | None = None
    pixel_size_m: float | None = None
