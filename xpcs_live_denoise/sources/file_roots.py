"""Which files may be opened because a document named them."""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr

logger = logging.getLogger(__name__)


class FileRoots:
    """Folders below which files that documents name may be read.

    Whoever can write below the roots can still exchange a file between the check and its opening;
    who cannot, gets nothing read that lies elsewhere.

    Parameters
    ----------
    roots
        The folders. None: every regular file, wherever it is. One that is not there is logged.
    """

    def __init__(self, roots: Iterable[str | os.PathLike[str]] | None) -> None:
        self._roots = None if roots is None else tuple(Path(root).expanduser() for root in roots)
        for root in self._roots or ():
            _tell_if_missing(root)

    @property
    def restricted(self) -> bool:
        """Whether there are roots at all."""
        return self._roots is not None

    def inside(self, path: str | os.PathLike[str]) -> Path:
        """Return where a path leads, symlinks resolved; it need not exist, nor be a file.

        Raises
        ------
        UnreadableFramesError
            When that is not below one of the roots, or is no path at all.
        """
        try:
            resolved = Path(os.path.realpath(path))
            roots = (
                None if self._roots is None else [Path(os.path.realpath(r)) for r in self._roots]
            )
        except (ValueError, TypeError) as error:  # a null byte, a number
            raise UnreadableFramesError(
                f"File {short_repr(path)}: no path of a file ({error})."
            ) from error
        if roots is None or any(resolved.is_relative_to(root) for root in roots):
            return resolved
        leads_to = "" if str(resolved) == str(path) else f" (that is {short_repr(str(resolved))})"
        raise UnreadableFramesError(
            f"File {short_repr(str(path))}{leads_to}: not below a folder that may be read, "
            f"{', '.join(map(str, roots)) or 'there is none'}. Add its folder to the setting "
            "`file_roots` if documents may name files there."
        )

    def check(self, path: str | os.PathLike[str]) -> Path:
        """Return the path of a file that may be read, symlinks resolved.

        Raises
        ------
        UnreadableFramesError
            When it is not below one of the roots, or no regular file.
        FileNotFoundError, PermissionError, OSError
            When there is no such file (yet), or it cannot be looked at.
        """
        resolved = self.inside(path)
        if not stat.S_ISREG(os.stat(resolved).st_mode):
            raise UnreadableFramesError(
                f"File {short_repr(str(path))}: a folder, a pipe or a device cannot be read; "
                "expected a regular file. Correct the path in the detector's documents."
            )
        return resolved


@functools.cache  # every run makes roots of its own
def _tell_if_missing(root: Path) -> None:
    if not os.path.isdir(root):
        logger.warning(
            "Setting file_roots: %s is no folder on this machine; nothing will be read below it. "
            "Correct it, or mount what belongs there.",
            short_repr(str(root)),
        )
