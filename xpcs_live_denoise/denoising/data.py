"""The data format of the 50x50 two-time correlation functions that training and evaluation read."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError

from .triangle import N_PIXELS

FORMAT = (
    "an .npz with c2 (n, 1275), target (m, 1275), target_index (n,), window (n,) and "
    "experiment (m,)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowData:
    """Inputs and targets of one file.

    Attributes
    ----------
    c2
        Shape (n, 1275), float32: upper triangles of the inputs, row by row, scaled by their
        contrast (Eq. 4 of Konstantinova et al. 2021), diagonal already replaced.
    target
        Shape (m, 1275), float32: the mean of all inputs cut from one series.
    target_index
        Shape (n,): the row of `target` that belongs to each input.
    window
        Shape (n,): which cut of its series an input is; cuts that differ by 1 share frames.
    experiment
        Shape (m,): the experiment of each target. ROIs of one experiment share frames.
    sha256
        Hash of the file, or empty for data that came from no file.
    """

    c2: NDArray[np.float32]
    target: NDArray[np.float32]
    target_index: NDArray[np.int64]
    window: NDArray[np.int64]
    experiment: NDArray[np.int64]
    sha256: str = ""

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.c2)

    @property
    def n_cuts(self) -> NDArray[np.int64]:
        """Shape (m,): how many inputs each target has."""
        return np.bincount(self.target_index, minlength=len(self.target))

    def of_experiments(self, experiments: NDArray[np.int64]) -> WindowData:
        """Return the inputs of some experiments; all targets are kept."""
        rows = np.isin(self.experiment[self.target_index], experiments)
        return WindowData(
            c2=self.c2[rows],
            target=self.target,
            target_index=self.target_index[rows],
            window=self.window[rows],
            experiment=self.experiment,
        )


def load_windows(path: str | Path) -> WindowData:
    """Read inputs and targets from an .npz file.

    Raises
    ------
    InvalidInputError
        When the file is missing or no .npz, lacks an array, or holds arrays whose shapes, values
        or indices do not fit together; the message names the array.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in _DTYPES}
    # EOFError: an empty file. AttributeError, TypeError: a single array, which is no archive.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InvalidInputError(
            f"Data file {path}: cannot be read ({error}). Expected {FORMAT}."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    missing = [name for name in _DTYPES if name not in arrays]
    if missing:
        raise InvalidInputError(f"Data file {path}: lacks {', '.join(missing)}. Expected {FORMAT}.")
    try:
        return WindowData(
            **{name: _converted(name, array) for name, array in arrays.items()}, sha256=digest
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"Data file {path}: {error}") from error


_DTYPES = {
    "c2": np.float32,
    "target": np.float32,
    "target_index": np.int64,
    "window": np.int64,
    "experiment": np.int64,
}


def _converted(name: str, array: NDArray[Any]) -> NDArray[Any]:
    kinds = "f" if _DTYPES[name] is np.float32 else "iu"
    if array.dtype.kind not in kinds:
        expected = "floating point" if kinds == "f" else "integer"
        raise InvalidInputError(f"{name} has dtype {array.dtype}; expected {expected} values.")
    return array.astype(_DTYPES[name])


def _check(data: WindowData) -> None:
    for name in ("c2", "target"):
        array: NDArray[np.float32] = getattr(data, name)
        if array.ndim != 2 or array.shape[1] != N_PIXELS or not len(array):
            raise InvalidInputError(
                f"{name} has shape {array.shape}; expected (n, {N_PIXELS}) with n > 0: the upper "
                "triangle of 50x50 pixels, row by row (np.triu_indices(50))."
            )
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        if bad:
            raise InvalidInputError(
                f"{name} has NaN or infinite values in {bad} of {len(array)} rows; expected finite "
                "values: replace them from the same lag, or leave these rows out."
            )
    lengths = {
        "target_index": len(data.c2),
        "window": len(data.c2),
        "experiment": len(data.target),
    }
    for name, length in lengths.items():
        shape = getattr(data, name).shape
        if shape != (length,):
            raise InvalidInputError(f"{name} has shape {shape}; expected ({length},).")
    low, high = int(data.target_index.min()), int(data.target_index.max())
    if low < 0 or high >= len(data.target):
        raise InvalidInputError(
            f"target_index runs from {low} to {high}; expected rows of target, 0 to "
            f"{len(data.target) - 1}."
        )
