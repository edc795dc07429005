"""Gamma(t) of a ROI and Gamma against q: which rows count, and what is drawn of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.numerics.fits import power_law, typical_rates
from xpcs_live_denoise.records.results import GAMMA_COLUMNS, GammaTable, RowSource
from xpcs_live_denoise.records.types import (
    Array,
    BoolArray,
    Fields,
    FloatArray,
    IntArray,
    select_rows,
)

from .words import KINDS, age_label, caution_words, why_no_frames, why_no_rates

# Sources of rows by the estimator, whose recommendation counts.
ESTIMATOR = (RowSource.PATH, RowSource.BAYES)
_VERSION_1_EARLY = "bayes_early"  # a source of results of schema version 1
DENOISED = (RowSource.DENOISED, RowSource.DENOISED_COARSE)

MOST_POINTS = 300  # of one kind: closer ones cannot be told apart
LEAST_OF_RATE = 0.1  # a bar that reaches below zero has no place on a logarithmic axis: cut here
SHOWN_RATES = (5, 95)  # percentiles, from which the scale is somewhat wider
BELOW, ABOVE = 4.0, 6.0  # factors

_TEXT, _INTEGER, _BOOL = (
    {"source", "error_kind", "reason", "caution"},
    {"roi", "width", "n_lags"},
    {"converged", "in_range", "recommended", "final"},
)
# Columns that tables of schema version 1 lack, and what stands for nothing known.
_SINCE_VERSION_2: Mapping[str, float | str] = {
    "phi_deg": np.nan,
    "n_effective": np.nan,
    "caution": "",
}


def table_from_columns(columns: Fields) -> GammaTable:
    """Return the GammaTable of columns by name, of a DataFrame for example, in their types.

    A table of schema version 1 has no `n_effective`, `phi_deg` and `caution`: nothing is known.
    """
    typed: dict[str, Array] = {}
    for name in GAMMA_COLUMNS:
        kind = (
            np.str_ if name in _TEXT
            else np.int64 if name in _INTEGER
            else np.bool_ if name in _BOOL
            else np.float64
        )  # fmt: skip
        absent = name in _SINCE_VERSION_2 and name not in columns
        column = np.full(len(columns["roi"]), _SINCE_VERSION_2[name]) if absent else columns[name]
        typed[name] = np.asarray(column).astype(kind)
    return GammaTable(**typed)


NO_ROWS = table_from_columns(dict.fromkeys(GAMMA_COLUMNS, ()))


def rows_that_count(table: GammaTable, order: IntArray | None = None) -> IntArray:
    """Return the indices of the rows that no better one has replaced, in rising order.

    Of rows of one ROI, age, source and width the last one counts, a final one before all others. A
    final row replaces the provisional ones of its ROI, age and source, whatever their width (an
    estimator that chooses its width may have chosen another one while the run was on). Rows without
    an age are those of one age. In results of schema version 1 "bayes" replaces "bayes_early".

    `order` (n_rows,) rises from older to newer rows; by default they are in their order.
    """
    if not len(table):
        return np.empty(0, np.int64)
    at = _groups(table.roi, table.age_frame)
    of_source = _groups(at, table.source)
    newer = np.lexsort((np.arange(len(table)) if order is None else order, table.final))
    counts = np.zeros(len(table), np.bool_)
    # The last one of each key in this order.
    keys = _groups(of_source, table.width)[newer][::-1]
    counts[newer[::-1][np.unique(keys, return_index=True)[1]]] = True
    has_final = _any_in_group(of_source, table.final)
    counts &= table.final | ~has_final
    early = table.source == _VERSION_1_EARLY
    if early.any():
        counts &= ~early | ~_any_in_group(at, table.source == RowSource.BAYES)
    return np.flatnonzero(counts)


def _groups(first: Array, second: Array) -> IntArray:
    """Return a number for each row, the same for rows that are alike in both columns."""
    codes = [np.unique(_numbers(column), return_inverse=True)[1] for column in (first, second)]
    return codes[0] * (int(codes[1].max()) + 1) + codes[1]


def _numbers(column: Array) -> Array:
    """Return the column, sources as numbers: comparing is ten times faster than sorting texts."""
    if column.dtype.kind != "U":
        return column
    known = [column == source for source in RowSource]
    if not np.any(known, axis=0).all():
        return column
    return np.argmax(known, axis=0)


def _any_in_group(groups: IntArray, values: BoolArray) -> BoolArray:
    return np.isin(groups, groups[values])


def series_fit(table: GammaTable | None, label: int, source: RowSource) -> GammaTable | None:
    """Return the last converged fit of g2 of the whole series of a ROI, None where there is none.

    `source` is SERIES_RAW or SERIES_DENOISED.
    """
    if table is None:
        return None
    good = (table.roi == label) & (table.source == source) & table.converged
    rows = np.flatnonzero(good & (table.relaxation_rate > 0))
    return table.select(rows[-1:]) if rows.size else None


def preference(table: GammaTable) -> IntArray:
    """Return how much to prefer each row for "Gamma now": 2 recommended, 1 denoised, 0 others."""
    recommended = table.recommended & np.isin(table.source, ESTIMATOR)
    return np.select([recommended, np.isin(table.source, DENOISED)], [2, 1], 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GammaView:
    """Gamma(t) of one ROI.

    `points` has the kinds of `KINDS` in their order, by age; what is not `final` is drawn hollow,
    and `error_bars` has the ends of the bars. `low` and `high` are the scale, 1/s, `end_s` the end
    of the series; `age_label` belongs to its axis and says how many independent values the
    recommended points are worth; `note` says why there are no points, `caution` what to be careful
    with in the newest recommended one.
    """

    points: Mapping[str, GammaTable]
    low: float
    high: float
    end_s: float
    age_label: str
    note: str
    caution: str

    @property
    def highest(self) -> float:
        """The highest of the rates that set the scale."""
        return self.high / ABOVE

    @property
    def provisional(self) -> bool:
        """Whether some points may still change."""
        return any(not points.final.all() for points in self.points.values())


def gamma_view(
    table: GammaTable | None, label: int, *, end_s: float, window: int, final: bool
) -> GammaView:
    """Return what is drawn of Gamma(t) of a ROI.

    `table` holds rows of any ROIs, those that were replaced among them, or is None; `end_s` is the
    end of the series as far as it is known. There are no rates before `window` frames.
    """
    table = table or NO_ROWS
    rows = table.select(_drawn(table, label))
    points = {kind: _points(rows, kind) for kind in KINDS}
    # Fits of single frames scatter over decades: they set the scale only where nothing else is.
    low, high = 1.0, 10.0
    for kinds in (("recommended", "doubtful"), ("denoised",), ("raw",)):
        rates = np.concatenate([points[kind].relaxation_rate for kind in kinds])
        if rates.size:
            ends = np.percentile(rates, SHOWN_RATES)
            low, high = float(ends[0]) / BELOW, float(ends[1]) * ABOVE
            break
    note = "" if len(rows) else why_no_rates(window, final=final)
    if final and not end_s:
        note = why_no_frames(final=True)
    cautions = points["recommended"].caution
    caution = caution_words(str(cautions[-1])) if cautions.size else ""
    return GammaView(
        points=points,
        low=low,
        high=high,
        end_s=end_s,
        age_label=age_label(points["recommended"].n_effective),
        note=note,
        caution=f"ROI {label}: {caution}." if caution else "",
    )


def _drawn(table: GammaTable, label: int) -> IntArray:
    """Return the rows of a ROI that count, converged and with an age, by age."""
    own = np.flatnonzero(table.roi == label)
    own = own[rows_that_count(table.select(own))]
    good = table.converged[own] & np.isfinite(table.age_s[own]) & (table.relaxation_rate[own] > 0)
    own = own[good]
    return own[np.argsort(table.age_s[own], kind="stable")]


def _points(rows: GammaTable, kind: str) -> GammaTable:
    estimated = np.isin(rows.source, (*ESTIMATOR, _VERSION_1_EARLY))
    of_path = rows.source == RowSource.PATH
    # Beside a path cuts are a second opinion; where there is none they are the estimate.
    beside = estimated & ~of_path & ~rows.recommended & of_path.any()
    of_kind = {
        "raw": rows.source == RowSource.RAW,
        "denoised": np.isin(rows.source, DENOISED),
        "cuts": beside,
        "doubtful": estimated & ~rows.recommended & ~beside,
        "recommended": estimated & rows.recommended,
    }
    chosen = np.flatnonzero(of_kind[kind])
    if len(chosen) > MOST_POINTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MOST_POINTS).astype(np.int64)]
    return rows.select(chosen)


def error_bars(points: GammaTable) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the error bars, (n,) each: the rate itself where it has no error."""
    return error_ends(points.relaxation_rate, points.relaxation_rate_error)


