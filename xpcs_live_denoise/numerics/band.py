"""The band of C2: short lags of every frame, of which the oldest rows may be forgotten."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray


class RowBand:
    """Rows of a band, (n_roi, rows, width), that grow at one end and are released at the other.

    Its state is the rows from frame `start` on; `stop` is the frame after the last. Rows move when
    the memory is full, and only those that are kept: releasing costs nothing, and the memory
    follows what is kept, not the length of the series. Reading consumes nothing.
    """

    def __init__(self, n_roi: int, width: int, capacity: int, dtype: Any) -> None:
        self.start = 0
        self.stop = 0
        self._first = 0  # frame of the first row in memory
        self._rows: FloatArray = np.empty((n_roi, capacity, width), dtype)

    @property
    def width(self) -> int:
        """Lags of a row."""
        return self._rows.shape[2]

    @property
    def values(self) -> FloatArray:
        """The rows that are kept, (n_roi, stop - start, width); a read-only view."""
        return self.rows(self.start, self.stop)

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return the rows of frames [start, stop), which must be kept; a read-only view."""
        view: FloatArray = self._rows[:, start - self._first : stop - self._first]
        view.flags.writeable = False
        return view

    def reserve(self, n_new: int) -> None:
        """Make room for new rows."""
        n_roi, capacity, width = self._rows.shape
        if self.stop + n_new - self._first <= capacity:
            return
        kept = self.stop - self.start
        # Twice what is kept: a row moves once, on average, whether rows are released or not.
        rows = np.empty((n_roi, 2 * (kept + n_new), width), self._rows.dtype)
        rows[:, :kept] = self.values
        self._rows, self._first = rows, self.start

    def new_rows(self, roi: int, n_new: int) -> Array:
        """Return the next rows of one ROI, (n_new, width), to be written before `advance`."""
        first = self.stop - self._first
        return self._rows[roi, first : first + n_new]

    def advance(self, n_new: int) -> None:
        """Say that new rows of all ROIs have been written."""
        self.stop += n_new

    def release(self, before: int) -> None:
        """Forget the rows of frames before `before`; views of them stay as they are."""
        self.start = min(max(before, self.start), self.stop)


def band_of_c2(c2: FloatArray, start: int, stop: int, width: int) -> FloatArray:
    """Return C2(t, t - lag), (n_roi, stop - start, width), of C2 (n_roi, n, n), NaN outside."""
    frame = np.arange(start, stop, dtype=np.int64)[:, np.newaxis]
    other = frame - np.arange(width)
    return np.where(other >= 0, c2[:, frame, np.maximum(other, 0)], np.nan).astype(c2.dtype)
