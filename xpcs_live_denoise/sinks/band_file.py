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