def error_ends(rate: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the error bars of rates, (n,) each, on a logarithmic axis."""
    bar = np.nan_to_num(error)
    return np.maximum(rate - bar, LEAST_OF_RATE * rate), rate + bar


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLawView:
    """One typical Gamma a ROI, 1/s, against q^2, 1/Angstrom^2, and the power law through them.

    The first five attributes (n,) are of the ROIs whose rate is known, `error` its standard error
    and `n_ages` from how many ages it is; the line has two ends, or none. `words` say the exponent,
    or why there is none.
    """

    q_squared: FloatArray
    rate: FloatArray
    error: FloatArray
    label: IntArray
    n_ages: IntArray
    line_q_squared: FloatArray
    line_rate: FloatArray
    words: str


def power_law_view(
    table: GammaTable | None, labels: Sequence[int], q_inv_angstrom: Sequence[float] | FloatArray
) -> PowerLawView:
    """Return what is drawn of Gamma against q, which is NaN where unknown.

    `table` holds rows of all ROIs, those that were replaced among them, or is None.
    """
    q = np.asarray(q_inv_angstrom, np.float64)
    table = table or NO_ROWS
    table = table.select(np.isin(table.source, ESTIMATOR) & np.isin(table.roi, labels))
    table = table.select(rows_that_count(table))
    of_label = dict(zip(labels, q.tolist(), strict=True))
    table = table.replace(q_inv_angstrom=np.array([of_label[roi] for roi in table.roi.tolist()]))
    typical = typical_rates(table)
    typical = select_rows(typical, typical.q_inv_angstrom > 0)
    known_q, rate = typical.q_inv_angstrom, np.exp(typical.ln_rate)
    law = power_law(typical)
    ends = np.empty(0)
    if law is not None:
        words = f"Γ ∝ qⁿ, n = {law.exponent:.2f} ± {law.exponent_error:.2f} (diffusion: 2)"
        ends = np.array([known_q.min() / 1.1, known_q.max() * 1.1])
    elif not (q > 0).any():
        words = "q is not known: no geometry"
    elif len(q) < 3:
        words = "needs three ROIs"
    else:
        words = f"recommended Γ in {len(rate)} of {len(q)} ROIs; three are needed"
    return PowerLawView(
        q_squared=known_q**2,
        rate=rate,
        error=rate * typical.ln_rate_error,
        label=typical.roi,
        n_ages=typical.n_ages,
        line_q_squared=ends**2,
        line_rate=ends if law is None else law.prefactor * ends**law.exponent,
        words=words,
    )
