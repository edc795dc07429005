"""Why an estimate of Gamma is not to be trusted as a value."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bayes import AgeEstimates

MAX_LN_RATE_ERROR = 0.5
"""A rate is recommended up to this standard error of ln Gamma."""

_LEAST_CONTRAST = 3.0  # beta over its standard error
# Of lag 1. Below, one lag holds so much of the signal that beta cannot be told: at Gamma = 0.5 a
# frame (0.37) rates came out 15 to 35 % low, at 0.3 (0.55) they did not.
_LEAST_LAG_2 = 0.4
_LEAST_DECAY = 0.5  # Gamma times the longest lag
_MOST_EDGE_MASS = 0.05
_MOST_MISFIT = 2.5  # T; a correct model stayed below 2.2 in 72 simulations
_MOST_STATIC = 0.03  # (baseline - 1) / beta, and
_STATIC_ERRORS = 3.0  # in standard errors


def reasons(estimates: AgeEstimates) -> NDArray[np.str_]:
    """Return why each age is not recommended, "" where it is; the gravest reason first.

    "no_contrast": beta is not known to 3 standard errors, or most contrast is gone at lag 2; Gamma
    is a lower limit at best. "static_or_nonuniform": the baseline of the series differs from 1 by
    more than 0.03 beta; Gamma may be up to 2 times too low. "not_kww": residuals stacked over ages
    are larger than their jackknife variance allows (T > 2.5). "too_slow": Gamma, less its standard
    error, times the longest lag is below 0.5: an upper limit. "grid_edge": more than 5 % of the
    posterior lies at the edge of the grid. "prior": the standard error of ln Gamma is above 0.5,
    the data hardly tell more than the prior.
    """
    fitted, series = estimates.fits.posterior, estimates.series
    beta = fitted.linear[:, 0]
    static = (series.baseline - 1) / series.beta
    static_error = series.baseline_error / series.beta
    # A baseline below 1 is as impossible as one above: the intensity drifts inside the ROI.
    is_static = abs(static) > max(_MOST_STATIC, _STATIC_ERRORS * static_error)
    known = np.isfinite(estimates.ln_rate_error) & np.isfinite(estimates.cuts.noise)
    no_contrast = (beta < _LEAST_CONTRAST * estimates.beta_error) | (
        series.beta < _LEAST_CONTRAST * series.beta_error or series.lag_2_share < _LEAST_LAG_2
    )
    every = np.ones(len(beta), np.bool_)
    tests = {
        "no_contrast": ~known | no_contrast,
        "static_or_nonuniform": every & is_static,
        "not_kww": every & (estimates.misfit > _MOST_MISFIT),
        "too_slow": np.exp(fitted.ln_rate - estimates.ln_rate_error) * estimates.cuts.longest_lag
        < _LEAST_DECAY,
        "grid_edge": fitted.edge_mass > _MOST_EDGE_MASS,
        "prior": estimates.ln_rate_error > MAX_LN_RATE_ERROR,
    }
    return np.select(list(tests.values()), list(tests), default="")
