"""Fits of cuts of one ROI: the whole series first, then cuts with its contrast and baseline."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray, select_rows

from .grid import (
    COVARIANCE,
    LN_ALPHA_SD,
    LN_RATE_SD,
    VAR_BETA,
    KwwGrid,
    LinearPrior,
    Posterior,
    posterior,
    rate_posterior,
)
from .sums import BinnedCuts, jackknife_variance

# Prior of the whole series: beta to half of g2(lag 1) - 1, the baseline to this.
_BETA_SHARE, _BASELINE_SD = 0.5, 0.05
# What a posterior is widened by before cuts use it: standard deviations of beta and baseline in
# units of beta, for the fit of the whole series and for what pieces of it agree on.
_WIDEN = (0.1, 0.05)
_WIDEN_PIECES = (0.02, 0.01)
# A width whose variance a rough look finds larger than the least by this is not the best one.
_NEAR_BEST = 1.3
# A piece of the series is fitted again when its lags, or beta, have changed by this factor.
_STALE = 1.1
# beta, baseline, Gamma and alpha.
_N_PARAMETERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFit:
    """The fit of a whole series."""

    # Intercept at lag 0, and g2 at infinite lag; errors are the larger one of the posterior's and
    # the jackknife's.
    beta: float
    beta_error: float
    baseline: float
    baseline_error: float
    lag_2_share: float  # (g2(2) - 1) / (g2(1) - 1); NaN where the series has no such lags
    prior: LinearPrior  # of (beta, baseline - 1) for cuts
    priors_left_out: LinearPrior | None  # with each pixel block left out; None without blocks


class KnownPieces:
    """What pieces of a series, cuts that do not overlap, tell of its contrast and baseline.

    Its state is the newest fit of each piece. A live run fits a piece again when the frames after
    it have brought a tenth more of its lags, or when beta of the series, about which it was fitted,
    has moved by a tenth; so the prior of cuts differs from that of fits that are all repeated by a
    small part of its width. `stale` says which pieces are to be fitted.
    """

    def __init__(self) -> None:
        self._fits: dict[int, _Piece] = {}
        self._wanted: list[tuple[int, int]] = []  # middle and reach of each
        self._beta = 0.0

    def __bool__(self) -> bool:
        return bool(self._fits)

    def stale(self, middles: IntArray, n_frames: int) -> IntArray:
        """Return which pieces, by the frame in their middle, the next `add` has to bring.

        What is known of others than `middles` is forgotten.
        """
        wanted = set(middles.tolist())
        self._fits = {middle: fit for middle, fit in self._fits.items() if middle in wanted}
        reach = np.minimum(middles, n_frames - 1 - middles).tolist()
        self._wanted = []
        for middle, lags in zip(middles.tolist(), reach, strict=True):
            known = self._fits.get(middle)
            if known is None or not known.holds(lags, self._beta):
                self._wanted.append((middle, lags))
        return np.array([middle for middle, _ in self._wanted], np.int64)

    def add(self, beta: float, precision: FloatArray, pull: FloatArray) -> None:
        """Add what the stale pieces tell, (n_prior, n_piece, 2, 2) and (n_prior, n_piece, 2)."""
        self._beta = beta
        wanted = self._wanted or [(k, 0) for k in range(precision.shape[1])]
        for k, (middle, reach) in enumerate(wanted):
            self._fits[middle] = _Piece(
                reach=reach, beta=beta, precision=precision[:, k], pull=pull[:, k]
            )

    def together(self) -> tuple[FloatArray, FloatArray]:
        """Return the sums of both over all pieces, (n_prior, 2, 2) and (n_prior, 2)."""
        fits = self._fits.values()
        precision = np.stack([one.precision for one in fits])
        return precision.sum(axis=0), np.stack([one.pull for one in fits]).sum(axis=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What one piece tells: the precision of (beta, baseline - 1), and that times their values."""

    reach: int  # frames on the shorter side of it: how long its lags may be
    beta: float  # about which it was fitted
    precision: FloatArray  # (n_prior, 2, 2)
    pull: FloatArray  # (n_prior, 2)

    def holds(self, reach: int, beta: float) -> bool:
        """Whether the fit is still what another one would find."""
        return reach <= _STALE * self.reach and abs(beta - self.beta) <= (_STALE - 1) * abs(beta)


