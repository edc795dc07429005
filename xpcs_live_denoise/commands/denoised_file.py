"""The HDF5 file that `denoise-frames` writes, image by image; it is complete when it is there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import UnwritableFileError, text_of
from xpcs_live_denoise.sources import DENOISED

if TYPE_CHECKING:
    from xpcs_live_denoise.records.frame_results import DenoisedFrame

IMAGES = ("measured", "denoised", "kept", "error", "evidence")
RINGS = ("measured", "measured_error", "denoised", "denoised_error", "pull")


class DenoisedFile:
    """Takes denoised images in order; a context, at whose end the file gets its name.

    `/entry/denoised/data` (n, rows, cols) is what viewers open; beside it `measured`, `kept`,
    `error`, `evidence` (n, blocks, blocks), and in `/entry/rings` I(q) of both.
    """

    def __init__(self, path: Path, attributes: dict[str, Any]) -> None:
        import h5py

        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._file: Any = h5py.File(self._part, "w")
        except OSError as error:
            raise self._unwritable(error) from error
        entry = self._file.create_group("entry")
        self._file.attrs.update({"default": "entry", DENOISED: True})
        entry.attrs.update({"NX_class": "NXentry", "default": "denoised"})
        for name in ("denoised", "rings"):
            entry.create_group(name).attrs["NX_class"] = "NXdata"
        entry["denoised"].attrs["signal"] = "data"
        entry["rings"].attrs["signal"] = "denoised"
        entry.attrs.update({key: json.dumps(value) for key, value in attributes.items()})
        self._entry = entry
        self.n_images = 0

    def __enter__(self) -> DenoisedFile:
        """Begin to write."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the file its name, or take it away."""
        try:
            self._file.close()
            if error is None:
                os.replace(self._part, self._path)
        except (OSError, RuntimeError) as why:
            raise self._unwritable(why) from why
        finally:
            self._part.unlink(missing_ok=True)

    def write(self, image: DenoisedFrame, q_inv_angstrom: Any = None) -> None:
        """Append an image; `q_inv_angstrom` (n_ring,) where it is known."""
        try:
            for name in IMAGES:
                value = getattr(image, name)
                if value is not None:
                    self._append("denoised", "data" if name == "denoised" else name, value)
            if image.rings is not None:
                for name in ("radius_px", "n_pixels"):
                    self._once(name, getattr(image.rings, name))
                if q_inv_angstrom is not None:
                    self._once("q_inv_angstrom", q_inv_angstrom)
                for name in RINGS:
                    self._append("rings", name, getattr(image.rings, name))
        except (OSError, RuntimeError) as error:
            raise self._unwritable(error) from error
        self.n_images += 1

    def _once(self, name: str, values: Any) -> None:
        if name not in self._entry["rings"]:
            self._entry["rings"][name] = values

    def _append(self, group: str, name: str, value: Any) -> None:
        value = np.asarray(value)
        if value.dtype == np.bool_:
            value = value.astype(np.uint8)
        elif value.dtype == np.float64:
            value = value.astype(np.float32)
        where = self._entry[group]
        if name not in where:
            where.create_dataset(
                name,
                shape=(0, *value.shape),
                maxshape=(None, *value.shape),
                chunks=(1, *value.shape),
                dtype=value.dtype,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fillvalue=np.nan if value.dtype.kind == "f" else None,
            )
        dataset = where[name]
        dataset.resize(self.n_images + 1, axis=0)
        dataset[self.n_images] = value

    def _unwritable(self, error: BaseException) -> UnwritableFileError:
        return UnwritableFileError(
            f"Output {self._path}: cannot be written ({text_of(error)}). Check that the disk has "
            "room and that you may write there."
        )
