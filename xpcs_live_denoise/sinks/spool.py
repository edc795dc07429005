"""Results on disk while the Tiled server is away: one folder a run, one numbered file a record.

Only one process at a time has a run's folder: the session that measures it, or `deliver`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError, SpoolInUseError
from xpcs_live_denoise.records.results import (Publication, Result, RunEnd, RunInfo)

from . import spool_format

RUN, LOCK = "run.npz", "lock"
NEWS, END = "publication", "end"
# The disk is the user's home more often than not: so much of it stays free for everything else.
LEAST_FREE_BYTES = 256 * 2**20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def default_folder() -> Path:
    """Return the folder for spooled runs of this user."""
    import platformdirs

    return platformdirs.user_state_path("xpcs-live-denoise") / "spool"


class RunSpool:
    """What one run could not deliver yet. Makes its folder at the first record.

    Parameters
    ----------
    root
        Folder that holds one folder a run.
    info
        The run.
    uid, time
        Of the derived run; seconds since 1970.
    path, raw_path, access_tags
        Where it goes, as in `TiledSink`.
    """

    def __init__(
        self,
        root: Path,
        info: RunInfo,
        *,
        uid: str,
        time: float,
        path: str,
        raw_path: str | None = None,
        access_tags: Sequence[str] = (),
    ) -> None:
        # The raw run's uid comes from a document: it may hold anything.
        self.folder = root / f"{_UNSAFE.sub('_', info.uid)[:64]}-{uid}"
        self._run = {
            "info": info,
            "uid": uid,
            "time": time,
            "path": path,
            "raw_path": raw_path,
            "access_tags": tuple(access_tags),
        }
        self._lock: int | None = None
        self._next = 0
        self._end: Path | None = None

    def put(self, news: Publication) -> None:
        """Keep a publication.

        Raises
        ------
        OSError
            When the disk is full or refuses.
        SpoolInUseError
            When another process delivers the run.
        """
        self._write(NEWS, news)

    def put_end(self, facts: Publication | None, result: Result | None, end: RunEnd) -> None:
        """Keep how the run ended.

        Parameters
        ----------
        facts
            News that no Result holds; written before it.
        result
            The final result, which holds all that was `put` before; None if there is none.
        end
            The end.

        Raises
        ------
        OSError, SpoolInUseError
            As `put`.
        """
        self._end = self._write(END, {"facts": facts, "result": result, "end": end})
        if result is not None:
            for path in self.folder.glob(f"*-{NEWS}.npz"):
                path.unlink()

    def result(self) -> Result | None:
        """Return the final result that `put_end` was given.

        Raises
        ------
        InvalidInputError, OSError
            When it cannot be read any more.
        """
        if self._end is None:
            raise InvalidInputError(f"Spool {self.folder}: holds no end; expected put_end first.")
        return spool_format.read(self._end)["result"]

    def clear(self) -> None:
        """Remove everything: it is delivered."""
        if self._lock is not None:
            _remove(self.folder)
        self._next, self._end = 0, None
        self.close()

    def close(self) -> None:
        """Let others have the folder; what is in it stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, kind: str, value: Any) -> Path:
        if self._lock is None:
            root = self.folder.parent
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(self.folder)
        if not (self.folder / RUN).exists():  # a full disk may have refused it once
            spool_format.write(self.folder / RUN, self._run)
        free = shutil.disk_usage(self.folder).free
        if free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"only {free / 2**20:.0f} MiB are free", str(self.folder))
        path = self.folder / f"{self._next:07d}-{kind}.npz"
        spool_format.write(path, value)
        self._next += 1
        return path


class SpooledRun:
    """A run that a spool holds, for delivery. Use it as a context manager.

    Parameters
    ----------
    folder
        As `RunSpool` left it.

    Attributes
    ----------
    info, uid, time, path, raw_path, access_tags
        As given to RunSpool.

    Raises
    ------
    SpoolInUseError
        When another process has it.
    FileNotFoundError
        When another process has delivered it meanwhile.
    InvalidInputError
        When it is none of ours, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor = _lock(folder)
        try:
            run = spool_format.read(folder / RUN)
            self.info: RunInfo = run["info"]
            self.uid: str = run["uid"]
            self.time: float = run["time"]
            self.path: str = run["path"]
            self.raw_path: str | None = run["raw_path"]
            self.access_tags: tuple[str, ...] = run["access_tags"]
        except BaseException:
            with contextlib.suppress(OSError):
                # Delivered and removed while we came: the lock that holds the folder is ours.
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    _remove(folder)
            os.close(self._descriptor)
            raise

    def __enter__(self) -> SpooledRun:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def records(self) -> Iterator[Publication | Result | RunEnd]:
        """Yield the records in the order in which a sink wants them, one in memory at a time.

        A RunEnd comes last; there is none if the run's process died before.
        """
        for path in sorted(self.folder.glob(f"*-{NEWS}.npz")):
            yield spool_format.read(path)
        for path in sorted(self.folder.glob(f"*-{END}.npz"))[-1:]:
            stored = spool_format.read(path)
            yield from (stored[name] for name in stored if stored[name] is not None)

    def remove(self) -> None:
        """Remove the folder: the run is delivered."""
        _remove(self.folder)


def spooled_folders(root: Path) -> list[Path]:
    """Return the folders of the runs in a spool, oldest first."""
    found: list[tuple[float, str, Path]] = []
    for path in root.glob(f"*/{RUN}") if root.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # delivered by another process just now
            found.append((path.parent.stat().st_mtime, path.parent.name, path.parent))
    return [folder for _, _, folder in sorted(found)]


def _lock(folder: Path) -> int:
    """Return the open lock file of a folder, locked until it is closed or the process ends."""
    import fcntl  # not on every system; a spool is the only thing that needs it

    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it before may have removed it: that lock then protects nothing.
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolInUseError(
            f"Spool {folder}: another process has it, a session that will deliver it or a delivery "
            "under way; expected a folder that nobody has. Try again when that has ended."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path) -> None:
    # The run's record first: without it the folder is no spooled run, whatever comes next.
    (folder / RUN).unlink(missing_ok=True)
    for path in [path for path in folder.iterdir() if path.name != LOCK]:
        path.unlink()
    (folder / LOCK).unlink()
    with contextlib.suppress(OSError):  # who comes to look just now puts its lock there
        folder.rmdir()
