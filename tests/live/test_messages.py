"""Messages for the worker: which of them merge, so that the queue stays short."""

import numpy as np
import pytest

from xpcs_live_denoise.live.worker import End, NewFrames
from xpcs_live_denoise.records.frames import (
    EigerFrames,
    HDF5Frames,
    InlineFrames,
    MissingFrames,
    RoiPixels,
)


def frames(start, stop, path="a.h5", dataset="x"):
    reference = HDF5Frames(path=path, dataset=dataset, start=start, stop=stop)
    return NewFrames(frames=reference, arrival=float(stop))


def test_frames_of_one_dataset_that_follow_each_other_merge():
    merged = frames(3, 5).merge(frames(5, 9))
    assert (merged.frames.start, merged.frames.stop) == (3, 9)
    assert merged.arrival == 9.0, "the lag is counted from the newest frame"


@pytest.mark.parametrize(
    "later",
    [
        frames(6, 9),
        frames(5, 9, path="b.h5"),
        frames(5, 9, dataset="y"),
        NewFrames(frames=InlineFrames(frames=np.zeros((1, 2, 2))), arrival=0.0),
        End(exit_status="success", reason=""),
    ],
)
def test_what_does_not_follow_directly_stays_a_message_of_its_own(later):
    assert frames(3, 5).merge(later) is None


def eiger(start, stop, sequence_id=1):
    reference = EigerFrames(prefix="a", sequence_id=sequence_id, start=start, stop=stop)
    return NewFrames(frames=reference, arrival=0.0)


def test_frames_of_one_eiger_series_merge_and_those_of_two_do_not():
    assert eiger(3, 5).merge(eiger(5, 9)).frames == eiger(3, 9).frames
    assert eiger(3, 5).merge(eiger(5, 9, sequence_id=2)) is None
    assert eiger(3, None).merge(eiger(5, 9)) is None
    assert eiger(3, 5).merge(frames(5, 9)) is None


def test_references_of_different_kinds_never_become_one():
    unreadable = MissingFrames(n_frames=4, reason="no handler")
    later = NewFrames(frames=unreadable, arrival=0.0)
    assert frames(3, 5).merge(later) is None
    assert later.merge(frames(9, 12)) is None


def test_announced_frames_that_are_missing_merge_if_their_reason_is_the_same():
    def missing(n_frames, reason):
        reference = MissingFrames(n_frames=n_frames, reason=reason)
        return NewFrames(frames=reference, arrival=0.0)

    assert missing(2, "a").merge(missing(3, "a")).frames.n_frames == 5
    assert missing(2, "a").merge(missing(3, "b")) is None


def test_only_pixels_count_for_the_bound_of_the_queue():
    pixels = RoiPixels(pixels=np.zeros((2, 3), np.uint16))
    assert NewFrames(frames=pixels, arrival=0.0).n_bytes == 12
    assert frames(0, 1000).n_bytes == 0
    inline = InlineFrames(frames=np.zeros((1, 2, 2), np.uint16))
    assert NewFrames(frames=inline, arrival=0.0).n_bytes == 8
