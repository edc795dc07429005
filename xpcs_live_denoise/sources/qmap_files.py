"""Q-maps of the APS (partition files, and results that hold one) as ROI maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, text_of
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.types import FloatArray

# Where the groups lie: in results, in partition files, and at the top of a file.
GROUPS = ("xpcs/qmap", "qmap", "entry/instrument/masks", "")
Kind = Literal["dynamic", "static"]
# Units of q and of azimuths, with their size in 1/Angstrom and degrees.
_UNITS = {"1/nm": 0.1, "nm-1": 0.1, "nm^-1": 0.1, "rad": 180 / np.pi, "radian": 180 / np.pi}


def load_qmap(path: Path, kind: Kind = "dynamic") -> RoiMap:
    """Return the ROIs of a q-map: those of the dynamics, or the finer static ones.

    Label i is bin `index_mapping[i - 1]` of the grid of q and phi, whose bins without a pixel have
    no label; where a file has no mapping, or labels that stand for the grid itself, bin i - 1. What
    its mask leaves out is no ROI.

    Raises
    ------
    InvalidInputError
        For a file without a q-map, or with one whose labels and bins do not fit.
    """
    try:
        with h5py.File(path, "r") as file:
            group = next((name for name in GROUPS if f"{name}/{kind}_roi_map" in file), None)
            if group is None:
                raise InvalidInputError(
                    f"ROI file {path}: holds no {kind}_roi_map; expected a q-map of the APS, in "
                    f"{', '.join(one or '/' for one in GROUPS)}, or .npz, .json by save_rois."
                )
            content: dict[str, Any] = {
                name: node[()]
                for name, node in file[group or "/"].items()  # pyright: ignore[reportAttributeAccessIssue]
                if isinstance(node, h5py.Dataset)
            }
    except (OSError, RuntimeError, KeyError) as error:
        raise InvalidInputError(
            f"ROI file {path}: cannot be read ({text_of(error, 300)}); expected a whole file of "
            "HDF5 with a q-map. Copy it anew."
        ) from error
    try:
        return _map_of(content, kind)
    except InvalidInputError as error:
        raise InvalidInputError(f"ROI file {path}: {error}") from error


def _map_of(content: dict[str, Any], kind: Kind) -> RoiMap:
    labels = np.asarray(content[f"{kind}_roi_map"])
    mask = content.get("mask")
    if mask is not None and np.shape(mask) == labels.shape:
        labels = np.where(np.asarray(mask) != 0, labels, 0)
    present = np.unique(labels[labels > 0]).astype(np.int64)
    q, phi = _grid(content, kind)
    bins = np.asarray(content.get(f"{kind}_index_mapping", ()), np.int64).ravel()
    if not len(bins) or (len(present) and present[-1] > len(bins)):
        bins = np.arange(max(len(q), 1))  # labels of the whole grid
    if len(present) and (present[-1] > len(bins) or bins.max() >= len(q)):
        raise InvalidInputError(
            f"q-map: has labels up to {present[-1]}, {len(bins)} bins in its index mapping and "
            f"{len(q)} in its lists of values; expected a bin for each label. Make the q-map anew: "
            "bins were added or emptied after its labels."
        )
    at = bins[present - 1]
    rois = RoiMap.from_labels(labels, q_inv_angstrom=q[at], phi_deg=phi[at])
    center = [content.get(f"beam_center_{axis}") for axis in "yx"]
    if any(one is None for one in center):
        return rois
    row, col = (float(np.asarray(one).ravel()[0]) for one in center)
    return dataclasses.replace(rois, center=(row, col))


def _grid(content: dict[str, Any], kind: Kind) -> tuple[FloatArray, FloatArray]:
    """Return q and phi of every bin, (n_q * n_phi,), NaN where the map has another quantity."""
    lists = [
        np.asarray(content.get(f"{kind}_v_list_dim{k}", (np.nan,)), np.float64).ravel()
        for k in (0, 1)
    ]
    names, units = _texts(content.get("map_names")), _texts(content.get("map_units"))
    names = (names if len(names) == 2 else ["q", "phi"]) if names else ["q", "phi"]
    grids = np.meshgrid(*lists, indexing="ij")
    nothing = np.full(grids[0].size, np.nan)
    found = {"q": nothing, "phi": nothing}
    for k, name in enumerate(names):
        unit = units[k].strip().lower() if len(units) > k else ""
        # The azimuth of whole rings says nothing.
        if name in found and not (name == "phi" and len(lists[k]) == 1):
            found[name] = grids[k].ravel() * _UNITS.get(unit, 1.0)
    return np.where(found["q"] >= 0, found["q"], np.nan), found["phi"]


def _texts(value: Any) -> list[str]:
    """Return texts that h5py gives as bytes, objects or numpy's own."""
    items = [] if value is None else np.asarray(value).ravel().tolist()
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]
