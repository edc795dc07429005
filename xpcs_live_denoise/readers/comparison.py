"""Compares the results of one run: live, replayed, reprocessed, with other settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tiled.client.constructors import from_context

from xpcs_live_denoise.catalog import Node
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.fits import typical_rates
from xpcs_live_denoise.views import STATES, default_roi

from .client import XPCSResult
from .find import results, results_of
from .same_run import labels_of, number_settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def compare(
    catalog: Node, run: str | int, *, detector: str | None = None, path: str = "processed"
) -> Comparison:
    """Return all results of one run and detector, side by side.

    The parameters are those of `results`, which also chooses the detector of a run of several.

    Raises
    ------
    ResultNotFoundError, InvalidInputError
        As `results`.
    """
    best = results(catalog, run, detector=detector, path=path)
    folder = "/".join(part for part in best.path_parts[:-1] if part)
    root, raw_uid = from_context(best.context), best.start["original_run_uid"]
    return Comparison.of(results_of(root, raw_uid, best.xpcs["image_key"], path=folder))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of one run, the oldest first.

    Attributes
    ----------
    results
        What a result is called, such as "live", "replay" or "reprocess, outliers off", and the
        result: who analysed, and the settings in which it differs from the oldest one.
    """

    results: Mapping[str, XPCSResult]

    @classmethod
    def of(cls, found: Iterable[XPCSResult]) -> Comparison:
        """Return the comparison of results."""
        ordered = sorted(found, key=lambda result: result.start["time"])
        labels = labels_of([result.start for result in ordered])
        return cls(dict(zip(labels, ordered, strict=True)))

    def summary(self) -> pd.DataFrame:
        """Return one row a ROI and result.

        Returns
        -------
        pandas.DataFrame
            Columns `roi`, `q_inv_angstrom`, `result`, `relaxation_rate` and its error (typical
            Gamma of the recommended rows, 1/`time_unit`), `change_in_errors` (ln Gamma less that
            of the oldest result that has one, in units of the larger of both errors), `alpha`,
            `n_ages` (recommended rows), `state`, `time_unit`, `uid`. NaN where a result has none.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for name, result in self.results.items():
            typical = _typical(result.gamma_table(recommended=True))
            stop: Any = result.metadata.get("stop")
            state = "live" if not stop else STATES.get(str(stop.get("exit_status")), "ended")
            for roi, q in zip(result.xpcs["roi"], result.xpcs["q_inv_angstrom"], strict=True):
                rate = typical.get(roi, {"n_ages": 0})
                rows.append(
                    {"roi": roi, "q_inv_angstrom": np.nan if q is None else q, "result": name}
                    | rate
                    | {"state": state, "time_unit": result.time_unit, "uid": result.start["uid"]}
                )
        columns = (
            *("roi", "q_inv_angstrom", "result", "relaxation_rate", "relaxation_rate_error"),
            *("change_in_errors", "alpha", "n_ages", "state", "time_unit", "uid"),
        )
        table = pd.DataFrame(rows, columns=[*columns])
        table["change_in_errors"] = np.nan
        for _, same in table.groupby(["roi", "time_unit"]):
            known: Any = same[same["relaxation_rate"] > 0]
            if len(known):
                rate, error = (
                    known[name].to_numpy(float)
                    for name in ("relaxation_rate", "relaxation_rate_error")
                )
                log, error = np.log(rate), error / rate
                larger = np.fmax(error, error[0])
                change = np.divide(log - log[0], larger, out=np.zeros(len(log)), where=larger > 0)
                table.loc[known.index, "change_in_errors"] = change
        return table.sort_values("roi", kind="stable").reset_index(drop=True)

    def gamma_table(self, recommended: bool = True) -> pd.DataFrame:
        """Return the rows of Gamma(t) of all results, with `result` as the first column."""
        return self._joined(lambda result: result.gamma_table(recommended=recommended))

    def g2_table(self) -> pd.DataFrame:
        """Return g2 of all results that have ended, with `result` as the first column."""
        return self._joined(lambda result: result.g2_table())

    def settings(self) -> pd.DataFrame:
        """Return the settings in which results differ: a row a setting, a column a result.

        Settings that change no number, such as where results lie, are left out; None: not set.
        """
        import pandas as pd

        known = {name: dict(number_settings(one.start)) for name, one in self.results.items()}
        names = [
            name
            for name in dict.fromkeys(key for settings in known.values() for key in settings)
            if len({repr(one[name]) for one in known.values() if name in one}) > 1
        ]
        columns = {
            label: pd.Series([one.get(name) for name in names], names, dtype=object)
            for label, one in known.items()
        }
        return pd.DataFrame(columns, index=names)

    def plot(self, roi: int | None = None) -> Figure:
        """Return a matplotlib figure: Gamma(t) and g2 of a ROI, of all results over each other.

        Parameters
        ----------
        roi
            Label of the ROI; default: the middle one.

        Raises
        ------
        InvalidInputError
            For a label that no result has.
        MissingDependencyError
            Without matplotlib.
        """
        from xpcs_live_denoise.window import plot_curves

        labels = sorted({label for one in self.results.values() for label in one.xpcs["roi"]})
        label = labels[default_roi(labels)] if roi is None else roi
        if label not in labels:
            raise InvalidInputError(
                f"ROI {roi!r}: in none of the results; expected one of the labels {labels}."
            )
        first = next(iter(self.results.values()))
        tables: tuple[Any, Any] = self.gamma_table(), self.g2_table()
        gammas, g2s = (table[table["roi"] == label] for table in tables)
        curves = {
            name: (gammas[gammas["result"] == name], g2s[g2s["result"] == name])
            for name in self.results
        }
        raw_uid = str(first.start["original_run_uid"])
        units = {one.time_unit for one in self.results.values()}
        return plot_curves(
            curves,
            title=f"Run {raw_uid[:8]}, ROI {label}: {len(curves)} results",
            time_unit=" or ".join(sorted(units, reverse=True)),
        )

    def _joined(self, read: Callable[[XPCSResult], Any]) -> pd.DataFrame:
        import pandas as pd

        tables = {name: read(result) for name, result in self.results.items()}
        for name, table in tables.items():
            table.insert(0, "result", name)
        filled = [table for table in tables.values() if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else next(iter(tables.values()))


def _typical(rows: Any) -> dict[int, dict[str, Any]]:
    """Return what each ROI's recommended rows tell together."""
    if rows.empty:
        return {}
    typical = typical_rates(rows)
    rates = np.exp(typical.ln_rate)
    return {
        int(roi): {
            "relaxation_rate": float(rate),
            "relaxation_rate_error": float(rate * error),
            "alpha": float(rows.loc[rows["roi"] == roi, "alpha"].median()),
            "n_ages": int(n),
        }
        for roi, rate, error, n in zip(
            typical.roi, rates, typical.ln_rate_error, typical.n_ages, strict=True
        )
    }
