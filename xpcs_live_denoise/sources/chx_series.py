"""The plan of CHX's `series()`: one trigger, one event, with the metadata that CHX writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp

from xpcs_live_denoise.errors import InvalidInputError, short_repr

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

# CHX writes 1 to 1,000 frames a file; live work wants new frames every second or so.
IMAGES_PER_FILE = 50


def chx_series(
    detector: Any,
    *,
    expt: float = 0.1,
    acqp: float | None = None,
    imnum: int = 5,
    images_per_file: int = IMAGES_PER_FILE,
    md: Mapping[str, Any] | None = None,
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


def detector_named(name: Any, detectors: Mapping[str, Any]) -> Any:
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
    md: Mapping[str, Any] | None,
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
