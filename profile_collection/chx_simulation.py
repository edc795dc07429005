"""CHX's three Eigers, simulated: what the profile takes its series with off the beamline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np

from xpcs_live_denoise import RoiMap, simulate_speckle
from xpcs_live_denoise.errors import InvalidInputError, short_repr
from xpcs_live_denoise.records.types import Array, Fields
from xpcs_live_denoise.simulation import FrameFactory, SimulatedClassicEiger

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

CHX_SHAPES = {
    "eiger4m_single": (2167, 2070),
    "eiger1m_single": (1065, 1030),
    "eiger500K_single": (514, 1030),
}
# Speckle is simulated in a square around the beam, where the rings are; the rest of the detector
# shows a weak static background. A 4M field would take a second a frame.
SPECKLE_EDGE = 400
RING_RADII = np.linspace(80, 190, 6)
MEAN_COUNTS, BACKGROUND_COUNTS, SPECKLE_CONTRAST = 0.3, 0.05, 0.2
# Of the middle ring, per frame; others go with q^2. The sample slows down like 1 / (1 + age / 80).
FIRST_RATE, AGEING_FRAMES, LONGEST_SERIES = 0.12, 80.0, 5000
BACKGROUND_FRAMES = 4


def simulated_chx_eiger(name: str, directory: Path) -> SimulatedClassicEiger:
    """Return one of CHX's detectors, in front of a gel that slows down as it ages.

    Parameters
    ----------
    name
        "eiger4m_single", "eiger1m_single" or "eiger500K_single".
    directory
        Where it writes its files.

    Raises
    ------
    InvalidInputError
        For another name.
    """
    return SimulatedClassicEiger(_gel_on(_shape(name)), directory, name=name)


def simulated_chx_rings(name: str) -> RoiMap:
    """Return five rings around the beam of a simulated detector."""
    shape = _shape(name)
    edges = np.column_stack([RING_RADII[:-1], RING_RADII[1:]])
    return RoiMap.rings(shape, ((shape[0] - 1) / 2, (shape[1] - 1) / 2), edges)


def _shape(name: str) -> tuple[int, int]:
    if name not in CHX_SHAPES:
        raise InvalidInputError(
            f"Simulated detector: got the name {name!r}; expected one of {', '.join(CHX_SHAPES)}."
        )
    return CHX_SHAPES[name]


def _gel_on(shape: tuple[int, int]) -> FrameFactory:
    """Return a factory of frames with speckle around the beam and background elsewhere."""
    top, left = ((edge - SPECKLE_EDGE) // 2 for edge in shape)
    square = np.s_[top : top + SPECKLE_EDGE, left : left + SPECKLE_EDGE]

    def frames() -> Iterator[Array]:
        rng = np.random.default_rng(17)
        background = rng.poisson(BACKGROUND_COUNTS, (BACKGROUND_FRAMES, *shape)).astype(np.uint16)
        number = 0
        for speckle in _speckle(shape, square):
            for patch in speckle:
                frame = background[number % BACKGROUND_FRAMES].copy()
                frame[square] = patch
                number += 1
                yield frame[np.newaxis]

    return frames


def _speckle(shape: tuple[int, int], square: tuple[slice, slice]) -> Iterator[Array]:
    center = tuple((edge - 1) / 2 for edge in shape)
    rings = RoiMap.rings(
        (SPECKLE_EDGE, SPECKLE_EDGE),
        (center[0] - square[0].start, center[1] - square[1].start),
        np.column_stack([RING_RADII[:-1], RING_RADII[1:]]),
    )
    radii = RING_RADII[:-1] + np.diff(RING_RADII) / 2
    first = FIRST_RATE * (radii / radii.mean()) ** 2
    return simulate_speckle(
        rings,
        LONGEST_SERIES,
        relaxation_rate=first[:, np.newaxis] / (1 + np.arange(LONGEST_SERIES) / AGEING_FRAMES),
        contrast=SPECKLE_CONTRAST,
        mean_counts=MEAN_COUNTS,
        block=10,
    )


# CHX writes 1 to 1,000 frames a file; live work wants new frames every second or so.
IMAGES_PER_FILE = 50


def chx_series(
    detector: Any,
    *,
    expt: float = 0.1,
    acqp: float | None = None,
    imnum: int = 5,
    images_per_file: int = IMAGES_PER_FILE,
    md: Fields | None = None,
) -> MsgGenerator[str]:
    """Take one series with a classic Eiger, as `series()` does at CHX.

    Parameters
    ----------
    detector
        A classic ophyd Eiger: `cam.acquire_time`, `cam.acquire_period`, `cam.num_images`,
        `file.file_write_images_per_file`, `file.sequence_id`.
    expt, acqp
        Exposure and frame period, s; the period is never shorter than the exposure, and by default
        equal to it.
    imnum
        Number of images.
    images_per_file
        Frames of one data file: how often the live analysis gets new ones.
    md
        Further metadata, `sample` for example.

    Returns
    -------
    str
        Uid of the run.

    Raises
    ------
    InvalidInputError
        At the call, before the plan begins: for times or numbers that are not positive.
    """
    expt, imnum = _positive("expt", expt), _whole("imnum", imnum)
    period = max(expt, expt if acqp is None else _positive("acqp", acqp))
    images_per_file = _whole("images_per_file", images_per_file)
    return _series(
        detector, expt=expt, period=period, imnum=imnum, images_per_file=images_per_file, md=md
    )


def detector_named(name: object, detectors: Fields) -> Any:
    """Return the detector of that name.

    Raises
    ------
    InvalidInputError
        When there is none.
    """
    if not isinstance(name, str) or name not in detectors:
        known = ", ".join(map(repr, detectors))
        raise InvalidInputError(f"series: got det={short_repr(name)}; expected one of {known}.")
    return detectors[name]


def _positive(name: str, value: Any) -> float:
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 < number < math.inf:
        raise InvalidInputError(
            f"series: got {name}={short_repr(value)}; expected a number above 0."
        )
    return number


def _whole(name: str, value: Any) -> int:
    number = _positive(name, value)
    if number != int(number):
        raise InvalidInputError(f"series: got {name}={value}; expected a whole number above 0.")
    return int(number)


def _series(
    detector: Any,
    *,
    expt: float,
    period: float,
    imnum: int,
    images_per_file: int,
    md: Fields | None,
) -> MsgGenerator[str]:
    yield from bps.mv(
        detector.cam.acquire_time,
        expt,
        detector.cam.acquire_period,
        period,
        detector.cam.num_images,
        imnum,
        detector.file.file_write_images_per_file,
        images_per_file,
    )
    # Text, as at CHX: whoever reads these keys has to cope with it.
    metadata = {
        "plan_name": "series",
        "XPCS_data": "True",
        "exposure time": str(expt),
        "acquire period": str(period),
        "number of images": str(imnum),
        "sequence id": str(detector.file.sequence_id.get()),
        "data path": str(detector.file.file_path.get()),
        **(md or {}),
    }
    return (yield from bp.count([detector], md=metadata))
