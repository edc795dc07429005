"""The plan of CHX's `series()`: one trigger, one event, with the metadata that CHX writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp

from xpcs_live_denoise.errors import InvalidInputError

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
        For times or numbers that are not positive.
    """
    if not (expt > 0 and imnum > 0 and images_per_file > 0 and (acqp is None or acqp > 0)):
        raise InvalidInputError(
            f"series: got expt={expt}, acqp={acqp}, imnum={imnum}, "
            f"images_per_file={images_per_file}; expected all of them above 0."
        )
    period = max(expt, acqp or expt)
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
