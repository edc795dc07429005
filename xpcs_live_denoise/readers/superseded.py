"""Which rows of Gamma(t) a better one has replaced."""

from __future__ import annotations

from typing import Any


def without_superseded(table: Any) -> Any:
    """Return the rows of a gamma table (a DataFrame) that no better one of its age stands in for.

    A final row replaces provisional ones of its ROI, age and source, whatever their width; a row
    of source "bayes" replaces "bayes_early".
    """
    at = [table["roi"], table["age_frame"]]
    # An estimator that chooses its width may have chosen another one while the run was on.
    has_final = table["final"].groupby([*at, table["source"]], dropna=False).transform("any")
    late = (table["source"] == "bayes").groupby(at, dropna=False).transform("any")
    early = (table["source"] == "bayes_early") & late
    return table[(table["final"] | ~has_final) & ~early]
