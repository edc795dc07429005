"""The series that the demo measures: a simulated sample that ages, or somebody's recording."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Array

from .detectors import SIMULATED_GEOMETRY, FrameFactory, recorded

SHAPE = (200, 200)
SPECKLE_CONTRAST = 0.25
MEAN_COUNTS = 0.15  # a pixel and frame: as noisy as at the beamline
# Rates of the middle ring, per frame: Gamma falls like 1 / (1 + age / AGEING_FRAMES).
FIRST_RATE, AGEING_FRAMES = 0.15, 60.0
# Rings lie between these fractions of the distance from the beam to the nearest edge. A recording
# has its slow, bright speckle near the beam; farther out it may be faster than its frames.
SIMULATED_RINGS, RECORDED_RINGS = (0.45, 0.9), (0.2, 0.37)
# Opposite pixels whose counts are as similar as this are copies of each other.
COPIES = 0.9
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSeries:
    """A series of frames and what is known about it; `title` is one line for people."""

    title: str
    frames: FrameFactory
    n_frames: int
    rois: RoiMap
    true_rates: NDArray[np.float64] | None = None  # Gamma per frame, (n_roi, n_frames)
    geometry: Geometry = SIMULATED_GEOMETRY  # what the detector reports
    frame_time_s: float | None = None  # of recorded data; None takes the detector's


def simulated_series(n_frames: int, n_rings: int) -> DemoSeries:
    """Return a sample that slows down as it ages, with Gamma proportional to q^2."""
    center = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
    edges = _ring_edges(min(center), SIMULATED_RINGS, n_rings)
    rois = RoiMap.rings(SHAPE, center, edges)
    radius = edges.mean(axis=1)
    first = FIRST_RATE * (radius / radius.mean()) ** 2
    rates = first[:, np.newaxis] / (1 + np.arange(n_frames) / AGEING_FRAMES)

    def frames() -> Iterator[Array]:
        return simulate_speckle(
            rois,
            n_frames,
            relaxation_rate=rates,
            contrast=SPECKLE_CONTRAST,
            mean_counts=MEAN_COUNTS,
            block=10,
            seed=11,
        )

    return DemoSeries(
        title="a simulated gel that slows down as it ages",
        frames=frames,
        n_frames=n_frames,
        rois=rois,
        true_rates=rates,
    )


def recorded_series(file: Path, n_frames: int, n_rings: int) -> DemoSeries:
    """Return the first frames of a recorded series, with rings around its beam centre.

    A file that cannot be read, holds no series of frames, or says something impossible of it is an
    InvalidInputError.
    """
    stored = _load(file)
    recording = stored["frames"]
    n_frames = min(n_frames, len(recording))
    shape: tuple[int, int] = recording.shape[1:]
    row, col = _numbers(file, stored, "center", 2, default=np.array(shape) / 2)
    center = (row, col)
    to_edge = min(center[0], center[1], shape[0] - 1 - center[0], shape[1] - 1 - center[1])
    edges = _ring_edges(to_edge, RECORDED_RINGS, n_rings)
    mask = None
    if _is_point_symmetric(recording[0], center):
        # |FFT|^2 of a real image: opposite pixels say the same twice. One half plane is enough.
        rows = np.arange(shape[0])[:, np.newaxis]
        mask = np.broadcast_to(rows > center[0], shape)
    q_inv_angstrom = None
    if "px_per_um" in stored:
        (px_per_um,) = _numbers(file, stored, "px_per_um", 1)
        per_pixel = 2 * np.pi / shape[0] * px_per_um * 1e-4
        q_inv_angstrom = edges.mean(axis=1) * per_pixel
    return DemoSeries(
        title=f"the recorded series {file.name}",
        frames=recorded(recording[:n_frames]),
        n_frames=n_frames,
        rois=RoiMap.rings(shape, center, edges, mask=mask, q_inv_angstrom=q_inv_angstrom),
        geometry=Geometry(beam_center=center),
        frame_time_s=1 / _numbers(file, stored, "fps", 1)[0] if "fps" in stored else None,
    )


def _load(file: Path) -> dict[str, Array]:
    """Return what an .npz holds by name; the array of an .npy is the frames."""
    arrays: dict[str, Array] = {}
    try:
        with file.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                arrays["frames"] = stored
            else:
                arrays.update((name, stored[name]) for name in stored.files)
    except UNREADABLE as error:
        raise InvalidInputError(
            f"Recorded series {file}: cannot be read ({error}); expected an .npz file with "
            "`frames` (n, rows, cols), or an .npy file that holds them."
        ) from error
    frames = arrays.get("frames")
    if frames is None or frames.ndim != 3 or not frames.size or frames.dtype.kind not in "uifb":
        got = "no `frames`"
        if frames is not None:
            got = f"`frames` of shape {frames.shape} and dtype {frames.dtype}"
        raise InvalidInputError(
            f"Recorded series {file}: got {got}; expected `frames` of shape (n, rows, cols), "
            "counts of a pixel."
        )
    return arrays


def _numbers(
    file: Path,
    stored: dict[str, Array],
    name: str,
    n: int,
    default: Array | None = None,
) -> tuple[float, ...]:
    """Return what the file says of the frames: `n` numbers above 0."""
    got = stored.get(name, default)
    if got is None or got.size != n or got.dtype.kind not in "uif" or not (got > 0).all():
        raise InvalidInputError(
            f"Recorded series {file}: got `{name}` {got}; expected {n} number(s) above 0. "
            "Correct it, or leave it out."
        )
    return tuple(float(number) for number in got.ravel())


def _ring_edges(to_edge: float, between: tuple[float, float], n_rings: int) -> NDArray[np.float64]:
    """Return (inner, outer) radii of rings that touch, shape (n_rings, 2), in pixels."""
    radii = to_edge * np.linspace(*between, n_rings + 1)
    if radii[1] - radii[0] < 1:
        raise InvalidInputError(
            f"Rings: {n_rings} of them do not fit between {radii[0]:.0f} and {radii[-1]:.0f} "
            "pixels; expected at least one pixel each. Ask for fewer."
        )
    return np.column_stack([radii[:-1], radii[1:]])


def _is_point_symmetric(frame: Array, center: tuple[float, ...]) -> bool:
    """Whether pixels opposite of the centre are copies of each other."""
    row, col = (round(x) for x in center)
    reach = min(row, col, frame.shape[0] - 1 - row, frame.shape[1] - 1 - col)
    square = frame[row - reach : row + reach + 1, col - reach : col + reach + 1].astype(float)
    half = square[:reach].ravel()
    opposite = square[::-1, ::-1][:reach].ravel()
    return bool(reach > 1 and np.corrcoef(half, opposite)[0, 1] > COPIES)
