"""The live analysis of what is there already: analyse() frames, analyse_c2() a C2."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.analysis import (
    Analysis,
    C2Analysis,
    DetectorImage,
    append_note,
    open_ensemble,
)
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import check_frame_time
from xpcs_live_denoise.records.frames import Geometry, MissingFrames, RoiPixels
from xpcs_live_denoise.records.results import Result
from xpcs_live_denoise.sinks import BandFile
from xpcs_live_denoise.sources import (
    RoiSelection,
    ThresholdChoice,
    is_sparse,
    open_flat_field,
    open_rois,
    pixel_mask_of,
    select_frames,
)

from .config import Settings
from .errors import FrameShapeError, InvalidInputError
from .numerics.rois import RoiMap
from .numerics.windows import Denoiser


def analyse(
    frames: Any,
    settings: Settings,
    *,
    rois: RoiMap | None = None,
    ensemble: Denoiser | None = None,
    band_file: str | os.PathLike[str] | None = None,
) -> Result:
    """Compute C2, denoised C2, g2 and Gamma(t) of a whole series, as the live analysis does.

    Parameters
    ----------
    frames
        Shape (n, rows, cols): an array, a list of frames, or anything with `shape`, `dtype` and
        slices along its first axis, such as an HDF5 dataset, which is read in blocks of
        `settings.block_bytes`. Pixels that `pixel_mask` of a dataset's Eiger file marks are left
        out. Of (n, thresholds, rows, cols) the setting `threshold` chooses, where there are
        several. Of frames that an Eiger compressed only what the ROIs need is decompressed, and a
        damaged chunk is a gap. A sparse array (of sparse or scipy; also (n, rows * cols)) never
        becomes dense frames. Or an iterable of blocks (k, rows, cols), a generator for instance,
        of any total length: memory does not grow with it. A block of another shape is a gap of as
        many frames.
    settings
        As for LiveDenoise. `frame_time_s` and `geometry` come from here alone; without a frame
        time rates are per frame, and their rows have the caution "per_frame".
    rois
        The ROI map, instead of the file that `settings.rois` names.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.
    band_file
        An HDF5 file for all rows of the band of C2: datasets `c2`, `denoised` and `spread`, (roi,
        t, lag) as in `Result.band`, which holds the last rows of a series only that has more than
        `settings.map_frames` frames. It is written meanwhile and gets its name at the end.

    Returns
    -------
    Result
        `.map`, `.c2`, `.band`, `.denoised` (None where nothing was denoised, and of a series of
        more than `map_frames` frames), `.gamma`, `.g2`, `.status`, and `.picture`, the mean frame.

    Raises
    ------
    InvalidInputError
        Without ROIs, or for files that cannot be used.
    FrameShapeError
        For frames that do not fit the ROIs.
    """
    series = Series(frames, settings.block_bytes, settings.threshold)
    geometry = Geometry(**settings.geometry.model_dump())
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    opened, flat_field, note = open_flat_field(settings, open_rois(settings, rois))
    image, marked = DetectorImage(opened.with_q(geometry), settings.orientation), ()
    if (bad := pixel_mask_of(frames, settings.threshold or 1)) is not None:
        marked = image.leave_out(bad)
    with _band_file(band_file, image.rois, settings) as writer:
        analysis = Analysis(
            settings,
            image.rois,
            frame_time_s=1.0,  # of what is per frame, until the end
            n_frames=series.n_frames,
            ensemble=ensemble,
            flat_field=flat_field,
            is_published=False,
            band_writer=writer,
        )
        with contextlib.closing(series.read(RoiSelection(image.rois))) as pieces:
            for piece in pieces:
                if isinstance(piece, MissingFrames):
                    analysis.push_gap(piece.n_frames)
                    continue
                analysis.push_pixels(piece.pixels)
                if piece.whole is not None:
                    image.add(piece.whole)
        if not analysis.n_taken:
            raise FrameShapeError(f"Series: got no frame; {EXPECTED}.")
        result = analysis.finish().with_frame_time(settings.frame_time_s)
        if writer is not None:
            writer.close({"contrast": result.status.contrast, "baseline": result.status.baseline})
    notes = (why_not, note, *marked, *series.notes, "" if writer is None else writer.problem)
    return dataclasses.replace(
        result,
        status=append_note(result.status, *notes),
        picture=image.image(negative_is_data=analysis.negative_is_data),
    )


@contextlib.contextmanager
def _band_file(
    path: str | os.PathLike[str] | None, rois: RoiMap, settings: Settings
) -> Iterator[BandFile | None]:
    """Open a file for the band; what was not closed is removed."""
    if path is None:
        yield None
        return
    file = BandFile(
        path,
        roi=rois.labels,
        q_inv_angstrom=rois.q_inv_angstrom,
        frame_time_s=settings.frame_time_s or np.nan,
        window=settings.window,
        step=settings.step,
    )
    try:
        yield file
    finally:
        file.discard()


EXPECTED = "expected (n, rows, cols) with n > 0, or an iterable of blocks (k, rows, cols)"
MOST_NOTES = 5  # blocks that are named


class Series:
    """Frames that are there, or that an iterable brings, in blocks (k, rows, cols) of bounded size.

    `n_frames` is their number where it is known. Its state is what was said of blocks that could
    not be used. Raises FrameShapeError for what is no series.
    """

    def __init__(self, frames: Any, block_bytes: int, threshold: int | None = None) -> None:
        self.n_frames: int | None = None
        self._block_bytes, self._threshold = block_bytes, ThresholdChoice(threshold)
        self._notes: list[str] = []
        self._n_left_out = 0
        if _is_list_of_frames(frames):
            frames = np.asarray(frames)
        self._frames = frames
        if (shape := getattr(frames, "shape", None)) is not None:
            if not (len(shape) in {3, 4} or is_sparse(frames)) or not shape[0]:
                raise FrameShapeError(f"Series: got shape {tuple(shape)}; {EXPECTED}.")
            self.n_frames = shape[0]
        elif not isinstance(frames, Iterable) or isinstance(frames, str | bytes | Mapping):
            raise FrameShapeError(f"Series: got {type(frames).__name__}; {EXPECTED}.")

    def read(self, selection: RoiSelection) -> Generator[RoiPixels | MissingFrames, None, None]:
        """Yield the ROI pixels of all frames, and what cannot be had in its place."""
        parts: Iterable[Any] = self._frames if self.n_frames is None else [self._frames]
        n_read = 0
        for number, part in enumerate(parts, 1):
            block: Any = part if hasattr(part, "shape") else np.asarray(part)
            if len(block.shape) < 3 and not is_sparse(block):  # a frame, or nothing that is known
                block = np.asarray(block)[np.newaxis]
            try:
                place = self._threshold.place(tuple(block.shape), "Series", required=True)
                for piece in select_frames(block, self._block_bytes, selection, place):
                    if isinstance(piece, MissingFrames):
                        self._leave_out(piece.reason)
                    else:
                        n_read += len(piece)
                    yield piece
            except FrameShapeError as error:
                if not n_read:
                    raise
                n = block.shape[0]
                reason = f"Block {number} is a gap of {n}: {error}"
                self._leave_out(reason)
                yield MissingFrames(n_frames=n, reason=reason)

    @property
    def notes(self) -> list[str]:
        """A sentence for each of the first blocks that could not be used."""
        more = self._n_left_out - len(self._notes)
        return [*self._notes, *([f"And {more} more blocks like that."] if more else [])]

    def _leave_out(self, reason: str) -> None:
        self._n_left_out += 1
        if len(self._notes) < MOST_NOTES:
            self._notes.append(reason)


def _is_list_of_frames(frames: Any) -> bool:
    """Whether a list holds frames, all of one shape, and not blocks of them."""
    if not isinstance(frames, list | tuple):
        return False
    shapes = {np.shape(one) for one in cast("Sequence[Any]", frames)}
    return len(shapes) == 1 and len(shapes.pop()) == 2


def analyse_c2(
    c2: ArrayLike,
    *,
    frame_time_s: float = 1.0,
    ensemble: Denoiser | None = None,
    settings: Settings | None = None,
) -> Result:
    """Do with a C2 that is there all that the live analysis does with one.

    That is denoised windows, the paper's fits, the live estimator and its recommendation. Without
    pixels there is no jackknife: errors (`error_kind` "residual") come from how much blocks of C2
    scatter whose frames have nothing in common, and are rather too large; where the series is too
    short or too slow for such blocks the status says that they are uncertain. A curve of another
    shape than the model goes unnoticed. Static speckle and intensity that varies inside the ROI
    look alike: a row is recommended all the same, and its `caution` says by which factor Gamma may
    be higher.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n), symmetric; the upper triangle is read. NaN is no measurement.
    frame_time_s
        Frame period, s; with the default rates are per frame.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.
    settings
        Window, step, mode, ranges, seed, weights; default: all defaults. Its `frame_time_s` and
        ROIs are not used.

    Returns
    -------
    Result
        `.c2` is (n_roi, n, n) always; ROIs are numbered from 1, and their q is unknown.

    Raises
    ------
    InvalidInputError
        When C2 has another shape or no frame, frame_time_s is not positive, or files cannot be
        used.
    """
    stack = as_stack(c2)
    stack = np.where(np.isfinite(stack), stack, np.nan)
    if stack.shape[-1] == 0 or len(stack) == 0:
        raise InvalidInputError(
            f"C2: got shape {stack.shape}; expected at least a ROI and a frame."
        )
    check_frame_time(frame_time_s)
    settings = settings or Settings(detector="c2")
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    rois = RoiMap.from_labels(np.arange(1, len(stack) + 1)[np.newaxis])
    analysis = C2Analysis(settings, rois, frame_time_s=frame_time_s, ensemble=ensemble)
    result = analysis.finish(stack, AgeSums.from_c2(stack))
    return dataclasses.replace(result, status=append_note(result.status, why_not))