def fit_series(
    series: BinnedCuts, pieces: BinnedCuts, grid: KwwGrid, known: KnownPieces | None = None
) -> SeriesFit:
    """Fit the curve of a whole series (one cut), also with each block left out.

    `pieces` are cuts that do not overlap, at best a few; without any the series itself gives the
    prior. `known`, if given, takes what they tell, and what it has of others counts as well. The
    grid reaches to the longest lag of the series.
    """
    known = KnownPieces() if known is None else known
    weights = series.weights
    scatter = 1 / np.sqrt(max(weights[0, 0], np.finfo(np.float64).tiny))
    guess = float(max(series.mean[0, 0], min(scatter, 1.0)))
    vague = vague_prior(np.array([guess]))
    data = series.mean
    if series.left_out is not None:
        data = np.concatenate([data, series.left_out[0].T])
    fitted = posterior(grid, data[np.newaxis], weights, vague)
    whole = select_rows(fitted, np.array([0]))
    variance = np.diagonal(whole.linear_covariance[0]).copy()
    if series.left_out is None:
        variance *= np.fmax(_reduced(whole.chi_square, weights)[0], 1.0)
    else:
        variance = np.maximum(variance, jackknife_variance(fitted.linear[1:]))
    beta, offset = whole.linear[0].tolist()
    beta_error, baseline_error = np.sqrt(variance).tolist()
    priors = _widened(fitted.linear, fitted.linear_covariance, _WIDEN)
    if pieces.mean.size or known:
        priors = _from_pieces(pieces, grid, fitted.linear[:, 0], known)
    left_out = LinearPrior(mean=priors.mean[1:], covariance=priors.covariance[1:])
    return SeriesFit(
        beta=beta,
        beta_error=beta_error,
        baseline=1 + offset,
        baseline_error=baseline_error,
        lag_2_share=_lag_2_share(series),
        prior=LinearPrior(mean=priors.mean[0], covariance=priors.covariance[0]),
        priors_left_out=None if series.left_out is None else left_out,
    )


def _from_pieces(
    pieces: BinnedCuts, grid: KwwGrid, beta: FloatArray, known: KnownPieces
) -> LinearPrior:
    """Return the prior that pieces of the series agree on, for each estimate of beta (n_prior,).

    The g2 of an ageing series is a mixture, and its fit puts the intercept some 10 % too high.
    Pieces that do not overlap have the same beta and baseline and a Gamma each: their posteriors,
    from a vague prior about `beta`, multiply.
    """
    vague = vague_prior(np.abs(beta))
    before = np.linalg.inv(vague.covariance)  # (n_prior, 2, 2)
    if len(pieces.mean):
        data = pieces.mean[..., np.newaxis]
        if pieces.left_out is not None:
            data = np.concatenate([data, pieces.left_out], axis=2)
        fitted = posterior_left_out(data, pieces.weights, grid, vague)
        shape = data.shape[2], len(data)  # (n_prior, n_piece)
        inverse = np.linalg.inv(fitted.linear_covariance).reshape(*shape, 2, 2)
        # A posterior that is no Gaussian can be wider than the prior in some direction: no gain.
        values, vectors = np.linalg.eigh(inverse - before[:, np.newaxis])
        gained = np.einsum("pqik,pqk,pqjk->pqij", vectors, np.maximum(values, 0.0), vectors)
        # The offset of a piece is its gain in information times what it says: this is wanted.
        offsets = fitted.linear.reshape(*shape, 2) - vague.mean[:, np.newaxis]
        pull = np.einsum("pqij,pqj->pqi", gained + before[:, np.newaxis], offsets)
        pull += np.einsum("pqij,pj->pqi", gained, vague.mean)
        known.add(float(beta[0]), gained, pull)
    precision, said = known.together()
    covariance = np.linalg.inv(before + precision).astype(np.float64)
    said = said + np.einsum("pij,pj->pi", before, vague.mean)
    mean = np.einsum("pij,pj->pi", covariance, said)
    return _widened(mean, covariance, _WIDEN_PIECES)


def _lag_2_share(series: BinnedCuts) -> float:
    if (series.n_entries[0, :2] > 0).sum() < 2 or series.mean[0, 0] == 0:
        return float("nan")
    return float(series.mean[0, 1] / series.mean[0, 0])


def vague_prior(beta: FloatArray) -> LinearPrior:
    """Return what is known of contrast and baseline before any fit, about each `beta` (n,)."""
    covariance = np.zeros((len(beta), 2, 2))
    covariance[:, 0, 0] = (_BETA_SHARE * beta) ** 2
    covariance[:, 1, 1] = _BASELINE_SD**2
    return LinearPrior(mean=np.column_stack([beta, np.zeros(len(beta))]), covariance=covariance)


