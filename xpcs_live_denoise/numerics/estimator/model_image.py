"""C2 as the path of Gamma explains it, without noise, and what it leaves of the measured one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.records.results import RowSource
from xpcs_live_denoise.records.types import FloatArray

from .sums import AgeSums

# Frames in a bin at which the model is taken, in units of its half: two for each time tell its mean
# over the bins as well as all of them, where they stand like Gauss's.
_POINTS = (-(3**-0.5), 3**-0.5)
_EXACT = 1e-6  # in ln Gamma: rows whose intervals do not end with the last row by this were changed


def c2_model(
    gamma: Any,
    roi: int,
    *,
    frame_time_s: float = 1.0,
    n_frames: int | None = None,
    stride: int = 1,
    frames_per_bin: int = 1,
) -> FloatArray:
    """Return C2(t1, t2) = baseline + beta exp(-2 S^alpha), S the Gamma summed from t1 to t2.

    Beta is that of the age (t1 + t2) / 2, as the rows of the path have it.

    Gamma is that of the path: it smooths C2 only as far as Gamma and the curve allow, over all ages
    and lags, and invents neither. What is not in the model (another curve, static speckle) is not
    in the image, but in `c2_residual`.

    Parameters
    ----------
    gamma
        GammaTable or pandas.DataFrame of one run: the rows of source "path" count.
    roi
        Label of the ROI.
    frame_time_s
        Frame period, s; rates are per frame by default.
    n_frames
        Length of the series. Default: up to the last row, which is the last frame of a series that
        has ended. Between the rows of a live run and beyond them ln Gamma is interpolated.
    stride
        Only every so many frames, or bins, are in the image.
    frames_per_bin
        Frames in a bin of the map that the image is for; each entry is then the mean over its bins.

    Returns
    -------
    ndarray
        Shape (n, n), n the frames or bins in the image; NaN on the diagonal.

    Raises
    ------
    InvalidInputError
        Where the path has no row of this ROI that converged.
    """
    label, age = np.asarray(gamma.roi), np.asarray(gamma.age_frame, np.float64)
    own = (label == roi) & (np.asarray(gamma.source) == str(RowSource.PATH))
    own &= np.asarray(gamma.converged, np.bool_)
    if not own.any():
        raise InvalidInputError(
            f"Model of C2, ROI {roi}: got no converged row of source path; expected one a frame. "
            f"See gamma_table() for the rows of ROI {', '.join(map(str, np.unique(label)))}."
        )
    ages, first = np.unique(age[own], return_index=True)
    rate, alpha, beta, baseline = (
        np.asarray(getattr(gamma, name), np.float64)[own][first]
        for name in ("relaxation_rate", "alpha", "beta", "baseline")
    )
    n = int(ages[-1]) + 1 if n_frames is None else n_frames
    ln_rate = _between_frames(ages, np.log(rate * frame_time_s), n)
    total = np.concatenate([[0.0], np.cumsum(np.exp(ln_rate))])
    first = np.arange(0, n, frames_per_bin * stride)
    frames = np.minimum(first + frames_per_bin, n) - first  # the last bin may hold less
    middle = first + (frames - 1) / 2
    points = _POINTS if frames_per_bin > 1 else (0.0,)
    reach = np.sqrt(frames**2 - 1.0) / 2  # of frames as wide apart as those of the bin
    passed = [np.interp(middle + point * reach, np.arange(n), total) for point in points]
    curve = np.zeros((len(first), len(first)))
    for one in passed:
        for other in passed:
            curve += np.exp(-2 * np.abs(np.subtract.outer(one, other)) ** alpha[-1])
    contrast = np.interp(np.add.outer(middle, middle) / 2, ages, beta)
    model = baseline[-1] + contrast * curve / len(points) ** 2
    np.fill_diagonal(model, np.nan)
    return model


def c2_residual(c2: ArrayLike, model: FloatArray) -> FloatArray:
    """Return C2 less its model, (n, n), in units of the noise of an entry near its age.

    Both may be maps with bins of several frames. The noise is half the mean squared difference of
    neighbours along the diagonals, within 20 frames or bins: that of photons. Speckle, which
    neighbours share, is not in it: where counts are high, residuals are above 1 and alike over
    1/Gamma frames, however right the model is.
    """
    measured = as_stack(c2)[0]
    ages = np.arange(len(measured))
    variance = AgeSums.from_c2(measured).cuts(0, ages, 1).noise
    noise = np.sqrt(np.where(variance > 0, variance, np.nan))
    return (measured - model) / noise[np.add.outer(ages, ages) // 2]


def _between_frames(ages: FloatArray, ln_rate: FloatArray, n_frames: int) -> FloatArray:
    """Return ln Gamma of the intervals between frames, (n_frames - 1,), from that of frames.

    A frame of the path has the mean of the intervals before and after it, the first one its own.
    """
    if len(ages) == n_frames and len(ages) > 1:
        signs = (-1.0) ** np.arange(n_frames - 1)
        shares = np.where(np.arange(n_frames - 1) > 0, 2.0, 1.0)
        intervals = signs * np.cumsum(signs * shares * ln_rate[:-1])
        if abs(intervals[-1] - ln_rate[-1]) < _EXACT:
            return intervals
    return np.interp(np.arange(n_frames - 1) + 0.5, ages, ln_rate)
