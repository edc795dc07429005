"""How well Gamma of each ROI is known while a run is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunInfo
from xpcs_live_denoise.sinks import Summary

# Why a measurement ended that was to end when Gamma is known; "" while it goes on.
Why = Literal["known", "most_frames", "most_dose", "ended", "no_news", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRates:
    """What is known of the ROIs of a run.

    Attributes
    ----------
    n_frames
        Frames that were analysed.
    roi
        Labels of all ROIs.
    relaxation_rate, rate_error
        Typical Gamma of a ROI by its label, 1/s (per frame where no frame period is known), and the
        standard error of its logarithm. A ROI without a recommended row is not in them.
    dose
        Counts a pixel in all frames, by label; NaN where the picture is not known yet.
    why
        What `until_known` found: "known": Gamma of each ROI is known as well as was asked;
        "most_frames", "most_dose": the limit was reached before; "ended": the run was over before;
        "no_news": no further frame was analysed for `patience_s`.
    """

    n_frames: int
    roi: tuple[int, ...]
    relaxation_rate: dict[int, float]
    rate_error: dict[int, float]
    dose: dict[int, float]
    why: Why = ""


NOTHING = KnownRates(n_frames=0, roi=(), relaxation_rate={}, rate_error={}, dose={})


class Knowledge:
    """What the publications of one run have told. The worker takes; anybody may look."""

    def __init__(self) -> None:
        self._summary = Summary()
        self._newest: tuple[Publication | Result, RunInfo] | None = None
        self._seen: tuple[Publication | Result, KnownRates] | None = None

    def take(self, record: Publication | Result, info: RunInfo) -> None:
        """Take what a record tells."""
        self._summary.take(record)
        self._newest = record, info

    @property
    def rates(self) -> KnownRates:
        """What is known now; computed when somebody looks at what is new."""
        if self._newest is None:
            return NOTHING
        record, info = self._newest
        if self._seen is not None and self._seen[0] is record:
            return self._seen[1]
        told = self._summary.document(info, record.status, 0)
        gamma = dict(zip(info.roi, told["relaxation_rate"], strict=True))
        error = dict(zip(info.roi, told["relaxation_rate_error"], strict=True))
        gamma = {roi: rate for roi, rate in gamma.items() if rate > 0}
        known = KnownRates(
            n_frames=record.status.n_processed,
            roi=info.roi,
            relaxation_rate=gamma,
            rate_error={roi: error[roi] / rate for roi, rate in gamma.items()},
            dose=dict(zip(info.roi, told["dose"], strict=True)),
        )
        self._seen = record, known
        return known
