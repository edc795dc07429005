"""The posterior from every point of the grid, by matrix products: plain and slow."""

import numpy as np

from xpcs_live_denoise.numerics.kww import (
    GridCurves,
    grid_mass,
    grid_moments,
    linear_moments,
    solve_linear,
)


def plain_posterior(grid, mean, weights, prior):
    """Return the columns of a Posterior of n sets of data, by name."""
    n, n_bin = mean.shape
    curves = grid.curves[:, :n_bin]
    precision = np.broadcast_to(np.linalg.inv(prior.covariance), (n, 2, 2))
    pull = np.einsum("nij,nj->ni", precision, np.broadcast_to(prior.mean, (n, 2)))
    solved = solve_linear(
        GridCurves.of(curves),
        weights,
        weights * mean,
        precision=precision[:, np.newaxis],
        pull=pull[:, np.newaxis],
    )
    mass = grid_mass(solved.log_evidence + grid.log_prior)
    ln_rate, ln_rate_sd = grid_moments(mass, grid.ln_rate)
    ln_alpha, ln_alpha_sd = grid_moments(mass, grid.ln_alpha)
    linear, covariance = linear_moments(mass, solved)
    curve = (mass * solved.beta) @ curves + linear[:, 1:]
    return {
        "ln_rate": ln_rate,
        "ln_rate_sd": ln_rate_sd,
        "ln_alpha": ln_alpha,
        "ln_alpha_sd": ln_alpha_sd,
        "linear": linear,
        "linear_covariance": covariance,
        "edge_mass": mass @ grid.at_edge.astype(float),
        "curve": curve,
        "chi_square": (weights * (mean - curve) ** 2).sum(axis=1),
    }
