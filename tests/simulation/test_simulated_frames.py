"""What simulated detectors see: every frame once, and no block before it is needed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.simulation import recorded
from xpcs_live_denoise.simulation.detectors import FrameSupply


@pytest.fixture
def frames():
    return np.random.default_rng(3).poisson(2.0, (60, 8, 10)).astype("u2")


@pytest.mark.parametrize("block", [1, 7, 60])
def test_a_supply_hands_out_every_frame_once_whatever_the_sizes(frames, block):
    supply = FrameSupply(recorded(frames, block=block))
    assert supply.frame_shape == (8, 10)
    taken = [supply.take(n) for n in (1, 13, 2, 40, 10, 3)]
    assert [len(part) for part in taken] == [1, 13, 2, 40, 4, 0]
    np.testing.assert_array_equal(np.concatenate(taken), frames)


def test_a_supply_makes_no_block_before_it_is_needed(frames):
    made = []

    def factory():
        for i in range(0, 60, 10):
            made.append(i)
            yield frames[i : i + 10]

    supply = FrameSupply(factory)
    supply.take(10)
    assert made == [0]
    supply.take(1)
    assert made == [0, 10]


def test_a_block_that_holds_no_frames_is_refused():
    with pytest.raises(InvalidInputError, match=r"a block of shape \(4, 6\)"):
        FrameSupply(lambda: iter([np.ones((4, 6))])).restart()


def test_a_recorded_dataset_is_read_block_by_block(tmp_path, frames):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("data", data=frames)
        blocks = list(recorded(dataset, block=25)())
    assert [len(block) for block in blocks] == [25, 25, 10]
    np.testing.assert_array_equal(np.concatenate(blocks), frames)
