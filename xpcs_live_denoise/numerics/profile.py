"""The smooth profile of the intensity inside a ROI, which is divided out before C2 is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .rois import RoiMap

# Most that the noise of the fitted terms may take from (baseline - 1) / contrast.
MOST_NOISE = 0.01
# Terms that explain no more than noise would, by so many of its standard deviations, are left out.
_SIGNIFICANT = 3.0
# Speckle of neighbouring pixels is not more alike than this, or its area could not be told.
_MOST_ALIKE = 0.95
_FEWEST_FRAMES = 3  # with counts
# Terms that are alike to this share of the largest are one.
_LEAST_TERM = 1e-3
_MOST_STEPS, _SMALL_STEP = 20, 1e-6
# No pixel is taken to be brighter or darker than the mean by more than this factor.
_MOST_LN = np.log(1e3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What pixels are divided by before they are correlated.

    Attributes
    ----------
    values
        Shape (n_pixels,), in the order of `RoiMap.pixels`: mean 1 in each ROI, above 0.
    n_terms
        Shape (n_roi,): terms of the smooth part; 1 where the ROI is uniform or nothing is known.
    too_dim
        Shape (n_roi,): there were too few counts, or too few pixels, to fit even a small profile.
    """

    values: FloatArray
    n_terms: IntArray
    too_dim: BoolArray


def fit_profile(pixels: Array, rois: RoiMap, flat_field: FloatArray | None = None) -> Profile:
    """Fit the smooth profile of every ROI to some frames of a series, the first window as a rule.

    ln of the mean image is a sum of smooth terms, fitted with Poisson's likelihood: 1, ln r, ln^2 r
    about the direct beam, and cos and sin of the azimuth and of twice the azimuth; or a quadratic
    polynomial in row and column where the map does not know its centre. Of these the smaller set
    (the first 3) is used where the larger one would take too much noise for structure, and none
    where that holds for 3, or where the ROI is uniform within the noise. The noise of p terms takes
    p (1/N_photons + beta/N_speckle) off the baseline, which must stay below 0.01 beta; beta is that
    of neighbouring frames, N_speckle counts speckle in space and time, both from the frames.

    Parameters
    ----------
    pixels
        Shape (k, n_pixels): counts as `RoiMap.gather` returns them. Frames without counts in a ROI
        tell nothing of it.
    rois
        The ROIs; their `center` is the direct beam where it is known.
    flat_field
        Shape (n_pixels,): sensitivity of the pixels, above 0; it goes before the profile.

    Returns
    -------
    Profile
        Flat field times smooth profile.
    """
    n_pixels = len(rois.pixels)
    values = np.ones(n_pixels) if flat_field is None else np.asarray(flat_field, np.float64).copy()
    n_terms, too_dim = np.ones(rois.n_roi, np.int64), np.zeros(rois.n_roi, np.bool_)
    for roi, one in enumerate(rois.slices):
        counts = np.asarray(pixels[:, one], np.float64)
        counts = counts[np.isfinite(counts).all(axis=1) & (counts.sum(axis=1) > 0)]
        terms = _useful_terms(smooth_terms(rois, roi), counts, values[one])
        too_dim[roi] = terms is None
        if terms is not None and terms.shape[1] > 1:
            n_terms[roi] = terms.shape[1]
            coefficients = _poisson_fit(terms, counts.sum(axis=0), values[one])
            values[one] *= np.exp(terms @ coefficients)
        values[one] /= values[one].mean()
    return Profile(values=values, n_terms=n_terms, too_dim=too_dim)


def smooth_terms(rois: RoiMap, roi: int) -> FloatArray:
    """Return the smooth terms of the ROI with this index, (n_pixels of it, n_term).

    The first is 1, the first three are the smaller set; they are orthogonal, with a mean square of
    1. Terms that the ROI cannot tell apart (a ring one pixel wide) are left out.
    """
    row, col = np.divmod(rois.pixels[rois.slices[roi]], rois.shape[1])
    if rois.center is None:
        x, y = _standardised(row), _standardised(col)
        sets = ([x, y], [x * x, x * y, y * y])
    else:
        y, x = row - rois.center[0], col - rois.center[1]
        radial = _standardised(np.log(np.maximum(np.hypot(x, y), 0.5)))
        angle = np.arctan2(y, x)
        azimuthal = [part(m * angle) for m in (1, 2) for part in (np.cos, np.sin)]
        sets = ([radial, radial**2], azimuthal)
    terms = np.ones((len(row), 1))
    for group in sets:
        new = np.column_stack(group)
        new = new - terms @ (terms.T @ new) / len(row)
        left, size, _ = np.linalg.svd(new, full_matrices=False)
        kept = size > _LEAST_TERM * np.sqrt(len(row))
        terms = np.column_stack([terms, left[:, kept] * np.sqrt(len(row))])
    return terms


