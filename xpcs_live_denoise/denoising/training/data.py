"""The data format of the 50x50 two-time correlation functions that training and evaluation read."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.windows import LAG, N_PIXELS, WINDOW, to_triangle, window_inputs
from xpcs_live_denoise.records.types import Array

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
        Hash of the file that they, or they and more, came from; empty if from none.
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

    @property
    def targets(self) -> NDArray[np.float32]:
        """Shape (n, 1275): the target of each input."""
        return self.target[self.target_index]

    @property
    def experiments(self) -> NDArray[np.int64]:
        """The experiments that have inputs, ascending."""
        return np.unique(self.experiment[self.target_index])

    def of_experiments(self, experiments: NDArray[np.int64]) -> WindowData:
        """Return the inputs of some experiments; all targets are kept."""
        rows = np.isin(self.experiment[self.target_index], experiments)
        return replace(
            self,
            c2=self.c2[rows],
            target_index=self.target_index[rows],
            window=self.window[rows],
        )


def load_windows(path: str | Path) -> WindowData:
    """Read inputs and targets from an .npz file; what does not fit is an error that names it."""
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


def _converted(name: str, array: Array) -> Array:
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
    for name, length in (
        ("target_index", len(data.c2)),
        ("window", len(data.c2)),
        ("experiment", len(data.target)),
    ):
        shape = getattr(data, name).shape
        if shape != (length,):
            raise InvalidInputError(f"{name} has shape {shape}; expected ({length},).")
    low, high = int(data.target_index.min()), int(data.target_index.max())
    if low < 0 or high >= len(data.target):
        raise InvalidInputError(
            f"target_index runs from {low} to {high}; expected rows of target, 0 to "
            f"{len(data.target) - 1}."
        )


SIDE = 30  # pixels: 900 speckles limit C2 as the ROIs of a real detector do
GAMMA_RANGE = (0.004, 0.6)  # per frame, uniform in the logarithm
ALPHA_WIDTH, ALPHA_RANGE = 0.3, (0.5, 2.0)  # of ln alpha about 0; random fields have at most 2
NOISE_RANGE = (0.1, 3.0)  # of an entry of C2 by photons, in contrasts, uniform in the logarithm


def simulate_windows(
    n: int, *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> WindowData:
    """Simulate windows, each the start of a series of its own, with its exact g2 as the target.

    The noise is that of `simulate_speckle`: photons, which make entries of C2 fluctuate
    independently by about 1 / (mean counts sqrt(pixels)), and the finite number of speckles, which
    makes neighbours fluctuate together. Contrast 1 over a baseline of 1; every window is an
    experiment of its own. `progress` is called with the number of windows that are there.
    """
    if n < 1:
        raise InvalidInputError(f"simulate_windows: n is {n}; expected at least 1.")
    rng = np.random.default_rng([seed, WINDOW])
    gamma = _log_uniform(rng, GAMMA_RANGE, n)
    alpha = np.exp(rng.normal(0, ALPHA_WIDTH, n)).clip(*ALPHA_RANGE)
    counts = 1 / (_log_uniform(rng, NOISE_RANGE, n) * SIDE)  # a pixel and frame
    seeds = rng.integers(0, 2**31, n)
    parts: list[Array] = []
    for numbers in zip(gamma, alpha, counts, seeds, strict=True):
        parts.append(_c2(*numbers))
        if progress is not None:
            progress(len(parts))
    c2 = np.stack(parts)
    ones, rows = np.ones(n), np.arange(n)
    inputs = window_inputs(c2, np.zeros_like(rows), rows, contrast=ones, baseline=ones, seed=seed)
    lag = np.arange(WINDOW).clip(1)  # lag 0 repeats lag 1, as in the inputs
    curves = kww(lag, gamma[:, None], alpha[:, None], 1.0, 1.0)  # (n, 50)
    return WindowData(
        c2=to_triangle(inputs),
        target=curves[:, LAG].astype(np.float32),
        target_index=rows,
        window=np.zeros_like(rows),
        experiment=rows,
    )


def _log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], n: int
) -> NDArray[np.float64]:
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), n))


def _c2(gamma: float, alpha: float, counts: float, seed: int) -> NDArray[np.float64]:
    """Return C2 of one series of 50 frames; a frame without counts is a row and column of NaN."""
    frames = simulate_speckle(
        (SIDE, SIDE),
        WINDOW,
        relaxation_rate=gamma,
        alpha=alpha,
        mean_counts=counts,
        seed=int(seed),
    )
    pixels = np.concatenate(list(frames)).reshape(WINDOW, -1).astype(np.float64)
    mean = pixels.mean(axis=1, keepdims=True)
    scaled = pixels / np.where(mean > 0, mean, np.nan)
    return scaled @ scaled.T / pixels.shape[1]
