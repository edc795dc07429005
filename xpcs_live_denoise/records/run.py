"""What is known of a run besides its numbers: what began it, where it stands, how it ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from .frames import Geometry
from .types import Fields

RESULT_SPEC = "XPCSResult"  # what a derived run says that it is, to all readers


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiHeterogeneity:
    """How much C2 of one ROI fluctuates along its diagonals beyond its noise, and Gamma with it.

    Attributes
    ----------
    lag
        Shape (n_bin,): the middle of each bin of lags, frames.
    chi, chi_error
        Shape (n_bin,): variance of C2 within 65 ages, in units of beta^2, and its standard error.
    spread, spread_error
        About the standard deviation of ln Gamma, and its error; NaN where nothing is known.
    found
        It is significant: the ROI is dynamically heterogeneous.
    upper_bound
        It may also be noise: no pixels told, only a C2.
    """

    lag: tuple[float, ...] = ()
    chi: tuple[float, ...] = ()
    chi_error: tuple[float, ...] = ()
    spread: float = math.nan
    spread_error: float = math.nan
    found: bool = False
    upper_bound: bool = False

    @classmethod
    def from_fields(cls, fields: Fields) -> RoiHeterogeneity:
        """Return what JSON has kept; null is a number that is not known."""

        def known(value: Any) -> Any:
            if isinstance(value, list):
                return tuple(map(known, cast("list[Any]", value)))
            return math.nan if value is None else value

        return cls(**{name: known(fields[name]) for name in cls.__slots__ if name in fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where an analysis stands; one row of the `status` stream.

    Attributes
    ----------
    n_seen, n_processed, n_skipped
        Frames that documents announced, that are in C2, that are gaps (NaN rows) in it.
    n_masked
        Of the skipped frames, those that were there but did not belong to the series, or had too
        many bad pixels; `message` names them.
    skipped
        Indices of the gaps, as (first, last + 1) ranges.
    lag_s
        Seconds between the arrival of the newest processed frame and the end of its processing;
        frames of followed files arrive when their file is seen to be complete.
    queue_depth
        Messages that wait for the worker.
    contrast, baseline
        beta* and baseline* per ROI as far as they are known.
    contrast_estimates
        beta per ROI by other methods, name -> values (see `Contrasts.estimates`).
    heterogeneity
        Per ROI as far as it is known: a live run looks at one ROI now and then.
    message
        What a user should know, one sentence a fact, joined by spaces; empty if all is well.
    """

    n_seen: int = 0
    n_processed: int = 0
    n_skipped: int = 0
    n_masked: int = 0
    skipped: tuple[tuple[int, int], ...] = ()
    lag_s: float = 0.0
    queue_depth: int = 0
    contrast: tuple[float, ...] = ()
    baseline: tuple[float, ...] = ()
    contrast_estimates: Mapping[str, tuple[float, ...]] = dataclasses.field(
        default_factory=dict[str, tuple[float, ...]]
    )
    heterogeneity: tuple[RoiHeterogeneity, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a sink needs to know of a run before the first publication.

    Attributes
    ----------
    start
        The raw run's start document.
    detector, image_key
        Name of the detector and of the data key that holds its frames.
    frame_shape, frame_time_s, n_expected
        (rows, cols); frame period in s; number of frames if the documents tell it.
    time_unit
        "s"; "frame" where nobody knows the frame period, which is 1 then.
    analysed_by
        "live"; "serve" in a process of its own; "replay" or "reprocess" once more, of a stored run.
    settings_hash
        Tells whether two results were computed with the same settings, ROIs, mask and weights.
    supersedes
        Uids of the results of this run that this one was computed to take the place of.
    roi, q_inv_angstrom, n_pixels, phi_deg
        Per ROI: label, q (NaN where unknown), number of pixels, azimuth (empty: no ROI has one).
    geometry
        As used for q.
    settings
        The settings, JSON-ready, without anything secret.
    model
        Ensemble.info, or None where nothing will be denoised.
    versions
        Library name -> version.
    """

    start: Fields
    detector: str
    image_key: str
    frame_shape: tuple[int, int]
    frame_time_s: float
    n_expected: int | None
    roi: tuple[int, ...]
    q_inv_angstrom: tuple[float, ...]
    n_pixels: tuple[int, ...]
    window: int
    step: int
    mode: str
    engine: str
    phi_deg: tuple[float, ...] = ()
    time_unit: str = "s"
    analysed_by: str = "live"
    settings_hash: str = ""
    supersedes: tuple[str, ...] = ()
    geometry: Geometry = dataclasses.field(default_factory=Geometry)
    settings: Fields = dataclasses.field(default_factory=dict[str, Any])
    model: Fields | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def uid(self) -> str:
        """Uid of the raw run."""
        return self.start["uid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run and its analysis ended.

    Attributes
    ----------
    raw_exit_status, analysis_exit_status
        "success", "fail" or "abort"; the derived run is a success only if both are.
    reason
        One sentence for whatever was no success.
    status
        The last status, of which a sink that saw no Result writes the message.
    """

    raw_exit_status: str
    analysis_exit_status: str
    reason: str
    status: Status


class DeliveryState(StrEnum):
    """Whether a destination, such as the Tiled server, has what there is of a run."""

    DELIVERED = "delivered"
    WAITING = "waiting"  # it is on its way, or tried again until the destination takes it
    REFUSED = "refused"  # tried again as well, but somebody has to put something right


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How far the results of a run have come; of several destinations, to the worst."""

    state: DeliveryState = DeliveryState.DELIVERED
    reason: str = ""  # why the last attempt failed; "" if none did

    @property
    def note(self) -> str:
        """The sentence for a status; "" unless an attempt failed."""
        if not self.reason:
            return ""
        refused = self.state is DeliveryState.REFUSED
        return f"{'Not stored' if refused else 'Not stored yet'}: {self.reason}"

    @staticmethod
    def worst(deliveries: Iterable[Delivery]) -> Delivery:
        """Return the one that is furthest from delivered, of those that tell why if any does."""
        order = list(DeliveryState)
        return max(
            deliveries,
            key=lambda one: (order.index(one.state), bool(one.reason)),
            default=Delivery(),
        )
