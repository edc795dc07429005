"""GammaTable: fitted relaxation rates, one row each, with the columns of the `gamma` stream."""

# pandas carries no types.
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaTable:
    """Fitted relaxation rates, one entry a row; the columns of the `gamma` stream.

    Every attribute has shape (n_rows,).

    Attributes
    ----------
    roi
        ROI label, from 1 unless the label array says otherwise.
    q_inv_angstrom
        q of the ROI; NaN where unknown.
    age_s, age_frame
        Mean age (t1 + t2) / 2 of the pixels used, in seconds, and the centre of the cut in frames;
        NaN for fits of a whole series.
    source
        "raw", "denoised", "series_raw", "series_denoised", ...
    width
        Frames in the cut; the whole series' length for fits of a series.
    relaxation_rate, relaxation_rate_error
        Gamma and its standard error, s^-1; the error is NaN where none can be trusted.
    error_kind
        Where the error comes from: "residual" (Jacobian, times the scatter about the fit), "fit"
        (Jacobian with known errors), "none", ...
    alpha, alpha_error, baseline, baseline_error, beta, beta_error
        The other parameters of g2 = baseline + beta exp(-2 (Gamma lag)^alpha); the error of a
        fixed parameter is 0.
    reduced_chi_square
        Of raw fits; NaN for denoised ones, whose noise is not independent.
    n_lags
        Lags that entered the fit.
    converged
        The fit ended inside its bounds.
    in_range
        The result lies where its source can be trusted.
    recommended, reason
        The row to trust for this ROI and age, or why it is not.
    final
        False while the run may still change the row.
    """

    roi: NDArray[np.int64]
    q_inv_angstrom: NDArray[np.float64]
    age_s: NDArray[np.float64]
    age_frame: NDArray[np.float64]
    source: NDArray[np.str_]
    width: NDArray[np.int64]
    relaxation_rate: NDArray[np.float64]
    relaxation_rate_error: NDArray[np.float64]
    error_kind: NDArray[np.str_]
    alpha: NDArray[np.float64]
    alpha_error: NDArray[np.float64]
    baseline: NDArray[np.float64]
    baseline_error: NDArray[np.float64]
    beta: NDArray[np.float64]
    beta_error: NDArray[np.float64]
    reduced_chi_square: NDArray[np.float64]
    n_lags: NDArray[np.int64]
    converged: NDArray[np.bool_]
    in_range: NDArray[np.bool_]
    recommended: NDArray[np.bool_]
    reason: NDArray[np.str_]
    final: NDArray[np.bool_]

    def __post_init__(self) -> None:
        lengths = {name: getattr(self, name).shape for name in GAMMA_COLUMNS}
        if len(set(lengths.values())) > 1:
            raise InvalidInputError(
                f"GammaTable: columns of different shapes, {lengths}; expected one length for all."
            )

    def __len__(self) -> int:
        return len(self.roi)

    def replace(self, **columns: Any) -> GammaTable:
        """Return a copy with some columns set; a scalar is repeated for every row."""
        full = {
            name: np.broadcast_to(np.asarray(value), (len(self),)).copy()
            for name, value in columns.items()
        }
        return dataclasses.replace(self, **full)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> GammaTable:
        """Return the rows that a boolean mask or an index array names."""
        return GammaTable(**{name: getattr(self, name)[rows] for name in GAMMA_COLUMNS})

    @staticmethod
    def concatenate(tables: Sequence[GammaTable]) -> GammaTable:
        """Join tables, in order. At least one is needed."""
        return GammaTable(
            **{
                name: np.concatenate([getattr(table, name) for table in tables])
                for name in GAMMA_COLUMNS
            }
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a DataFrame with the columns of the `gamma` stream."""
        import pandas as pd

        return pd.DataFrame({name: getattr(self, name) for name in GAMMA_COLUMNS})


GAMMA_COLUMNS: tuple[str, ...] = tuple(GammaTable.__slots__)
