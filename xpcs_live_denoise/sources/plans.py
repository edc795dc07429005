"""The plan that runs a streaming detector made of bluesky's protocols alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from xpcs_live_denoise.sources.simulated_stream import SimulatedEiger


def fly_series(
    detector: SimulatedEiger,
    *,
    md: Mapping[str, Any] | None = None,
    flush_period: float = 0.25,
    stream_name: str = "primary",
) -> MsgGenerator[str]:
    """Take one series of frames and announce them while it runs.

    The stream has to be declared before the kickoff: bluesky refuses to collect a detector of
    stream assets otherwise. However the plan ends, the run is closed first and the detector
    unstaged after it.

    Parameters
    ----------
    detector
        A device that is Stageable, Flyable, Collectable and WritesStreamAssets, with `n_frames`.
    md
        Further metadata for the start document.
    flush_period
        Longest time between two announcements, s.
    stream_name
        Name of the stream that holds the frames.

    Returns
    -------
    str
        Uid of the run.
    """
    metadata = {
        "plan_name": "fly_series",
        "detectors": [detector.name],
        "num_points": detector.n_frames,
        **(md or {}),
    }

    def series() -> MsgGenerator[None]:
        yield from bps.declare_stream(detector, name=stream_name, collect=True)  # pyright: ignore[reportArgumentType]
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing(
            [detector], [detector], flush_period=flush_period, stream_name=stream_name
        )

    run = bpp.run_wrapper(series(), md=metadata)
    return (yield from bpp.stage_wrapper(run, [detector]))
