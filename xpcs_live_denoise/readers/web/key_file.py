"""Reads a key from a file that nobody else may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from xpcs_live_denoise.errors import InvalidInputError

MOST_BYTES = 4096


def key_in_file(path: Path, option: str) -> str:
    """Return the one line of a file; no message holds any of it.

    Parameters
    ----------
    path
        Of the file.
    option
        Of the command line that named it, for messages.

    Raises
    ------
    InvalidInputError
        For what is no readable file, a file that others may read, or one without exactly one line.
    """
    subject = f"Key file {path} ({option})"
    try:
        with open(path, "rb", opener=_opener) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInputError(f"{subject}: no regular file; expected one with the key.")
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"{subject}: cannot be read ({error.strerror}); expected a file with the key."
        ) from error
    if found.st_mode & 0o077:
        raise InvalidInputError(
            f"{subject}: others may read or change it (mode {stat.S_IMODE(found.st_mode):o}); "
            f"expected a file of yours alone. Run: chmod 600 {path}"
        )
    try:
        lines = data.decode().strip().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or len(data) > MOST_BYTES:
        raise InvalidInputError(
            f"{subject}: got {len(data)} bytes that are not one line of text; expected the key and "
            "nothing else. Write it anew."
        )
    return lines[0]


def _opener(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)  # not to wait for the writer of a pipe
