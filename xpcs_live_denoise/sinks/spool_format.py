"""Records on disk and back, bit for bit: an .npz of their arrays with a JSON text of the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import (Band, C2Rows, DenoisedTwoTime, GammaTable, Geometry, OneTime, Picture, Publication, Result, RunEnd, RunInfo, Status)

TEXT = "json"
# What a mapping with one of these keys stands for; a user's mapping that has such a key is a PAIRS.
ARRAY, SCALAR, TUPLE, PAIRS, RECORD = "$array", "$scalar", "$tuple", "$pairs", "$record"
_RECORDS: dict[str, Any] = {
    record.__name__: record
    for record in (
        Band,
        C2Rows,
        DenoisedTwoTime,
        GammaTable,
        Geometry,
        OneTime,
        Picture,
        Publication,
        Result,
        RunEnd,
        RunInfo,
        Status,
    )
}


def write(path: Path, value: Any) -> None:
    """Write records, arrays and what JSON knows; the file is there complete or not at all.

    Parameters
    ----------
    path
        The file, readable by its owner only; one that is there is replaced.
    value
        Of what JSON has no word for, documents' exotic values, the text is kept.

    Raises
    ------
    OSError
        When the disk is full or refuses.
    """
    arrays: dict[str, NDArray[Any]] = {}
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


def read(path: Path) -> Any:
    """Return what `write` was given.

    Raises
    ------
    InvalidInputError
        When the file is damaged or not one of ours.
    OSError
        When it cannot be read.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return _decode(json.loads(arrays[TEXT].tobytes()), arrays)
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


def _encode(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
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


def _encode_array(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    array = np.asarray(value)
    if array.dtype.hasobject:  # numpy would have to pickle it
        return _encode(array.tolist(), arrays)
    name = f"a{len(arrays)}"
    arrays[name] = array
    return {ARRAY if isinstance(value, np.ndarray) else SCALAR: name}


def _decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
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
        return _RECORDS[coded[RECORD]](**_decode(coded["fields"], arrays))
    decoded = {key: _decode(item, arrays) for key, item in coded.items()}
    if code == TUPLE:
        return tuple(decoded[TUPLE])
    return dict(decoded[PAIRS]) if code == PAIRS else decoded
