"""ROI maps, pixel masks and flat fields in files of many kinds, never a pickle."""

from __future__ import annotations

import json
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np

from xpcs_live_denoise.config import (
    OrientationSettings,
    Settings,
    TiledSettings,
    node_in_tiled,
)
from xpcs_live_denoise.errors import InvalidInputError, short_repr, text_of
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.types import Array, BoolArray, Document, Fields, FloatArray

from .image_files import IMAGES, load_image
from .qmap_files import Kind, load_qmap

# What numpy and zipfile raise for files that are damaged, encrypted, or of another kind.
_DAMAGED = (
    *(ValueError, EOFError, SyntaxError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
# A mask that keeps a smaller part of the pixels looks inverted.
LEAST_KEPT = 0.1
TILED_S = 20.0  # a request for a mask that takes longer has failed
LABELS_KEY = "label_array"
Q_KEY = "q_inv_angstrom"
PHI_KEY = "phi_deg"


def save_rois(roi_map: RoiMap, path: str | Path) -> None:
    """Write a ROI map to a compressed .npz file, or to JSON where the name ends with .json.

    An .npz file has the arrays `label_array` (rows, cols), 0 = background, `q_inv_angstrom`
    (n_roi,), 1/Angstrom, in the order of ascending labels, NaN where unknown, and, where a ROI has
    an azimuth, `phi_deg` (n_roi,).

    Parameters
    ----------
    roi_map
        The map; what a mask removed is background in the file.
    path
        The file, which is replaced if it exists. Its name is used as it is.

    Raises
    ------
    InvalidInputError
        When the file cannot be written.
    """
    path = Path(path)
    arrays: Document = {LABELS_KEY: roi_map.label_array, Q_KEY: roi_map.q_inv_angstrom}
    if roi_map.phi_deg is not None:
        arrays[PHI_KEY] = roi_map.phi_deg
    try:
        if path.suffix.lower() == ".json":
            path.write_text(rois_to_json(roi_map), encoding="utf-8")
            return
        with path.open("wb") as file:  # np.savez would append .npz to another suffix
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise InvalidInputError(
            f"ROI file {path}: cannot be written ({error.strerror}). Expected a path in a folder "
            "that exists and may be written to."
        ) from error


def load_rois(path: str | Path, *, kind: Kind = "dynamic") -> RoiMap:
    """Read a ROI map from an .npz or .json file as `save_rois` writes it, or a q-map of the APS.

    Parameters
    ----------
    path
        The file. Of an .npz file `label_array` (rows, cols) is required, `q_inv_angstrom`
        (n_roi,) is not. A JSON file may also have rings and boxes (see `roi_json`). Of a file
        of HDF5 with a q-map (`/xpcs/qmap`, `/qmap`) its labels, q and phi, without what its mask
        leaves out.
    kind
        Of a q-map the ROIs of the "dynamic" map, or those of the finer "static" one.

    Raises
    ------
    InvalidInputError
        When the file is missing, neither .npz nor JSON, holds pickled objects, lacks
        `label_array`, or when its arrays make no ROI map.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        try:
            return rois_from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise _unreadable("ROI file", path, error) from error
        except (InvalidInputError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"ROI file {path}: {error}") from error
    if is_hdf5(path):
        return load_qmap(path, kind)
    arrays = _load(path, "ROI file")
    if not isinstance(arrays, dict):
        raise InvalidInputError(
            f"ROI file {path}: got a single array (.npy), expected an .npz file with "
            f"{LABELS_KEY!r} and {Q_KEY!r}. Write one with "
            "save_rois(RoiMap.from_labels(array), path)."
        )
    if LABELS_KEY not in arrays:
        raise InvalidInputError(
            f"ROI file {path}: got the arrays {sorted(arrays)}, expected {LABELS_KEY!r} (and "
            f"{Q_KEY!r}). Write the file with save_rois."
        )
    try:
        return RoiMap.from_labels(
            arrays[LABELS_KEY], q_inv_angstrom=arrays.get(Q_KEY), phi_deg=arrays.get(PHI_KEY)
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"ROI file {path}: {error}") from error


def load_mask(path: str | Path, tiled: TiledSettings | None = None) -> BoolArray:
    """Read a pixel mask, (rows, cols), True = keep; a file that cannot be used is refused.

    That is an .npy file, a TIFF, EDF or what else fabio reads, or an .npz or HDF5 file with one
    image or with one that is named `keep` or `mask`: booleans, or 1 = keep and 0 = leave out. One
    that keeps hardly a pixel is taken for an inverted one and refused, unless it is named `keep`.
    "tiled:chx/sandbox/mask" names an array on the server of `tiled`.
    """
    images = _load_images(Path(path), "Mask file", tiled)
    content = _one_image(images, f"Mask file {path}", ("keep", "mask"))
    if content.dtype.kind not in "buif" or not ((content == 0) | (content == 1)).all():
        raise InvalidInputError(
            f"Mask file {path}: got dtype {content.dtype} with values other than 0 and 1; expected "
            "True or 1 = keep the pixel, False or 0 = leave it out. An Eiger's pixel_mask, whose "
            "other numbers mark bad pixels, is read from the master file by itself."
        )
    keep = content.astype(np.bool_)
    if keep.mean() < LEAST_KEPT and not (isinstance(images, dict) and "keep" in images):
        raise InvalidInputError(
            f"Mask file {path}: with 1 = keep, as it is read here, it keeps {keep.mean():.2%} of "
            f"the pixels; with 1 = leave out it would keep {1 - keep.mean():.2%}. It looks "
            "inverted: write 1 - mask into the file. If it is right, save it as `keep`: "
            "numpy.savez(path, keep=mask)."
        )
    return keep


def load_flat_field(path: str | Path, tiled: TiledSettings | None = None) -> FloatArray:
    """Read the sensitivity of the pixels, (rows, cols); a file that cannot be used is refused.

    That is a file as for a mask, with one image or with one that is named `flat_field` or
    `flatfield`.
    """
    path = Path(path)
    subject = f"Flat field {path}"
    images = _load_images(path, "Flat field", tiled)
    image = _one_image(images, subject, ("flat_field", "flatfield"))
    if image.dtype.kind not in "buif":
        raise InvalidInputError(f"{subject}: got dtype {image.dtype}, expected real numbers.")
    return image.astype(np.float64)


def _load_images(path: Path, subject: str, tiled: TiledSettings | None) -> Array | dict[str, Array]:
    """Return the image of a file, or its images by name."""
    if (node := node_in_tiled(path)) is not None:
        return {node.rpartition("/")[2]: _of_tiled(node, f"{subject} {path}", tiled)}
    try:
        if path.name.lower().endswith(IMAGES):
            image = load_image(path)
            return image[0] if len(image) == 1 else image
        return _images_of(path) if is_hdf5(path) else _load(path, subject)
    except InvalidInputError as error:
        if str(error).startswith("File"):  # of an image
            raise InvalidInputError(f"{subject} {path}: cannot be used. {error}") from error
        raise
    except OSError as error:
        raise _unreadable(subject, path, error) from error


def _of_tiled(path: str, subject: str, tiled: TiledSettings | None) -> Array:
    """Return an array in Tiled; InvalidInputError where there is none, or no server."""
    from xpcs_live_denoise.catalog import connect  # Tiled's client takes half a second

    if tiled is None:
        raise InvalidInputError(f"{subject}: got no server; expected the settings `tiled`.")
    try:
        client = connect(tiled, request_s=TILED_S)
        try:
            node = client[tuple(part for part in path.split("/") if part)]
            family = getattr(node.structure_family, "value", node.structure_family)
            if family != "array":
                raise InvalidInputError(
                    f"{subject}: is a {family} of {', '.join([*node][:8]) or 'nothing'}; expected "
                    "an array (rows, cols). Name the array in it."
                )
            return np.asarray(node.read())
        finally:
            client.context.close()
    except KeyError:
        raise InvalidInputError(
            f"{subject}: is not on {tiled.uri}; expected the path of an array from the root of the "
            "server, such as tiled:chx/sandbox/mask. Check the path, and that the key may read it."
        ) from None
    except InvalidInputError:
        raise
    except Exception as error:  # of a server that is away, or of what Tiled's client makes of it
        raise InvalidInputError(
            f"{subject}: cannot be read ({text_of(error, 200)}). Try again when {tiled.uri} "
            "answers, or name a file."
        ) from error


def is_hdf5(path: Path) -> bool:
    """Whether a file is one of HDF5, by what it holds or, where nothing can be read, its name."""
    import h5py  # pyright: ignore[reportMissingTypeStubs]

    return h5py.is_hdf5(path) or path.suffix.lower() in (".h5", ".hdf5", ".hdf", ".nxs")


def _images_of(path: Path) -> dict[str, Array]:
    """Return the images of an HDF5 file by the last part of their names."""
    import h5py  # pyright: ignore[reportMissingTypeStubs]

    found: dict[str, Array] = {}

    def take(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and len(node.shape) == 2:
            found[name.rpartition("/")[2]] = np.asarray(node[()])

    with h5py.File(path, "r") as file:
        file.visititems(take)
    return found


def _one_image(content: Array | dict[str, Array], subject: str, names: tuple[str, ...]) -> Array:
    """Return the image of a file: the one that has one of the names, or the only one."""
    if isinstance(content, dict):
        known = [name for name in names if name in content] or list(content)
        if len(known) != 1:
            raise InvalidInputError(
                f"{subject}: got the arrays {sorted(content)}, expected one array, or one that is "
                f"named {' or '.join(map(repr, names))}."
            )
        content = content[known[0]]
    if content.ndim != 2:
        raise InvalidInputError(f"{subject}: got shape {content.shape}, expected (rows, cols).")
    return content


def _load(path: Path, subject: str) -> Array | dict[str, Array]:
    """Return the array of an .npy file or the arrays of an .npz file, by content, not by name."""
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            if magic == b"\x93NUMPY":
                return np.lib.format.read_array(file, allow_pickle=False)
            if not zipfile.is_zipfile(file):
                raise InvalidInputError(
                    f"{subject} {path}: is neither .npz nor .npy, expected a file that numpy "
                    "wrote. Pickles are not read, because a pickle can run code: write the arrays "
                    "with save_rois or numpy.save; `xpcs-live-denoise convert-rois` turns CHX's "
                    "[roi_mask, qval_dict] into a ROI file."
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise _unreadable(subject, path, error) from error
    except InvalidInputError:
        raise
    except _DAMAGED as error:
        raise InvalidInputError(
            f"{subject} {path}: cannot be used ({error}). Expected whole arrays of numbers; "
            "pickled objects are not read, because a pickle can run code. Write the file with "
            "save_rois or numpy.save."
        ) from error


def _unreadable(subject: str, path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"{subject} {path}: cannot be read ({error.strerror or error}). Check the path; in "
        "settings it is relative to the settings file."
    )


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
    entries: list[Document] = []
    phi_deg = rois.phi_deg
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
        if phi_deg is not None:
            phi = float(phi_deg[len(entries) - 1])
            entries[-1][PHI_KEY] = None if math.isnan(phi) else phi
    return json.dumps({"shape": list(rois.shape), "rois": entries})


def rois_from_json(text: str) -> RoiMap:
    """Return the map that JSON describes, an InvalidInputError where it describes none."""
    try:
        content: Any = json.loads(text)
        rows, cols = (_whole(size) for size in content["shape"])
        if not (rows > 0 and cols > 0 and rows * cols <= MOST_PIXELS):
            raise ValueError(f"shape {[rows, cols]}")
        labels = np.zeros((rows, cols), np.int64)
        q_of: dict[int, float] = {}
        phi_of: dict[int, float] = {}
        for entry in content["rois"]:
            label = _whole(entry["label"])
            if label < 1 or label in q_of:
                raise ValueError(f"label {label} is below 1 or there twice")
            q = entry.get("q_inv_angstrom")
            q_of[label] = math.nan if q is None else float(q)
            phi = entry.get(PHI_KEY)
            phi_of[label] = math.nan if phi is None else float(phi)
            inside = _region(entry, (rows, cols))
            if labels[inside].any():
                raise ValueError(f"label {label} overlaps with another one")
            labels[inside] = label
    except (*_DAMAGED, TypeError, AttributeError, ArithmeticError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInputError(f"ROIs as JSON: got something else ({what}); {_FORM}.") from error
    missing = sorted(q_of.keys() - set(np.unique(labels).tolist()))
    if missing:
        raise InvalidInputError(
            f"ROIs as JSON: labels {missing} hold no pixel of the {rows} x {cols} frame; expected "
            "ROIs inside of it. Check center, edges and their order (row, col)."
        )
    q, phi = ([of[label] for label in sorted(q_of)] for of in (q_of, phi_of))
    return RoiMap.from_labels(labels, q_inv_angstrom=q, phi_deg=phi)


def _region(entry: Document, shape: tuple[int, int]) -> BoolArray:
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


def roi_choices(settings: Settings) -> list[Settings]:
    """Return the settings with each of the ROI files that a start document may choose between."""
    if not isinstance(settings.rois, dict):
        return [settings]
    return [settings.model_copy(update={"rois": path}) for path in settings.rois.values()]


def _chosen_file(settings: Settings, start: Fields) -> Path | None:
    """Return the ROI file that the plan's `analysis` names, or the only one."""
    if not isinstance(settings.rois, dict):
        return settings.rois
    name = start.get("analysis")
    if name in settings.rois:
        return settings.rois[name]
    if name is None and len(settings.rois) == 1:
        return next(iter(settings.rois.values()))
    raise InvalidInputError(
        f"ROIs: the start document's `analysis` is {short_repr(name)}; expected one of those in "
        f"the setting `rois`: {', '.join(settings.rois)}. Add it there, or give the plan "
        f"analysis={next(iter(settings.rois))!r}."
    )


def open_rois(settings: Settings, rois: RoiMap | None, start: Fields | None = None) -> RoiMap:
    """Return `rois` if there is one, else what `settings.rois` holds; `settings.mask` applied.

    Of several files in `settings.rois` it is that which `analysis` in the start document names.

    ROIs and mask are given as the frames look after `settings.orientation`; the map that is
    returned is turned back once, so that it fits the frames as the documents deliver them. Without
    any ROIs, and for files that cannot be used, an InvalidInputError.
    """
    if rois is None:
        if settings.rois is None:
            raise InvalidInputError(
                f"No ROIs for detector {settings.detector!r}: expected the setting `rois`, a file "
                "that save_rois wrote, or a RoiMap as argument rois=."
            )
        rois = load_rois(cast("Path", _chosen_file(settings, start or {})))
    if settings.mask is not None:
        rois = rois.with_mask(load_mask(settings.mask, settings.tiled))
    if settings.orientation == OrientationSettings():
        return rois
    labels = settings.orientation.turn_back(rois.label_array)
    return RoiMap.from_labels(labels, q_inv_angstrom=rois.q_inv_angstrom, phi_deg=rois.phi_deg)


def open_mask(settings: Settings, shape: tuple[int, int]) -> BoolArray | None:
    """Return the pixels that `settings.mask` keeps, as `shape` of the documents' frames.

    None without a mask, or where it does not fit: whoever opens the ROIs says so.
    """
    if settings.mask is None:
        return None
    keep = settings.orientation.turn_back(load_mask(settings.mask, settings.tiled))
    return keep if keep.shape == shape else None


def open_flat_field(settings: Settings, rois: RoiMap) -> tuple[RoiMap, FloatArray | None, str]:
    """Return the ROIs' pixels that have a sensitivity, the flat field of `settings`, and a note.

    `rois` fit the frames as the documents deliver them, as `open_rois` returns them; so does the
    flat field, (rows, cols), None where there is none. A flat field that cannot be used is left
    alone: the note says why, and frames are analysed without.
    """
    if settings.flat_field is None:
        return rois, None, ""
    try:
        flat = load_flat_field(settings.flat_field, settings.tiled)
        flat = settings.orientation.turn_back(flat)
        if flat.shape != rois.shape:
            raise InvalidInputError(
                f"Flat field {settings.flat_field}: got shape {flat.shape}, expected {rois.shape}, "
                "that of the frames. Use the flat field of this detector and readout mode."
            )
        good = np.isfinite(flat) & (flat > 0)
        n_bad = int((~good.reshape(-1)[rois.pixels]).sum())
        rois = rois.with_mask(good) if n_bad else rois
    except InvalidInputError as error:
        return rois, None, f"No flat field: {error}"
    note = (
        f"{n_bad} pixels of the ROIs are left out: their sensitivity in the flat field is 0, "
        "negative or no number."
        if n_bad
        else ""
    )
    return rois, np.where(good, flat, 1.0), note
