"""CHX's three Eigers, simulated: what the profile takes its series with off the beamline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.sources.simulated_eiger import SimulatedClassicEiger
from xpcs_live_denoise.sources.simulated_frames import FrameFactory

CHX_SHAPES = {
    "eiger4m_single": (2167, 2070),
    "eiger1m_single": (1065, 1030),
    "eiger500K_single": (514, 1030),
}
# Speckle is simulated in a square around the beam, where the rings are; the rest of the detector
# shows a weak static background. A 4M field would take a second a frame.
SPECKLE_EDGE = 400
RING_RADII = np.linspace(80, 190, 6)
MEAN_COUNTS, BACKGROUND_COUNTS, SPECKLE_CONTRAST = 0.3, 0.05, 0.2
# Of the middle ring, per frame; others go with q^2. The sample slows down like 1 / (1 + age / 80).
FIRST_RATE, AGEING_FRAMES, LONGEST_SERIES = 0.12, 80.0, 5000
BACKGROUND_FRAMES = 4


def simulated_chx_eiger(name: str, directory: Path) -> SimulatedClassicEiger:
    """Return one of CHX's detectors, in front of a gel that slows down as it ages.

    Parameters
    ----------
    name
        "eiger4m_single", "eiger1m_single" or "eiger500K_single".
    directory
        Where it writes its files.

    Raises
    ------
    InvalidInputError
        For another name.
    """
    return SimulatedClassicEiger(_gel_on(_shape(name)), directory, name=name)


def simulated_chx_rings(name: str) -> RoiMap:
    """Return five rings around the beam of a simulated detector."""
    shape = _shape(name)
    edges = np.column_stack([RING_RADII[:-1], RING_RADII[1:]])
    return RoiMap.rings(shape, ((shape[0] - 1) / 2, (shape[1] - 1) / 2), edges)


def _shape(name: str) -> tuple[int, int]:
    if name not in CHX_SHAPES:
        raise InvalidInputError(
            f"Simulated detector: got the name {name!r}; expected one of {', '.join(CHX_SHAPES)}."
        )
    return CHX_SHAPES[name]


def _gel_on(shape: tuple[int, int]) -> FrameFactory:
    """Return a factory of frames with speckle around the beam and background elsewhere."""
    top, left = ((edge - SPECKLE_EDGE) // 2 for edge in shape)
    square = np.s_[top : top + SPECKLE_EDGE, left : left + SPECKLE_EDGE]

    def frames() -> Iterator[NDArray[Any]]:
        rng = np.random.default_rng(17)
        background = rng.poisson(BACKGROUND_COUNTS, (BACKGROUND_FRAMES, *shape)).astype(np.uint16)
        number = 0
        for speckle in _speckle(shape, square):
            for patch in speckle:
                frame = background[number % BACKGROUND_FRAMES].copy()
                frame[square] = patch
                number += 1
                yield frame[np.newaxis]

    return frames


def _speckle(shape: tuple[int, int], square: tuple[slice, slice]) -> Iterator[NDArray[Any]]:
    center = tuple((edge - 1) / 2 for edge in shape)
    rings = RoiMap.rings(
        (SPECKLE_EDGE, SPECKLE_EDGE),
        (center[0] - square[0].start, center[1] - square[1].start),
        np.column_stack([RING_RADII[:-1], RING_RADII[1:]]),
    )
    radii = RING_RADII[:-1] + np.diff(RING_RADII) / 2
    first = FIRST_RATE * (radii / radii.mean()) ** 2
    return simulate_speckle(
        rings,
        LONGEST_SERIES,
        relaxation_rate=first[:, np.newaxis] / (1 + np.arange(LONGEST_SERIES) / AGEING_FRAMES),
        contrast=SPECKLE_CONTRAST,
        mean_counts=MEAN_COUNTS,
        block=10,
    )
