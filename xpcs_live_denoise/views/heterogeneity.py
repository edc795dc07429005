"""Heterogeneity of a ROI: how much C2 fluctuates against delay, and ln Gamma with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.run import RoiHeterogeneity, Status
from xpcs_live_denoise.records.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class HeterogeneityView:
    """The fluctuation chi of one ROI with its error bars, (n_bin,) each, at delays in s.

    `low` and `high` are the range of its axis, around 0; `words` say what it means, or that it is
    not `known`.
    """

    delay_s: FloatArray
    chi: FloatArray
    lower: FloatArray
    upper: FloatArray
    low: float
    high: float
    words: str
    known: bool


def heterogeneity_view(
    status: Status | None, roi: int, frame_time_s: float, *, final: bool = False
) -> HeterogeneityView:
    """Return what is drawn of the heterogeneity of the ROI with an index, as a status tells it.

    `final`: nothing more will come.
    """
    known = () if status is None else status.heterogeneity
    one = known[roi] if roi < len(known) else RoiHeterogeneity()
    chi, error = np.array(one.chi), np.array(one.chi_error)
    low = float(np.min(chi - error, initial=0.0))
    high = float(np.max(chi + error, initial=0.0))
    margin = 0.1 * (high - low) or 0.1
    return HeterogeneityView(
        delay_s=np.array(one.lag) * frame_time_s,
        chi=chi,
        lower=chi - error,
        upper=chi + error,
        low=low - margin,
        high=high + margin,
        words=_words(one, final),
        known=not math.isnan(one.spread),
    )


def _words(one: RoiHeterogeneity, final: bool) -> str:
    if math.isnan(one.spread):
        return "not known" if final else "not known yet"
    value = f"{one.spread:.2f} ± {one.spread_error:.2f}"
    if one.upper_bound:
        return f"ln Γ fluctuates by at most {value}"
    return f"ln Γ fluctuates by {value}" if one.found else f"no fluctuation found ({value})"