def _useful_terms(
    terms: FloatArray, counts: FloatArray, sensitivity: FloatArray
) -> FloatArray | None:
    """Return the largest set of terms that is not lost in noise; None where the smaller one is.

    `terms` (n, p) are orthogonal with a mean square of 1, the first is 1; `counts` (k, n) are
    frames with counts, `sensitivity` (n,) is what the smooth part is multiplied with.
    """
    total = counts.sum(axis=0)
    if len(counts) < _FEWEST_FRAMES or len(total) <= terms.shape[1]:
        return None
    # What all terms leave tells the noise best: the smaller set may leave structure.
    expected = sensitivity * np.exp(terms @ _poisson_fit(terms, total, sensitivity))
    variance, contrast = _coefficient_variance(total, expected), _contrast(counts, expected)
    useful = None
    for n in sorted({min(3, terms.shape[1]), terms.shape[1]}):
        if not n * variance <= MOST_NOISE * contrast:
            break
        coefficients = _poisson_fit(terms[:, :n], total, sensitivity)[1:]
        noise = variance * (n - 1 + _SIGNIFICANT * np.sqrt(2 * (n - 1)))
        if coefficients @ coefficients > noise:
            useful = terms[:, :n]
        elif useful is None:
            useful = terms[:, :1]
    return useful


def _coefficient_variance(total: FloatArray, expected: FloatArray) -> float:
    """Return the variance of a coefficient: from photons, and from speckle left in the mean."""
    n, n_photons = len(total), float(total.sum())
    residual: FloatArray = (total - expected) / np.sqrt(expected)
    excess = float(residual @ residual) / n - 1
    if excess <= 0:
        return 1 / n_photons
    # Neighbours in the list are neighbours in a row, but for the ends of rows. Two errors of the
    # excess are added to it: where it is noise, so would the size of speckle be.
    alike = float(residual[1:] @ residual[:-1]) / n / (excess + 2 * np.sqrt(2 / n))
    return (1 + excess * _speckle_area(alike)) / n_photons


def _contrast(counts: FloatArray, expected: FloatArray) -> float:
    """Return g2 - 1 of neighbouring frames, at least its standard error."""
    scaled = counts / expected
    scaled /= scaled.mean(axis=1, keepdims=True)
    products = np.einsum("tx,tx->t", scaled[:-1], scaled[1:]) / len(expected) - 1
    return max(float(products.mean()), float(products.std(ddof=1)) / np.sqrt(len(products)))


def _poisson_fit(terms: FloatArray, total: FloatArray, sensitivity: FloatArray) -> FloatArray:
    """Return the coefficients of ln of the mean by Newton's method; `total` (n,) sums above 0."""
    coefficients = np.zeros(terms.shape[1])
    coefficients[0] = np.log(total.sum() / sensitivity.sum())
    for _ in range(_MOST_STEPS):
        smooth = np.clip(
            terms @ coefficients, coefficients[0] - _MOST_LN, coefficients[0] + _MOST_LN
        )
        expected = sensitivity * np.exp(smooth)
        curvature = terms.T @ (terms * expected[:, np.newaxis])
        step = np.linalg.solve(curvature, terms.T @ (total - expected))
        step /= max(1.0, float(np.abs(step).max()))  # no jump beyond a factor e
        coefficients += step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return coefficients


def _speckle_area(alike: float) -> float:
    """Return the pixels of a speckle from how alike neighbours are, its peak taken as Gaussian."""
    distance = np.arange(1, 40)
    return float((1 + 2 * np.sum(min(max(alike, 0.0), _MOST_ALIKE) ** (distance**2))) ** 2)


def _standardised(values: Array) -> FloatArray:
    spread = float(values.std())
    return (values - values.mean()) / (spread or 1.0)
