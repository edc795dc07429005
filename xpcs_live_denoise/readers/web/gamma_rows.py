"""The rows of Gamma(t) that count, kept up to date as new ones are appended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.records.results import GAMMA_COLUMNS
from xpcs_live_denoise.readers.client import without_superseded

KEY = ["roi", "age_frame", "source", "width"]
COLUMNS = ["seq_num", *GAMMA_COLUMNS]


def merged(rows: Any | None, news: Any) -> Any:
    """Return the rows that count of those so far and new ones, DataFrames both.

    Per ROI, age, source and width the final row, else the newest; a better row of its age replaces
    one as in `XPCSResult.gamma_table`. Rows that come twice count once.
    """
    import pandas as pd

    news = news[COLUMNS]
    if rows is not None and len(rows):
        news = pd.concat([rows, news], ignore_index=True) if len(news) else rows
    news = news.sort_values(["final", "seq_num"], kind="stable")
    news = news.drop_duplicates(KEY, keep="last")
    return without_superseded(news).reset_index(drop=True)


def of_roi(rows: Any | None, roi: int) -> Any | None:
    """Return the converged rows of one ROI with an age, by age; None where there are none."""
    if rows is None or not len(rows):
        return None
    kept = rows[(rows["roi"] == roi) & rows["age_frame"].notna() & rows["converged"]]
    kept = kept[kept["relaxation_rate"] > 0]
    return kept.sort_values("age_frame", kind="stable") if len(kept) else None


def rates_by_roi(rows: Any | None, labels: Sequence[int]) -> np.ndarray:
    """Return the recommended rates, shape (n_roi, n_age), 1/s; NaN where there is none."""
    if rows is None or not len(rows):
        return np.full((len(labels), 0), np.nan)
    good = rows[rows["recommended"] & rows["converged"] & rows["age_frame"].notna()]
    table = good.pivot_table(index="roi", columns="age_frame", values="relaxation_rate")
    return table.reindex(list(labels)).to_numpy(float)
