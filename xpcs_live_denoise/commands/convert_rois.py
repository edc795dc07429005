"""`convert-rois`: the one place that opens a pickle, [roi_mask, qval_dict], after a warning."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from xpcs_live_denoise.errors import InvalidInputError

from .output import check_output

if TYPE_CHECKING:
    from xpcs_live_denoise.numerics.rois import RoiMap

SUFFIXES = (".npz", ".json")
MOST_SHOWN = 12  # labels in a message
QAndPhi: TypeAlias = tuple[float, float]  # 1/Angstrom and degrees, NaN where there is none
UNKNOWN: QAndPhi = (math.nan, math.nan)

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
    keys: Annotated[
        Literal["position", "label"] | None,
        typer.Option(
            help="What the keys of qval_dict are: positions of the labels in ascending order, from "
            "0 (pyCHX), or the labels themselves. Needed where both are possible."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the new file.")] = False,
) -> None:
    """Turn a pickled ROI set into a ROI file. A pickle can run code: know who wrote it."""
    check_output(new, SUFFIXES, overwrite=overwrite)
    typer.secho(WARNING.format(path=old), fg="yellow")
    if not yes:
        typer.confirm("Open it?", abort=True)
    rois, notes = convert(old, new, keys=keys)
    for note in notes:
        typer.secho(note, fg="yellow")
    typer.echo(f"{rois.n_roi} ROIs are in {new}.")


def convert(
    old: Path, new: Path, *, keys: Literal["position", "label"] | None = None
) -> tuple[RoiMap, tuple[str, ...]]:
    """Read a pickle [roi_mask, qval_dict], write it as a ROI file, and say what is left out.

    qval_dict has [q] or [q, phi], 1/Angstrom and degrees, for each key; `keys` says what a key is,
    None: what is clear from keys and labels. Nothing but numpy arrays, numbers, strings and
    containers is unpickled; whatever else a file asks for is refused before it is called.
    """
    import numpy as np

    from xpcs_live_denoise.numerics.rois import RoiMap
    from xpcs_live_denoise.sources import save_rois

    check_output(new, SUFFIXES)
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
    try:
        labels = [int(label) for label in np.unique(mask) if label > 0]
        RoiMap.from_labels(mask)  # says what is wrong with it, if anything is
        values = {operator.index(key): _q_and_phi(value) for key, value in q_of.items()}
        found = [values.get(key, UNKNOWN) for key in _keys(labels, values, keys)]
        q, phi = ([one[k] for one in found] for k in (0, 1))
        rois = RoiMap.from_labels(mask, q_inv_angstrom=q, phi_deg=phi)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InvalidInputError(f"Pickle {old}: {error}") from error
    unknown = rois.labels[np.isnan(rois.q_inv_angstrom)].tolist()
    save_rois(rois, new)
    if not unknown:
        return rois, ()
    return rois, (f"Labels {unknown} have no q in qval_dict: unknown in the new file.",)


def _keys(
    labels: Sequence[int], values: Mapping[int, QAndPhi], chosen: str | None
) -> Sequence[int]:
    """Return the key of each label, or refuse where it is not clear."""
    positions = range(len(labels))
    if chosen is not None:
        return positions if chosen == "position" else labels
    if {*labels} == {*values}:
        return labels
    consecutive = list(labels) == [k + 1 for k in positions]
    if consecutive and 0 in values:  # pyCHX's own
        return positions
    rows = (
        f"  {label:<8}{_shown(values.get(k)):<28}{_shown(values.get(label))}"
        for k, label in enumerate(labels[:MOST_SHOWN])
    )
    more = f"\n  ... {len(labels)} labels" if len(labels) > MOST_SHOWN else ""
    raise InvalidInputError(
        f"the keys of qval_dict are {_short(sorted(values))}, the labels {_short(labels)}: which "
        "key is of which label is not clear; expected keys 0, 1, 2, ... for labels 1, 2, 3, ..., "
        "or the labels themselves. It may mean:\n"
        f"  {'label':<8}{'--keys position':<28}--keys label\n"
        + "\n".join(rows)
        + f"{more}\nCompare with the q that you know, and choose one of the two."
    )


def _short(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_SHOWN]))
    return f"[{shown}{', ...' if len(numbers) > MOST_SHOWN else ''}]"


def _shown(value: QAndPhi | None) -> str:
    if value is None or math.isnan(value[0]):
        return "no q"
    return f"q {value[0]:.5g}" + ("" if math.isnan(value[1]) else f", phi {value[1]:.4g}")


def _q_and_phi(value: Any) -> QAndPhi:
    """Return q and phi of an entry, NaN where there is none."""
    import numpy as np

    numbers = [*np.asarray(value, np.float64).reshape(-1)[:2].tolist(), math.nan, math.nan]
    return numbers[0], numbers[1]


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
