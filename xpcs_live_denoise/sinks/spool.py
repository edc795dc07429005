"""Results on disk while the Tiled server is away: one folder a run, one numbered file a record.

Only one process at a time has a run's folder: the session that measures it, or `deliver`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, SpoolInUseError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import (
    BandRows,
    C2Rows,
    DenoisedTwoTime,
    GammaTable,
    Intensity,
    OneTime,
    Picture,
    Publication,
    Result,
    Saxs,
)
from xpcs_live_denoise.records.run import RoiHeterogeneity, RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Array

RUN, LOCK = "run.npz", "lock"
PUBLICATION, END = "publication", "end"
# The disk is the user's home more often than not: so much of it stays free for everything else.
LEAST_FREE_BYTES = 256 * 2**20
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def default_folder() -> Path:
    """Return the folder for spooled runs of this user."""
    import platformdirs

    return platformdirs.user_state_path("xpcs-live-denoise") / "spool"


class Spool:
    """The results of one run on disk, for its session and for whoever delivers them later.

    Makes its folder in `root` at the first record; `Spool.open` takes one that was left. `uid` and
    `time` (s since 1970) are those of the derived run; the rest is where it goes, as in TiledSink.
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
        self.info = info
        self.uid = uid
        self.time = time
        self.path = path
        self.raw_path = raw_path
        self.access_tags = tuple(access_tags)
        self._lock: int | None = None
        self._next = 0

    @classmethod
    def open(cls, folder: Path) -> Spool:
        """Take the folder that a session left.

        Raises SpoolInUseError when another process has it, FileNotFoundError when one has delivered
        it meanwhile, InvalidInputError when it is none of ours, or damaged.
        """
        lock = _lock(folder)
        try:
            spool = cls(folder.parent, **read_record(folder / RUN))
        except BaseException:
            with contextlib.suppress(OSError):
                # Delivered and removed while we came: the lock that holds the folder is ours.
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    _remove(folder)
            os.close(lock)
            raise
        spool.folder, spool._lock = folder, lock
        return spool

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, publication: Publication) -> Path:
        """Keep a publication; return its file, for `read_record`.

        Raises OSError when the disk is full or refuses, SpoolInUseError when another process
        delivers the run.
        """
        return self._write(PUBLICATION, publication)

    def put_end(self, result: Result | None, end: RunEnd) -> Path:
        """Keep how the run ended, in the place of all that was `put` if there is a final result.

        Of that, only rows of the band count that the result does not hold. Returns the file; raises
        as `put`.
        """
        path = self._write(END, {"result": result, "end": end})
        if result is not None and not result.band.start:
            for old in self.folder.glob(f"*-{PUBLICATION}.npz"):
                old.unlink()
        return path

    def records(self) -> Iterator[Publication | Result | RunEnd]:
        """Yield the records in the order in which a sink wants them, one in memory at a time.

        A RunEnd comes last; there is none if the run's process died before.
        """
        ends = sorted(self.folder.glob(f"*-{END}.npz"))[-1:]
        rows_before = first_row_of_result(ends[0]) if ends else None
        for path in sorted(self.folder.glob(f"*-{PUBLICATION}.npz")):
            publication: Publication = read_record(path)
            if rows_before is not None:
                publication = publication.rows_before(rows_before)
                if publication.band is None:
                    continue
            yield publication
        for path in ends:
            stored = read_record(path)
            # "facts" was written before a result by versions before 2.
            for name in ("facts", "result", "end"):
                if stored.get(name) is not None:
                    yield stored[name]

    def clear(self) -> None:
        """Remove everything: it is delivered. The next record begins anew."""
        if self._lock is not None:
            _remove(self.folder)
        self._next = 0
        self.close()

    def close(self) -> None:
        """Let others have the folder; what is in it stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, kind: str, value: object) -> Path:
        if self._lock is None:
            root = self.folder.parent
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(self.folder)
        if not (self.folder / RUN).exists():  # a full disk may have refused it once
            names = ("info", "uid", "time", "path", "raw_path", "access_tags")
            write_record(self.folder / RUN, {name: getattr(self, name) for name in names})
        free = shutil.disk_usage(self.folder).free
        if free < LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, f"only {free / 2**20:.0f} MiB are free", str(self.folder))
        path = self.folder / f"{self._next:07d}-{kind}.npz"
        write_record(path, value)
        self._next += 1
        return path


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


TEXT = "json"
# What a mapping with one of these keys stands for; a user's mapping that has such a key is a PAIRS.
ARRAY, SCALAR, TUPLE, PAIRS, RECORD = "$array", "$scalar", "$tuple", "$pairs", "$record"
_RECORDS: dict[str, Any] = {
    record.__name__: record
    for record in (
        BandRows,
        C2Rows,
        DenoisedTwoTime,
        GammaTable,
        Geometry,
        Intensity,
        OneTime,
        Picture,
        Publication,
        Result,
        RoiHeterogeneity,
        RunEnd,
        RunInfo,
        Saxs,
        Status,
    )
}


def write_record(path: Path, value: Any) -> None:
    """Write records, arrays and what JSON knows; the file is there complete or not at all.

    Only its owner can read it. Of what JSON has no word for, exotic values in documents, the text
    is kept.
    """
    arrays: dict[str, Array] = {}
    text = json.dumps(_encode(value, arrays))
    arrays[TEXT] = np.frombuffer(text.encode(), np.uint8)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            np.savez(file, **cast("dict[str, Any]", arrays))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def read_record(path: Path) -> Any:
    """Return what `write_record` was given; InvalidInputError if the file is damaged."""
    with _stored_arrays(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
        return _decode(json.loads(arrays[TEXT].tobytes()), arrays)


def first_row_of_result(path: Path) -> int | None:
    """Return the first row of the band that the final result in a file holds; None without one.

    Raises as `read_record`.
    """
    with _stored_arrays(path) as stored:
        coded: Any = json.loads(stored[TEXT].tobytes())
        result = coded.get("result")
        band = None if result is None else result["fields"].get("band")
        return None if band is None else band["fields"]["start"]


@contextlib.contextmanager
def _stored_arrays(path: Path) -> Generator[Any]:
    """Open a file of `write_record`; InvalidInputError for what fails with it."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"Spooled record {path}: cannot be read ({type(error).__name__}: {error}). Expected a "
            "file that the spool wrote; compute the run again with xpcs-live-denoise replay UID "
            "--config xpcs.yml, and remove its folder."
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _encode_array(cast(Any, value), arrays)
    if isinstance(value, list | tuple):
        items = [_encode(item, arrays) for item in cast("Sequence[Any]", value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        pairs = list(cast("Mapping[Any, Any]", value).items())
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return {key: _encode(item, arrays) for key, item in pairs}
        return {PAIRS: _encode([list(pair) for pair in pairs], arrays)}
    if type(value).__name__ in _RECORDS and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: _encode(getattr(value, name), arrays) for name in names}
        return {RECORD: type(value).__name__, "fields": fields}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _encode_array(value: Any, arrays: dict[str, Array]) -> Any:
    array = np.asarray(value)
    if array.dtype.hasobject:  # numpy would have to pickle it
        return _encode(array.tolist(), arrays)
    name = f"a{len(arrays)}"
    arrays[name] = array
    return {ARRAY if isinstance(value, np.ndarray) else SCALAR: name}


def _decode(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    coded = cast("dict[str, Any]", value)
    code = next(iter(coded), "")
    if code in (ARRAY, SCALAR):
        stored = arrays[coded[code]]
        return stored if code == ARRAY else stored[()]
    if code == RECORD:
        return _decode_record(coded, arrays)
    decoded = {key: _decode(item, arrays) for key, item in coded.items()}
    if code == TUPLE:
        return tuple(decoded[TUPLE])
    return dict(decoded[PAIRS]) if code == PAIRS else decoded


WINDOW_BEFORE = 50  # of versions that knew no band


def _decode_record(coded: dict[str, Any], arrays: Mapping[str, Array]) -> Any:
    if coded[RECORD] == "Band":  # a provisional square, of before the band
        return None
    record = _RECORDS[coded[RECORD]]
    fields = _as_of_now(record, _decode(coded["fields"], arrays))
    # An earlier version may have known a field more.
    return record(**{name: fields[name] for name in record.__slots__ if name in fields})


def _as_of_now(record: type, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that an earlier version may have written, as they are now."""
    if record is GammaTable:
        fields.setdefault("caution", np.full(len(fields["roi"]), ""))
        fields.setdefault("phi_deg", np.full(len(fields["roi"]), np.nan))
    elif record is Publication:
        fields.setdefault("band", None)
    elif record is DenoisedTwoTime and "reached" not in fields:
        fields["reached"] = np.isfinite(fields["spread"])
    elif record is Result and "c2" in fields:
        from xpcs_live_denoise.numerics.two_time import band_of_c2

        c2, made = fields["c2"], fields["denoised"]
        squares = {"c2": c2}
        if made is not None:
            squares |= {"denoised": made.c2.swapaxes(1, 2), "spread": made.spread.swapaxes(1, 2)}
        n = c2.shape[1]
        bands = {name: band_of_c2(values, 0, n, WINDOW_BEFORE) for name, values in squares.items()}
        fields |= {"map_values": c2, "band": BandRows(start=0, stop=n, **bands)}
    return fields
