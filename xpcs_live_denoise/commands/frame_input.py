"""What commands for images of few counts read: sums of frames, the direct beam, good pixels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError, ResultNotFoundError

from .recompute import raw_path_of

if TYPE_CHECKING:
    from xpcs_live_denoise.numerics.mean_image import MeanImage
    from xpcs_live_denoise.records.types import Array, BoolArray
    from xpcs_live_denoise.sources import StoredSeries

_BLOCK_BYTES = 2**26


def typed_center(text: str) -> tuple[float, float]:
    """Return row and column of the direct beam, as typed behind --center."""
    try:
        row, col = map(float, text.split(","))
    except ValueError:
        row = col = math.nan
    if not math.isfinite(row + col):
        raise InvalidInputError(
            f"--center: got {text!r}; expected ROW,COL in pixels, such as 1050,1120."
        )
    return row, col


def beam_of(series: StoredSeries, center: str | None) -> tuple[float, float] | None:
    """Return the direct beam that was typed, or that files tell."""
    return series.contents.geometry.beam_center if center is None else typed_center(center)


def good_pixels(series: StoredSeries, mask: Path | None = None) -> BoolArray:
    """Return which pixels are good, as the files and the mask say."""
    import numpy as np

    from xpcs_live_denoise.sources import load_mask

    bad = series.contents.bad_pixels
    good = np.ones(series.frame_shape, np.bool_)
    if bad is not None and bad.shape == good.shape:
        good &= ~bad
    if mask is not None:
        keep = load_mask(mask)
        if keep.shape != good.shape:
            raise FrameShapeError(
                f"Mask {mask}: got shape {keep.shape}, the images have {good.shape} (rows, cols). "
                "Use the mask of this detector and readout mode."
            )
        good &= keep
    return good


def summed(
    series: StoredSeries, sizes: Iterable[int], *, gaps_count: bool
) -> Iterator[tuple[MeanImage, Array]]:
    """Yield sums over consecutive frames, and the last frame of each, a block of them in memory.

    Each sum is of the next of `sizes` frames; the last one may be of fewer. `gaps_count`: missing
    frames count among them.
    """
    from xpcs_live_denoise.numerics.mean_image import MeanImage
    from xpcs_live_denoise.records.frames import MissingFrames

    of, last = MeanImage(series.frame_shape), None
    number, n, more = iter(sizes), 0, 0
    for block in series.frames(_BLOCK_BYTES):
        if isinstance(block, MissingFrames):
            n += block.n_frames if gaps_count and of.n_frames else 0
            continue
        first = 0
        while first < len(block):
            if last is not None and n >= more:
                yield of, last
                of, last, n = MeanImage(series.frame_shape), None, 0
            more = next(number) if last is None else more
            part = block[first : first + more - n]
            of.add(part)
            last, first, n = part[-1], first + len(part), n + len(part)
    if last is not None:
        yield of, last


@contextlib.contextmanager
def series_in_tiled(config: Path, runs: Sequence[str]) -> Iterator[StoredSeries]:
    """Open the frames of the one raw run that a word names, as the settings find it in Tiled."""
    from xpcs_live_denoise.catalog import connect, raw_container, run_node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.readers import find_raw_run
    from xpcs_live_denoise.sources import open_series

    if len(runs) != 1:
        raise InvalidInputError(
            f"--config: got {len(runs)} runs; expected one, whose frames learn from each other."
        )
    settings = Settings.load(config)
    raw_path, stream = raw_path_of(settings), settings.stream or "primary"
    client = connect(settings.tiled)
    try:
        uid, _ = find_raw_run(client, runs[0], raw_path=raw_path, path=settings.tiled.path)
        run = run_node(raw_container(client, raw_path), uid)
        try:
            array = run[stream][settings.data_key]
        except KeyError:
            raise ResultNotFoundError(
                f"Run {uid}: no array {stream}/{settings.data_key} in Tiled; expected frames "
                "there. Set `detector`, `image_key` or `stream`, or give the files of the run."
            ) from None
        yield open_series(array)
    finally:
        client.context.close()
