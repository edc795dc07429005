"""The ROI map that an analysis uses: the one that was passed, or the file that settings name."""

from __future__ import annotations

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap

from .roi_files import load_mask, load_rois


def open_rois(settings: Settings, rois: RoiMap | None) -> RoiMap:
    """Return `rois` if there is one, else what `settings.rois` holds; `settings.mask` applied.

    Raises
    ------
    InvalidInputError
        Without any ROIs, and for files that cannot be used.
    """
    if rois is None:
        if settings.rois is None:
            raise InvalidInputError(
                f"No ROIs for detector {settings.detector!r}: expected the setting `rois`, a file "
                "that save_rois wrote, or a RoiMap as argument rois=."
            )
        rois = load_rois(settings.rois)
    return rois if settings.mask is None else rois.with_mask(load_mask(settings.mask))
