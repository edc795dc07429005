"""Files that commands write: checked before anything else is done, never replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xpcs_live_denoise.errors import InvalidInputError


def check_output(path: Path, suffixes: Sequence[str], *, overwrite: bool = True) -> None:
    """Refuse a file that could not be written, whose ending names no format, or that is there.

    Raises
    ------
    InvalidInputError
        For an ending other than `suffixes`, a folder that does not exist or may not be written to,
        and, unless `overwrite`, for a file that does exist.
    """
    if path.suffix.lower() not in suffixes:
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
