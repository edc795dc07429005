"""A result as a file: which formats there are, and how a file gets its name only when complete."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.errors import (
    InvalidInputError,
    UnwritableFileError,
    XpcsError,
    text_of,
)
from xpcs_live_denoise.records.results import GAMMA_COLUMNS

from .contents import Contents
from .nexus import PARTS, write_nexus
from .run_names import scan_id_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .client import XPCSResult

# format -> what it is called: endings of files and media types.
FORMATS = {
    "h5": ("h5", "hdf5", "hdf", "nxs", "application/x-hdf5", "application/x-hdf"),
    "csv": ("csv", "text/csv"),
    "png": ("png", "image/png"),
}


def file_name(result: XPCSResult) -> str:
    """Return the name of a result's file, without its ending: no two runs share one."""
    start = result.start
    words = (scan_id_of(start), start["original_run_uid"][:8], result.xpcs["detector"])
    name = "_".join(str(word) for word in words if word not in (None, ""))
    return "".join(
        letter if (letter.isascii() and letter.isalnum()) or letter in "_-." else "-"
        for letter in name
    )


def format_of(target: Any, format: str | None) -> str | None:  # noqa: A002 - Tiled's name
    """Return the key in FORMATS of what is asked for, by name or the file's ending; None if none.

    `target` is a path, or an object that is written to.
    """
    asked = format
    if asked is None:
        asked = Path(target).suffix if isinstance(target, str | os.PathLike) else ""
    asked = asked.removeprefix(".").lower()
    return next((name for name, words in FORMATS.items() if asked in words), None)


def export_file(
    target: Any,
    contents: Callable[[], Contents],
    figure: Callable[[], Figure],
    *,
    kind: str,
    fields: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a result as `kind`, a key of FORMATS, to a path or into an object with `write`.

    A path is there when the file is complete, and not before. `contents` and `figure` make what is
    written; `fields` are parts of an HDF5 file, columns of a CSV.

    Raises
    ------
    InvalidInputError
        For a file that is there already, a folder that is not, and unknown `fields`.
    UnwritableFileError
        When the file cannot be written, on a full disk for example. There is none then.
    """
    fields = _checked(fields, kind)
    if not isinstance(target, str | os.PathLike):
        whole = io.BytesIO()
        _write(whole, contents, figure, kind, fields)
        target.write(whole.getvalue())
        return
    with written_whole(Path(target), overwrite=overwrite) as part:
        _write(part, contents, figure, kind, fields)


def _write(
    target: Any,
    contents: Callable[[], Contents],
    figure: Callable[[], Figure],
    kind: str,
    fields: Sequence[str],
) -> None:
    if kind == "h5" and isinstance(target, Path):
        with target.open("w+b", buffering=0) as opened:
            file = KeptGoing(opened)
            write_nexus(file, contents(), fields)
            file.check()
    elif kind == "h5":
        write_nexus(target, contents(), fields)
    elif kind == "csv":
        table = contents().gamma
        table = table.loc[table["recommended"], list(fields)]
        table.to_csv(target, index=False)
    else:
        figure().savefig(target, format="png")


class KeptGoing(io.RawIOBase):
    """A file that takes everything, also when the disk is full; `check` raises what went wrong.

    HDF5 does not recover from a write that fails: each object that is left then fails once more,
    where nobody can catch it.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first OSError that there was."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any, /) -> int:
        """Write all, unless it failed before."""
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        while len(rest) and self._error is None:
            rest = rest[self._tried(lambda left=rest: self._file.write(left)) :]
        return n_bytes

    def readinto(self, buffer: Any, /) -> int:
        """Read what was written; nothing, where that failed."""
        return self._tried(lambda: self._file.readinto(buffer))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place in the file."""
        return self._tried(lambda: self._file.seek(offset, whence))

    def truncate(self, size: int | None = None, /) -> int:
        """Give the file its length."""
        return self._tried(lambda: self._file.truncate(size))

    def flush(self) -> None:
        """Nothing waits."""

    def _tried(self, call: Callable[[], int | None]) -> int:
        """Return what a call returns; 0 after the first that failed."""
        if self._error is None:
            try:
                return call() or 0
            except OSError as error:
                self._error = error
        return 0


@contextlib.contextmanager
def written_whole(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give the name of a file to write in the place of `path`, and this name when it is complete.

    Raises as `export`.
    """
    if path.is_dir():
        raise InvalidInputError(f"File {path}: is a folder; expected the name of a file in it.")
    if path.exists() and not overwrite:
        raise InvalidInputError(
            f"File {path}: is there already, and is not replaced unasked. Choose another name, or "
            "say overwrite=True (--overwrite on the command line)."
        )
    if not path.parent.is_dir():
        raise InvalidInputError(
            f"File {path}: its folder does not exist; expected one that does. Create it."
        )
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, RuntimeError) as error:  # h5py says "RuntimeError" of a disk that is full
        if isinstance(error, XpcsError | ConnectionError | TimeoutError):  # of Tiled
            raise
        raise UnwritableFileError(
            f"File {path}: could not be written ({text_of(error, 300)}); there is none, or the one "
            "of before. Make room on the disk, or choose a folder that you may write to."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _checked(fields: Sequence[str] | None, kind: str) -> Sequence[str]:
    """Return the fields that are meant; raises InvalidInputError for those that are none."""
    known = {"h5": PARTS, "csv": GAMMA_COLUMNS, "png": ()}[kind]
    if fields is None:
        return known
    wanted = [fields] if isinstance(fields, str) else list(fields)
    if unknown := [name for name in wanted if name not in known]:
        raise InvalidInputError(
            f"fields: got {unknown}; expected some of {list(known)} for the format {kind!r}."
        )
    return wanted
