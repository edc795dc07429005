"""`convert-rois`: the one place that opens a pickle, [roi_mask, qval_dict], after a warning."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.errors import InvalidInputError

if TYPE_CHECKING:
    from xpcs_live_denoise.numerics.rois import RoiMap

WARNING = (
    "{path} is a pickle, a kind of file that can run code when it is opened. Only numpy arrays and "
    "plain containers will be let through, but open it only if you know who wrote it."
)

# What a pickle of arrays, numbers and containers asks for, by old and new names of numpy.
_CORES = ("numpy.core", "numpy._core")
ALLOWED = frozenset(
    {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"{core}.multiarray", name) for core in _CORES for name in ("_reconstruct", "scalar")),
        *((f"{core}.numeric", "_frombuffer") for core in _CORES),
        ("collections", "OrderedDict"),
        *(("builtins", name) for name in ("set", "frozenset", "slice", "complex", "bytearray")),
    }
)


def convert_rois(
    old: Annotated[Path, typer.Argument(help="A pickle [roi_mask, qval_dict], as CHX has them.")],
    new: Annotated[Path, typer.Argument(help="The ROI file to write, .npz or .json.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
) -> None:
    """Turn a pickled ROI set into a ROI file. A pickle can run code: know who wrote it."""
    typer.secho(WARNING.format(path=old), fg="yellow")
    if not yes:
        typer.confirm("Open it?", abort=True)
    rois, notes = convert(old, new)
    for note in notes:
        typer.secho(note, fg="yellow")
    typer.echo(f"{rois.n_roi} ROIs are in {new}.")


def convert(old: Path, new: Path) -> tuple[RoiMap, tuple[str, ...]]:
    """Read a pickle [roi_mask, qval_dict], write it as a ROI file, and say what is left out.

    Label i belongs to qval_dict[i - 1] = [q] or [q, phi], 1/Angstrom. Nothing but numpy arrays,
    numbers, strings and containers is unpickled; whatever else a file asks for is refused before
    it is called.
    """
    import numpy as np

    from xpcs_live_denoise.numerics.rois import RoiMap
    from xpcs_live_denoise.sources import save_rois

    content = _unpickle(old)
    if not isinstance(content, (list, tuple)) or len(content) < 2:
        raise InvalidInputError(
            f"Pickle {old}: got a {type(content).__name__}; expected [roi_mask, qval_dict]."
        )
    mask, q_of = content[:2]
    if not isinstance(mask, np.ndarray) or not isinstance(q_of, Mapping):
        raise InvalidInputError(
            f"Pickle {old}: got [{type(mask).__name__}, {type(q_of).__name__}]; expected "
            "[roi_mask, qval_dict], an array of labels and a dict."
        )
    notes: list[str] = []
    try:
        labels = np.unique(mask)
        values = [_q(q_of, int(label)) for label in labels[labels > 0]]
        rois = RoiMap.from_labels(mask, q_inv_angstrom=[q for q, _ in values])
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidInputError(f"Pickle {old}: {error}") from error
    unknown = rois.labels[np.isnan(rois.q_inv_angstrom)].tolist()
    if unknown:
        notes.append(f"Labels {unknown} have no q in qval_dict: unknown in the new file.")
    if any(has_phi for _, has_phi in values):
        notes.append("The ROIs have an azimuth phi as well: the new file keeps q alone.")
    save_rois(rois, new)
    return rois, tuple(notes)


def _q(q_of: Mapping[Any, Any], label: int) -> tuple[float, bool]:
    """Return q of a label, NaN where it has none, and whether there is more than q."""
    import numpy as np

    values = np.asarray(q_of.get(label - 1, ()), np.float64).reshape(-1)
    return (float(values[0]) if values.size else np.nan), values.size > 1


class _OnlyArrays(pickle.Unpickler):
    """Unpickles what ALLOWED names and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("_codecs", "encode"):  # bytes in pickles of protocol 2
            return _latin1
        if (module_name, global_name) not in ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which is neither array nor container; "
                "nothing was run"
            )
        return super().find_class(module_name, global_name)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _OnlyArrays(file, encoding="latin1").load()
    except OSError as error:
        raise InvalidInputError(
            f"Pickle {path}: cannot be read ({error.strerror or error}). Check the path."
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise InvalidInputError(
            f"Pickle {path}: refused ({error}). Expected a pickle of [roi_mask, qval_dict], an "
            "array of labels and a dict of lists. Write other ROIs with save_rois."
        ) from error
