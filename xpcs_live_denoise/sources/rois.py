"""The ROI map that an analysis uses: what was passed or what settings name, as frames lie."""

from __future__ import annotations

from xpcs_live_denoise.config import OrientationSettings, Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap

from .roi_files import load_mask, load_rois


def open_rois(settings: Settings, rois: RoiMap | None) -> RoiMap:
    """Return `rois` if there is one, else what `settings.rois` holds; `settings.mask` applied.

    ROIs and mask are given as the frames look after `settings.orientation`; the map that is
    returned is turned back once, so that it fits the frames as the documents deliver them.

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
    if settings.mask is not None:
        rois = rois.with_mask(load_mask(settings.mask))
    if settings.orientation == OrientationSettings():
        return rois
    labels = settings.orientation.turn_back(rois.label_array)
    return RoiMap.from_labels(labels, q_inv_angstrom=rois.q_inv_angstrom)
