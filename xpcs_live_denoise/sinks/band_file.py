"""The band of one long series in an HDF5 file, written while the series is analysed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, text_of
from xpcs_live_denoise.records.results import BandRows

logger = logging.getLogger(__name__)

_CHUNK = 512  # frames


class StoredBand:
    """A dataset of a file that BandFile wrote, read as it is needed; NaN where it has no row.

    `n_frames`: how many frames the series has.
    """

    def __init__(self, path: Path, name: str, n_frames: int) -> None:
        self._path, self._name = path, name
        with _opened(path) as file:
            n_roi, _, window = file[name].shape
        self.shape: tuple[int, ...] = (n_roi, n_frames, window)

    def __getitem__(self, box: tuple[Any, slice], /) -> np.ndarray[Any, Any]:
        """Return rows of ROIs: the indices of these, and a slice of frames."""
        rois, rows = box
        start, stop, _ = rows.indices(self.shape[1])
        with _opened(self._path) as file:
            found = file[self._name][rois, start:stop]
        missing = [(0, 0)] * (found.ndim - 2) + [(0, stop - start - found.shape[-2]), (0, 0)]
        return np.pad(found, missing, constant_values=np.nan)


def stored_band(path: Path, n_frames: int) -> dict[str, StoredBand]:
    """Return the datasets of a file that BandFile wrote, by name."""
    with _opened(path) as file:
        names = [name for name in ("c2", "denoised", "spread") if name in file]
    return {name: StoredBand(path, name, n_frames) for name in names}


def _opened(path: Path) -> Any:
    import h5py  # pyright: ignore[reportMissingTypeStubs]

    return h5py.File(path, "r")


class BandFile:
    """Takes the rows of a band in their order and writes them to datasets c2, denoised and spread.

    Each is (roi, t, lag), as in `BandRows`; the latter two are there where something was denoised.
    The file has another name until `close`: what is at `path` is complete. A disk that is full does
    not end the analysis: `problem` says what happened, and there is no file.

    Raises
    ------
    InvalidInputError
        When no file can be made there.
    """

    def __init__(self, path: str | os.PathLike[str], **attributes: Any) -> None:
        import h5py  # pyright: ignore[reportMissingTypeStubs]

        self._path = Path(path)
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self.problem = ""
        try:
            self._file: Any = h5py.File(self._part, "w")
            self._file.attrs.update({"dims": ["roi", "t", "lag"], **attributes})
        except OSError as error:
            raise InvalidInputError(
                f"band_file {self._path}: cannot be written ({text_of(error)}). Expected a file in "
                "a folder that is there and that you may write to."
            ) from error

    def write(self, rows: BandRows) -> None:
        """Take the next rows."""
        if self.problem:
            return
        try:
            for name in ("c2", "denoised", "spread"):
                values = getattr(rows, name)
                if values is not None and rows.stop > rows.start:
                    self._dataset(name, values, rows.stop)[:, rows.start : rows.stop] = values
        except (OSError, RuntimeError) as error:
            self._give_up(error)

    def close(self, attributes: Mapping[str, Any] | None = None) -> None:
        """Give the file its name; `attributes` are what is known at the end."""
        if self.problem:
            return
        try:
            self._file.attrs.update(attributes or {})
            self._file.close()
            self._part.replace(self._path)
        except (OSError, RuntimeError) as error:
            self._give_up(error)

    def discard(self) -> None:
        """Remove a file that was not closed."""
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _dataset(self, name: str, values: np.ndarray[Any, Any], stop: int) -> Any:
        """Return a dataset with room for rows up to `stop`; NaN where none came."""
        n_roi, _, window = values.shape
        if name not in self._file:
            self._file.create_dataset(
                name,
                (n_roi, 0, window),
                values.dtype,
                maxshape=(n_roi, None, window),
                chunks=(1, _CHUNK, window),
                fillvalue=np.nan,
            )
        dataset = self._file[name]
        dataset.resize(max(dataset.shape[1], stop), axis=1)
        return dataset

    def _give_up(self, error: Exception) -> None:
        self.problem = (
            f"band_file {self._path}: could not be written ({text_of(error)}); there is none. The "
            "rest of the result is complete."
        )
        logger.warning("%s", self.problem)
        self.discard()
