"""What commands check before anything else is done: options, and the files that they write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import InvalidInputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refuse_options(command: str, options: Mapping[str, object], beside: str, expected: str) -> None:
    """Refuse options that mean nothing beside the others: none may be silently ignored.

    `options` by name, None, False or empty where not given; `beside` says of what, `expected` when
    they mean something, and what to do.
    """
    given = [
        name
        for name, value in options.items()
        if value is not None and value is not False and value != []
    ]
    if given:
        raise InvalidInputError(f"{command}: got {', '.join(given)} {beside}; expected {expected}")


def write_text(path: Path, text: str) -> None:
    """Write a file such that whoever reads it finds the old one or the new one, whole.

    Raises UnwritableFileError where that cannot be.
    """
    from xpcs_live_denoise.readers import written_whole

    with written_whole(path, overwrite=True) as part:
        part.write_text(text, encoding="utf-8")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as .png, as `write_text` does a text."""
    from xpcs_live_denoise.readers import written_whole

    with written_whole(path, overwrite=True) as part:
        figure.savefig(part, dpi=110, format="png")


def check_output(path: Path, suffixes: Sequence[str], *, overwrite: bool = True) -> None:
    """Refuse a file that could not be written, whose ending names no format, or that is there.

    Raises
    ------
    InvalidInputError
        For an ending other than `suffixes` (none: any will do), a folder that does not exist or may
        not be written to, and, unless `overwrite`, for a file that does exist.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise InvalidInputError(
            f"Output {path}: got the ending {path.suffix!r}; expected {' or '.join(suffixes)}, "
            "which says how it is written. Give the file such a name."
        )
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"Output {path}: its folder does not exist; expected one that does. Create it."
        )
    if not os.access(path.parent, os.W_OK):
        raise InvalidInputError(
            f"Output {path}: its folder may not be written to; expected one that may. Choose "
            "another one."
        )
    if path.is_dir():
        raise InvalidInputError(f"Output {path}: is a folder; expected the name of a file in it.")
    if path.exists() and not overwrite:
        raise InvalidInputError(
            f"Output {path}: is there already, and is not replaced unasked. Choose another name, "
            "or add --overwrite."
        )
