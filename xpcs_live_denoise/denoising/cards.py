"""A file of numbers and, beside it, its card: where the numbers come from, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Document, Fields


def save_with_card(
    path: str | Path, name: str, content: bytes, *, card_name: str, card: Fields
) -> Path:
    """Write a file and its card, with the file's hash, into a folder.

    Returns
    -------
    Path
        The folder, which is created if absent.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    whole = {**card, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / card_name).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return folder


def load_with_card(
    subject: str, folder: Path, name: str, *, card_name: str, keys: Sequence[str], writer: str
) -> tuple[bytes, Document]:
    """Return the content of a file and its card.

    Parameters
    ----------
    subject
        What the folder holds, for errors: "Ensemble", ...
    folder, name, card_name
        As `save_with_card` was given them.
    keys
        Entries that the card must have, "sha256" among them.
    writer
        What writes such folders, for errors.

    Raises
    ------
    InvalidInputError
        When a file cannot be read, the card lacks a key, or the two do not belong together.
    """
    texts: dict[str, bytes] = {}
    for file in (card_name, name):
        try:
            texts[file] = (folder / file).read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"{subject} {folder}: {file} cannot be read ({error.strerror}). Expected a folder "
                f"with {name} and {card_name}, as `{writer}` writes it."
            ) from error
    try:
        card = json.loads(texts[card_name].decode("utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{subject} {folder}: {card_name} is no JSON ({error}).") from error
    missing = [key for key in keys if not isinstance(card, dict) or key not in card]
    if missing:
        raise InvalidInputError(f"{subject} {folder}: {card_name} lacks {', '.join(missing)}.")
    digest = hashlib.sha256(texts[name]).hexdigest()
    if card["sha256"] != digest:
        raise InvalidInputError(
            f"{subject} {folder}: {name} has sha256 {digest}, {card_name} names "
            f"{card['sha256']}. The two do not belong together; copy the whole folder again."
        )
    return texts[name], card
