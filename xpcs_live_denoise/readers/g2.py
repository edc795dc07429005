"""The stream `g2` of a derived run -> a table, one (ROI, lag) a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .two_time import q_of

if TYPE_CHECKING:
    import pandas as pd


def read_g2(run: Any, xpcs: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table that `XPCSResult.g2_table` describes.

    Parameters
    ----------
    run
        Plain container client of a derived run.
    xpcs
        The entry `xpcs` of its start document.
    """
    import pandas as pd

    columns = ["roi", "q_inv_angstrom", "delay_s", "g2", "g2_error", "g2_denoised"]
    if "g2" not in run:
        return pd.DataFrame(columns=columns)
    stream = run["g2"].base
    delay_s, g2 = stream["delay_s"].read(), stream["g2"].read()
    denoised = stream["g2_denoised"].read() if "g2_denoised" in stream else g2 * np.nan
    repeat = len(delay_s)
    values = (
        np.repeat(xpcs["roi"], repeat),
        np.repeat(q_of(xpcs), repeat),
        np.tile(delay_s, len(g2)),
        g2.ravel(),
        stream["g2_error"].read().ravel(),
        denoised.ravel(),
    )
    return pd.DataFrame(dict(zip(columns, values, strict=True)))
