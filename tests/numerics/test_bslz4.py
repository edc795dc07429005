"""Chunks of bitshuffle and LZ4: wanted elements, from the blocks that hold them alone."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from xpcs_live_denoise.numerics.bslz4 import WantedElements


def compressed(tmp_path, values, block=0):
    """Return the chunk that a detector would write."""
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        options = hdf5plugin.Bitshuffle(nelems=block, cname="lz4")
        dataset = file.create_dataset("x", data=values, chunks=values.shape, **options)
        return dataset.id.read_direct_chunk((0,) * values.ndim)[1]


def counts(n, dtype, seed=0):
    return np.random.default_rng(seed).poisson(0.3, n).astype(dtype)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", ">u2", "u8", "f4", "f8"])
@pytest.mark.parametrize("n", [3, 8, 61, 4096, 8192, 20_001, 20_007, 20_008])
def test_wanted_elements_are_those_of_the_whole_chunk(tmp_path, dtype, n):
    values = counts(n, dtype)
    chunk = compressed(tmp_path, values)
    rng = np.random.default_rng(1)
    some = rng.permutation(n)[: n // 3]
    for wanted in (range(n), range(n // 3, n - 1), np.arange(n), np.array([n - 1]), some):
        got = WantedElements(wanted, n, np.dtype(dtype)).take(chunk)
        np.testing.assert_array_equal(got, values[wanted])
        assert got.dtype == dtype


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize(
    "make",
    [
        lambda n, top: np.zeros(n),
        np.full,
        lambda n, top: np.arange(n) % 23,
        lambda n, top: np.where(np.arange(n) % 701, counts(n, "u8"), top),
        lambda n, top: np.random.default_rng(3).integers(0, top, n, np.uint64, endpoint=True),
    ],
    ids=["dark", "all marked", "repeating", "some marked", "noise of all bits"],
)
def test_blocks_of_any_content_are_decompressed(tmp_path, make, dtype):
    top = np.iinfo(dtype).max
    values = make(9001, np.array(top, dtype)).astype(dtype)
    wanted = np.sort(np.random.default_rng(4).permutation(len(values))[:2000])
    got = WantedElements(wanted, len(values), values.dtype).take(compressed(tmp_path, values))
    np.testing.assert_array_equal(got, values[wanted])


@pytest.mark.parametrize("block", [8, 64, 1024])
def test_blocks_are_as_large_as_the_chunk_says(tmp_path, block):
    wanted = np.array([5, 70, 999])
    elements = WantedElements(wanted, 1003, np.dtype("u2"))
    for size in (block, 8, block):
        values = counts(1003, "u2", seed=size)
        np.testing.assert_array_equal(
            elements.take(compressed(tmp_path, values, size)), values[wanted]
        )


def test_only_the_blocks_with_wanted_elements_are_decompressed(tmp_path):
    values = counts(8192 * 3, "u2")
    chunk = bytearray(compressed(tmp_path, values))
    first = 12 + 4 + int.from_bytes(chunk[12:16], "big")  # where the second of six blocks begins
    chunk[first + 4 : first + 60] = b"\xff" * 56  # its data are damaged, its length is not
    wanted = np.array([3, 4095, 9000])
    got = WantedElements(wanted, len(values), values.dtype).take(bytes(chunk))
    np.testing.assert_array_equal(got, values[wanted])
    with pytest.raises(ValueError, match="block 1 cannot be decompressed"):
        WantedElements(np.array([5000]), len(values), values.dtype).take(bytes(chunk))


def test_damaged_chunks_are_refused(tmp_path):
    values = counts(20_003, "u2")
    chunk = compressed(tmp_path, values)

    def take(damaged):
        return WantedElements(np.arange(len(values)), len(values), values.dtype).take(damaged)

    with pytest.raises(ValueError, match="block 4 does not end within the chunk"):
        take(chunk[:-40])
    with pytest.raises(ValueError, match="block 5 does not end within the chunk"):
        take(chunk[:-1])  # of what is stored as it is
    with pytest.raises(ValueError, match="its head tells of 0 bytes, expected 40006"):
        take(b"")
    with pytest.raises(ValueError, match="its head tells of blocks of 3 bytes"):
        take(chunk[:8] + b"\0\0\0\3" + chunk[12:])


def test_no_damage_makes_more_than_an_error_or_other_numbers(tmp_path):
    values = counts(20_003, "u2")
    chunk = compressed(tmp_path, values)
    elements = WantedElements(np.arange(0, len(values), 7), len(values), values.dtype)
    rng = np.random.default_rng(2)
    n_refused = 0
    for _ in range(300):
        damaged = bytearray(chunk)
        for place in rng.integers(0, len(chunk), rng.integers(1, 50)):
            damaged[place] = rng.integers(256)
        try:
            assert len(elements.take(bytes(damaged))) == len(range(0, len(values), 7))
        except ValueError:
            n_refused += 1
    assert n_refused > 100