def fit_rates(
    cuts: BinnedCuts,
    grid: KwwGrid,
    prior: LinearPrior,
    *,
    rough: bool = False,
    blurred: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Fit cuts for ln Gamma and its standard deviation only, each (n_cut,).

    `rough` and `blurred`, see `rate_posterior`; without pixel blocks errors need the scatter about
    the best fit, and there is no rough way.
    """
    ln_rate, sd, chi_square = rate_posterior(
        grid,
        cuts.mean,
        cuts.weights,
        prior,
        rough=rough and cuts.left_out is not None,
        blurred=blurred and cuts.left_out is not None,
        with_chi_square=cuts.left_out is None,
    )
    return ln_rate, _deviation(sd, grid) * _widening(cuts, _reduced(chi_square, cuts.weights))


def best_widths(
    cuts: BinnedCuts, bias: FloatArray, grid: KwwGrid, prior: LinearPrior, *, blurred: bool = False
) -> IntArray:
    """Return which width has the least variance of ln Gamma plus bias^2 at each age, (n_age,).

    `cuts` are those of all widths at each age in turn, `bias` (n_age, n_width). A rough look leaves
    few widths; only between these is decided exactly, with `blurred` not even then.
    """
    _, sd = fit_rates(cuts, grid, prior, rough=True, blurred=blurred)
    error = sd.reshape(bias.shape) ** 2 + bias**2
    near = error < _NEAR_BEST * error.min(axis=1, keepdims=True)
    near &= near.sum(axis=1, keepdims=True) > 1
    some = np.flatnonzero(near)
    if some.size and cuts.left_out is not None and not blurred:
        _, sd = fit_rates(select_rows(cuts, some), grid, prior)
        error[near] = sd**2 + bias[near] ** 2
    return np.argmin(error, axis=1)


def fit_cuts(
    cuts: BinnedCuts, grid: KwwGrid, prior: LinearPrior, *, blurred: bool = False
) -> tuple[Posterior, FloatArray]:
    """Fit cuts with a prior of contrast and baseline.

    Returns the posterior and the reduced chi-square (n_cut,). Where there are no blocks its
    standard deviations are widened by the scatter about the fits. `blurred` is that of `posterior`.
    """
    fitted = posterior(grid, cuts.mean, cuts.weights, prior, fine=True, blurred=blurred)
    reduced = _reduced(fitted.chi_square, cuts.weights)
    widening = _widening(cuts, reduced)
    columns = fitted.columns.copy()
    columns[:, LN_RATE_SD] = _deviation(fitted.ln_rate_sd, grid)
    columns[:, [LN_RATE_SD, LN_ALPHA_SD]] *= widening[:, np.newaxis]
    columns[:, VAR_BETA : COVARIANCE + 1] *= widening[:, np.newaxis] ** 2
    return dataclasses.replace(fitted, columns=columns), reduced


def _deviation(sd: FloatArray, grid: KwwGrid) -> FloatArray:
    """Add the scatter inside of one step: a grid does not tell Gamma better."""
    return np.hypot(sd, grid.step / np.sqrt(12))


def _widening(cuts: BinnedCuts, reduced: FloatArray) -> FloatArray:
    """Return the factor that errors need where only the scatter about the fit tells them."""
    if cuts.left_out is not None:
        return np.ones(len(reduced))
    return np.sqrt(np.fmax(reduced, 1.0))


def posterior_left_out(
    left_out: FloatArray,
    weights: FloatArray,
    grid: KwwGrid,
    priors: LinearPrior,
    *,
    blurred: bool = False,
) -> Posterior:
    """Fit cuts anew with each pixel block left out of the data and of the prior, without curves.

    `left_out` are means of g2 - 1, (n_cut, n_bin, n_block); the weights, (n_cut, n_bin), are the
    same for all blocks; one prior for each block. Returns n_block * n_cut posteriors, block by
    block. `blurred`, see `posterior`.
    """
    data = left_out.swapaxes(1, 2)
    return posterior(grid, data, weights, priors, fine=True, blurred=blurred, with_curves=False)


def _reduced(chi_square: FloatArray, weights: FloatArray) -> FloatArray:
    freedom = (weights > 0).sum(axis=1) - _N_PARAMETERS
    return np.where(freedom > 0, chi_square / np.maximum(freedom, 1), np.nan)


def _widened(mean: FloatArray, covariance: FloatArray, shares: tuple[float, float]) -> LinearPrior:
    widening = np.zeros_like(covariance)
    widening[:, 0, 0] = (shares[0] * mean[:, 0]) ** 2
    widening[:, 1, 1] = (shares[1] * mean[:, 0]) ** 2
    return LinearPrior(mean=mean, covariance=covariance + widening)
