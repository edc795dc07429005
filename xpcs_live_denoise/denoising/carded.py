"""A folder with one file of arrays and a card that names it by its hash: written and read."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError

CARD_NAME = "card.json"


def save_carded(
    path: str | Path, name: str, arrays: Mapping[str, ArrayLike], card: Mapping[str, Any]
) -> Path:
    """Write arrays as the file `name` into a folder, and beside it the card with their hash.

    Returns
    -------
    Path
        The folder, which is created if absent.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    stored: dict[str, Any] = {key: np.asarray(array) for key, array in arrays.items()}
    np.savez_compressed(buffer, **stored)
    (folder / name).write_bytes(buffer.getvalue())
    whole = {**card, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    (folder / CARD_NAME).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return folder


def load_carded(
    path: str | Path, name: str, *, arrays: Sequence[str], card: Sequence[str] = ()
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a folder of `save_carded`.

    Parameters
    ----------
    path, name
        Folder, and its file of arrays.
    arrays, card
        Entries that each must have.

    Raises
    ------
    InvalidInputError
        When a file is missing or cannot be read, lacks an entry, or does not belong to the card.
    """
    folder = Path(path)
    try:
        content = (folder / name).read_bytes()
        written: dict[str, Any] = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {key: file[key] for key in arrays}
        digest, *_ = [written[key] for key in ("sha256", *card)]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"Folder {folder}: cannot be read ({error}). Expected {name} and {CARD_NAME} as this "
            "package writes them."
        ) from error
    if digest != hashlib.sha256(content).hexdigest():
        raise InvalidInputError(
            f"Folder {folder}: {name} is not the file that {CARD_NAME} names. Copy the whole "
            "folder again."
        )
    return found, written
