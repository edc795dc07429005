"""Where the pixels of an HDF5 dataset really are: links, virtual datasets and raw storage."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr
from xpcs_live_denoise.sources.file_roots import FileRoots

# Links that follow one another, within a file and from file to file.
MOST_LINKS = 16


def open_hdf5(path: Path, *, swmr: bool) -> h5py.File:
    """Open a file for reading, also one that this process has open for writing.

    Within a process, HDF5 refuses a second opening whose locking differs from the first one's, so
    the ways of locking are tried in turn. A lock that another process holds is no such refusal: it
    says that the file is not ready.
    """
    try:
        return h5py.File(path, "r", swmr=swmr)
    except OSError as error:
        refusal = error
    for locking in (False, True):
        if "locking" not in str(refusal):
            break
        try:
            return h5py.File(path, "r", swmr=swmr, locking=locking)
        except OSError as error:
            refusal = error
    raise refusal


def require_own_data(
    file: h5py.File, name: str, roots: FileRoots, *, n_left: int = MOST_LINKS
) -> None:
    """Make sure that reading a dataset opens only files that documents may name.

    External links and the sources of a virtual dataset must be regular files below the roots, all
    the way; raw storage outside of HDF5 is refused always. A dataset that does not exist (yet)
    passes.

    Parameters
    ----------
    file
        The open file.
    name
        Path of the dataset in it.
    roots
        Where files may be.
    n_left
        Links that may still follow.

    Raises
    ------
    UnreadableFramesError
        When the dataset's pixels are elsewhere.
    FileNotFoundError
        When a file that it refers to is not there (yet): HDF5 would read zeros.
    """
    if n_left <= 0:
        raise UnreadableFramesError(
            f"{file.filename}, {short_repr(name)}: got more than {MOST_LINKS} links, one behind "
            "the other; expected the dataset"
        )
    for there, target in _linked(file, name):
        _follow(file, there, target, roots, n_left)
        return  # the rest of the name was followed in there
    node = _get(file, name)
    if isinstance(node, h5py.Dataset):
        _require_sources(file, node, roots, n_left)


def require_own_file(file: h5py.File, roots: FileRoots) -> None:
    """As `require_own_data`, for every dataset of a file of which somebody else reads any."""
    names: list[str] = []
    file.visit_links(lambda name: names.append(_text(name)) if len(names) < 100_000 else True)
    for name in names:
        require_own_data(file, name, roots)


def _linked(file: h5py.File, name: str) -> Iterator[tuple[str, str]]:
    """Yield (file, path in it) of the first external link on the way to a dataset."""
    todo = [part for part in name.split("/") if part]
    here = "/"
    n_left = MOST_LINKS
    while todo:
        step = posixpath.join(here, todo.pop(0))
        try:
            link = file.get(step, getlink=True)
        except (KeyError, ValueError, RuntimeError, TypeError):  # not there (yet), or nobody's kind
            return
        if isinstance(link, h5py.ExternalLink):
            yield link.filename, posixpath.join(link.path, *todo)
            return
        if isinstance(link, h5py.SoftLink):
            n_left -= 1
            if n_left <= 0:
                raise UnreadableFramesError(f"{file.filename}, {short_repr(name)}: links in a ring")
            target = posixpath.join(here, link.path)
            todo, here = [part for part in target.split("/") if part] + todo, "/"
        else:
            here = step


def _require_sources(file: h5py.File, node: h5py.Dataset, roots: FileRoots, n_left: int) -> None:
    """Check what a dataset is made of."""
    subject = f"{file.filename}, {short_repr(node.name)}"
    if node.external:
        raise UnreadableFramesError(
            f"{subject}: its pixels are raw bytes in {short_repr(node.external[0][0])}; expected "
            "them in an HDF5 file. Let the detector write HDF5 without external storage"
        )
    if not node.is_virtual:
        return
    sources = {(source.file_name, source.dset_name) for source in node.virtual_sources()}
    if len(sources) > 1 and n_left < MOST_LINKS - 4:
        raise UnreadableFramesError(f"{subject}: virtual datasets of virtual datasets, too deep")
    for there, dataset in sources:
        if there == ".":
            require_own_data(file, dataset, roots, n_left=n_left - 1)
            continue
        if "%" in there:
            raise UnreadableFramesError(
                f"{subject}: a virtual dataset whose files are a pattern, {short_repr(there)}; "
                "expected files by their names"
            )
        _follow(file, there, dataset, roots, n_left)


def _follow(file: h5py.File, there: str, name: str, roots: FileRoots, n_left: int) -> None:
    """Check a file that another one names (relative to that one, as HDF5 does) and what is in it.

    Without roots every regular file may be read, whatever it refers to.
    """
    path = roots.check(os.path.join(os.path.dirname(os.path.realpath(file.filename)), there))
    if not roots.restricted:
        return
    try:
        linked = open_hdf5(path, swmr=False)
    except OSError:  # its writer has it open in SWMR mode
        linked = open_hdf5(path, swmr=True)
    with linked:
        require_own_data(linked, name, roots, n_left=n_left - 1)


def _get(file: h5py.File, name: str) -> Any:
    try:
        return file.get(name)
    except (KeyError, ValueError, RuntimeError, OSError):
        return None


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
