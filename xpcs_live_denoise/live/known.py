"""How well Gamma of each ROI is known while a run is measured."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunInfo, Status
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
        self._lock = threading.Lock()
        self._told: tuple[Summary, RunInfo, Status] | None = None
        self._rates: KnownRates | None = NOTHING  # None: to be computed when somebody looks

    def take(self, record: Publication | Result, info: RunInfo) -> None:
        """Take what a record tells."""
        with self._lock:
            summary = Summary() if self._told is None else self._told[0]
            summary.take(record)
            self._told, self._rates = (summary, info, record.status), None

    def close(self) -> None:
        """Keep what is known, and nothing of what told it."""
        with self._lock:
            self._rates, self._told = self._known(), None

    @property
    def rates(self) -> KnownRates:
        """What is known now; computed when somebody looks at what is new."""
        with self._lock:
            self._rates = self._known()
            return self._rates

    def _known(self) -> KnownRates:
        if self._rates is not None:
            return self._rates
        return NOTHING if self._told is None else _known(*self._told)


def _known(summary: Summary, info: RunInfo, status: Status) -> KnownRates:
    told = summary.document(info, status, 0)
    gamma = dict(zip(info.roi, told["relaxation_rate"], strict=True))
    error = dict(zip(info.roi, told["relaxation_rate_error"], strict=True))
    gamma = {roi: rate for roi, rate in gamma.items() if rate > 0}
    return KnownRates(
        n_frames=status.n_processed,
        roi=info.roi,
        relaxation_rate=gamma,
        rate_error={roi: error[roi] / rate for roi, rate in gamma.items()},
        dose=dict(zip(info.roi, told["dose"], strict=True)),
    )
