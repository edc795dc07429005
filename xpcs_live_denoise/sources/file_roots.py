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

    With None as `roots` every regular file may be read, wherever it is; with none, no file. A
    folder that is not there is logged.
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

        Outside the roots, or where it is no path at all, an UnreadableFramesError.
        """
        try:
            resolved = Path(os.path.realpath(path))
            # Anew each time: a root may be a symlink, and mounted later.
            roots = [os.path.realpath(root) for root in self._roots or ()]
        except (ValueError, TypeError) as error:  # a null byte, a number
            raise UnreadableFramesError(
                f"File {short_repr(path)}: no path of a file ({error})."
            ) from error
        if self._roots is None or any(resolved.is_relative_to(root) for root in roots):
            return resolved
        leads_to = "" if str(resolved) == str(path) else f" (that is {short_repr(str(resolved))})"
        raise UnreadableFramesError(
            f"File {short_repr(str(path))}{leads_to}: not below a folder that may be read, "
            f"{', '.join(roots) or 'there is none'}. Add its folder to the setting "
            "`file_roots` if documents may name files there."
        )

    def check(self, path: str | os.PathLike[str]) -> Path:
        """Return the path of a file that may be read, symlinks resolved.

        Outside the roots, and for what is no regular file, an UnreadableFramesError; another
        OSError when there is no such file (yet), or it cannot be looked at.
        """
        resolved = self.inside(path)
        if not stat.S_ISREG(os.stat(resolved).st_mode):
            raise UnreadableFramesError(
                f"File {short_repr(str(path))}: a folder, a pipe or a device cannot be read; "
                "expected a regular file. Correct the path in the detector's documents."
            )
        return resolved


@functools.cache  # several parts of a session make roots of one setting
def _tell_if_missing(root: Path) -> None:
    if not os.path.isdir(root):
        logger.warning(
            "Setting file_roots: %s is no folder on this machine; nothing will be read below it. "
            "Correct it, or mount what belongs there.",
            short_repr(str(root)),
        )
