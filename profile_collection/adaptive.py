"""An agent of bluesky-adaptive: find the temperature at which a sample has a wanted Gamma.

Each series ends by itself when Gamma is known, and tells the agent Gamma with its error. ln Gamma
is linear in 1/T (Arrhenius), so two temperatures give a guess of the next one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky_adaptive.protocols import OptimizationProblem

from xpcs_live_denoise import InvalidInputError, stop_when_known

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from xpcs_live_denoise import LiveDenoise


LONGEST_WAIT_S = 60.0  # for the end of an analysis


class TemperatureForRate:
    """Suggests temperatures, from the rates that earlier ones had.

    Parameters
    ----------
    name
        Name of the actuator, which takes kelvin.
    rate
        The wanted Gamma, 1/s.
    between
        Lowest and highest temperature, K: the first two suggestions.
    rate_error
        How near ln Gamma must come to the wanted one.
    """

    def __init__(
        self, name: str, *, rate: float, between: tuple[float, float], rate_error: float = 0.1
    ) -> None:
        self._name, self._between = name, between
        self._ln_rate, self._rate_error = math.log(rate), rate_error
        self._ids = itertools.count()
        self._measured: list[Mapping[str, float]] = []
        self._suggested: dict[Any, float] = {}

    def suggest(self, num_points: int | None = None) -> Sequence[Mapping[str, Any]]:
        """Return the next temperatures; behind the first two it is one at a time."""
        ends = self._between[len(self._measured) :][: num_points or 1]
        temperatures = ends or (self._guess(),)
        points = [{"_id": next(self._ids), self._name: t} for t in temperatures]
        self._suggested |= {point["_id"]: point[self._name] for point in points}
        return points

    def ingest(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Take what was measured: `relaxation_rate` and `rate_error` of each suggestion."""
        self._measured += [{**point, "kelvin": self._suggested[point["_id"]]} for point in points]

    def get_best_points(self) -> Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]:
        """Return the temperature whose rate came nearest."""
        best = min(self._measured, key=self._distance)
        outcome = {k: v for k, v in best.items() if k != "kelvin"}
        return [(best["_id"], {self._name: best["kelvin"]}, outcome)]

    def should_stop(self) -> tuple[bool, str | None]:
        """Stop where a rate came as near as was asked."""
        if self._measured and self._distance(self._measured[-1]) <= self._rate_error:
            return True, f"Gamma is as wanted at {self._measured[-1]['kelvin']:.1f} K"
        return False, None

    def _distance(self, point: Mapping[str, float]) -> float:
        return abs(math.log(point["relaxation_rate"]) - self._ln_rate)

    def _guess(self) -> float:
        inverse = np.array([1 / point["kelvin"] for point in self._measured])
        ln_rate = np.log([point["relaxation_rate"] for point in self._measured])
        weight = 1 / np.array([point["rate_error"] for point in self._measured])
        slope, offset = np.polyfit(inverse, ln_rate, 1, w=weight)
        return float(np.clip(slope / (self._ln_rate - offset), *self._between))


def rate_problem(
    optimizer: TemperatureForRate,
    heater: Any,
    live: LiveDenoise,
    series: Callable[..., Any],
    *,
    roi: int,
    **limits: Any,
) -> OptimizationProblem:
    """Return the problem for `bluesky_adaptive.plans.optimize`.

    Parameters
    ----------
    heater
        What is moved.
    live
        The callback, subscribed to the RunEngine; its analysis is waited for.
    series
        A plan with one run, called with `md`.
    roi
        Whose Gamma is wanted.
    limits
        As of `stop_when_known`: rate_error, most_frames, most_dose, device ...
    """

    def acquire(
        suggestions: Sequence[Mapping[str, Any]], *_: Any, **__: Any
    ) -> MsgGenerator[list[str]]:
        uids: list[str] = []
        for point in suggestions:
            kelvin = point[heater.name]
            yield from bps.mv(heater, kelvin)
            before = set(live.rates)
            plan = stop_when_known(series(md={"T_sample": kelvin}), live, rois=[roi], **limits)
            yield from bpp.set_run_key_wrapper(plan, f"series {point['_id']}")
            until = time.monotonic() + LONGEST_WAIT_S
            while live.running and time.monotonic() < until:  # the final rates; not for Tiled
                yield from bps.sleep(0.1)
            uids += [uid for uid in live.rates if uid not in before][-1:]
        return uids

    def evaluate(
        uids: list[str], suggestions: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        outcomes: list[Mapping[str, Any]] = []
        for uid, point in zip(uids, suggestions, strict=True):
            known = live.rates[uid]
            if roi not in known.relaxation_rate:
                raise InvalidInputError(
                    f"Series at {point[heater.name]:.1f} K: no rate of ROI {roi} can be trusted "
                    f"after {known.n_frames} frames; expected one. Allow more frames or dose, or "
                    "choose another ROI."
                )
            outcomes.append(
                {
                    "_id": point["_id"],
                    "relaxation_rate": known.relaxation_rate[roi],
                    "rate_error": known.rate_error[roi],
                }
            )
        return outcomes

    return OptimizationProblem(
        optimizer=optimizer,
        actuators=[heater],
        sensors=[],
        evaluation_function=evaluate,
        acquisition_plan=acquire,
    )
