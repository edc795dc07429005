"""ROI maps as JSON, for people and other programs: runs of pixels, rings, boxes."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap

MOST_PIXELS = 2**28
_FORM = (
    'expected {"shape": [rows, cols], "rois": [{"label": 1, "q_inv_angstrom": 0.01, "ring": '
    '{"center": [row, col], "edges": [inner, outer]}}, ...]}, or instead of "ring" a "box": '
    '[first row, stop row, first col, stop col] or "runs": [[first, stop], ...] of flat indices'
)


def rois_to_json(rois: RoiMap) -> str:
    """Return a map as JSON, each ROI as its label, q (null where unknown) and runs of pixels.

    A run [first, stop) counts pixels row by row from the upper left corner.
    """
    entries: list[dict[str, Any]] = []
    for label, q, one in zip(rois.labels, rois.q_inv_angstrom, rois.slices, strict=True):
        pixels = rois.pixels[one]
        breaks = np.flatnonzero(np.diff(pixels) > 1)
        first = pixels[np.concatenate([[0], breaks + 1])]
        stop = pixels[np.concatenate([breaks, [len(pixels) - 1]])] + 1
        entries.append(
            {
                "label": int(label),
                "q_inv_angstrom": None if np.isnan(q) else float(q),
                "runs": np.stack([first, stop], axis=1).tolist(),
            }
        )
    return json.dumps({"shape": list(rois.shape), "rois": entries})


def rois_from_json(text: str) -> RoiMap:
    """Return the map that JSON describes.

    Raises
    ------
    InvalidInputError
        When it is no JSON, or describes no ROIs; ROIs must not overlap.
    """
    try:
        content: Any = json.loads(text)
        rows, cols = (_whole(size) for size in content["shape"])
        if not (rows > 0 and cols > 0 and rows * cols <= MOST_PIXELS):
            raise ValueError(f"shape {[rows, cols]}")
        labels = np.zeros((rows, cols), np.int64)
        q_of: dict[int, float] = {}
        for entry in content["rois"]:
            label = _whole(entry["label"])
            if label < 1 or label in q_of:
                raise ValueError(f"label {label} is below 1 or there twice")
            q = entry.get("q_inv_angstrom")
            q_of[label] = math.nan if q is None else float(q)
            inside = _region(entry, (rows, cols))
            if labels[inside].any():
                raise ValueError(f"label {label} overlaps with another one")
            labels[inside] = label
    except (
        *(ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError),
    ) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInputError(f"ROIs as JSON: got something else ({what}); {_FORM}.") from error
    missing = sorted(q_of.keys() - set(np.unique(labels).tolist()))
    if missing:
        raise InvalidInputError(
            f"ROIs as JSON: labels {missing} hold no pixel of the {rows} x {cols} frame; expected "
            "ROIs inside of it. Check center, edges and their order (row, col)."
        )
    return RoiMap.from_labels(labels, q_inv_angstrom=[q_of[label] for label in sorted(q_of)])


def _region(entry: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, np.bool_)
    if "ring" in entry:
        center, edges = entry["ring"]["center"], entry["ring"]["edges"]
        row, col = (float(value) for value in center)
        inner, outer = (float(value) for value in edges)
        y, x = np.ogrid[: shape[0], : shape[1]]
        radius = np.hypot(cast("Any", y) - row, cast("Any", x) - col)
        inside[(radius >= inner) & (radius < outer)] = True
    elif "box" in entry:
        first_row, stop_row, first_col, stop_col = (_whole(value) for value in entry["box"])
        if min(first_row, first_col) < 0 or stop_row > shape[0] or stop_col > shape[1]:
            raise ValueError(f"box {entry['box']} leaves the frame")
        inside[first_row:stop_row, first_col:stop_col] = True
    elif "runs" in entry:
        for first, stop in entry["runs"]:
            if not 0 <= _whole(first) <= _whole(stop) <= inside.size:
                raise ValueError(f"run [{first}, {stop}) leaves the frame")
            inside.ravel()[first:stop] = True
    else:
        raise ValueError(f"a ROI has only {sorted(entry)}")
    return inside


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value
