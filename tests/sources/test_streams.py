"""Of several streams with the data key one is the series."""

import numpy as np
import pytest

from xpcs_live_denoise.sources.documents import RunDocuments
from xpcs_live_denoise.sources.streams import ENOUGH_FRAMES, OTHER_PURPOSE, UNKNOWN, stream_rank

KEY = "eiger_image"


def descriptor(name, **more):
    keys = {KEY: {"source": "SIM", "dtype": "array", "shape": [4, 6], **more}}
    return {"uid": f"d-{name}", "name": name, "data_keys": keys}


def event(name, number, value=1.0):
    return {"descriptor": f"d-{name}", "seq_num": number, "data": {KEY: np.full((4, 6), value)}}


class Run:
    def __init__(self, stream=None, **start):
        self.documents = RunDocuments(start, detector="eiger", data_key=KEY, stream=stream)
        self.values = []

    def send(self, name, doc):
        for reference in self.documents.receive(name, doc):
            self.values += reference.frames[:, 0, 0].tolist()

    def stream(self, name, n, value):
        self.send("descriptor", descriptor(name))
        for number in range(1, n + 1):
            self.send("event", event(name, number, value))

    def stop(self):
        self.send("stop", {})


@pytest.mark.parametrize("first", ["dark", "background", "baseline", "first", "cam_monitor"])
def test_another_stream_before_primary_is_left_out(first):
    run = Run()
    run.stream(first, 2, -1.0)
    run.stream("primary", 3, 1.0)
    run.stop()
    assert run.values == [1.0] * 3
    assert run.documents.image_descriptor["name"] == "primary"
    assert run.documents.n_frames == 3
    assert run.documents.left_out == (
        f"Stream 'primary' is analysed; left out: '{first}' (2 frames). The setting `stream` "
        "chooses another one."
    )


def test_dark_frames_between_those_of_primary_are_left_out():
    run = Run()
    run.send("descriptor", descriptor("primary"))
    run.send("descriptor", descriptor("dark"))
    for number in (1, 2, 3):
        run.send("event", event("dark", number, -1.0))
        run.send("event", event("primary", number, 1.0))
    assert run.values == [1.0] * 3


@pytest.mark.parametrize("name", ["detector_stream", "dark", "cam_monitor"])
def test_the_only_stream_is_the_series_whatever_its_name(name):
    run = Run()
    run.stream(name, 3, 1.0)
    assert run.values == []  # another one may come
    run.stop()
    assert run.values == [1.0] * 3


def test_a_stream_of_another_name_is_followed_when_it_is_as_long_as_a_window():
    run = Run()
    run.stream("detector_stream", ENOUGH_FRAMES - 1, 1.0)
    assert run.documents.image_descriptor is None
    run.send("event", event("detector_stream", ENOUGH_FRAMES, 1.0))
    assert len(run.values) == ENOUGH_FRAMES


def test_primary_takes_the_place_of_a_stream_that_was_followed():
    run = Run()
    run.stream("first", ENOUGH_FRAMES, -1.0)
    run.send("descriptor", descriptor("primary"))
    run.send("event", event("primary", 1, 1.0))
    assert run.documents.image_descriptor["name"] == "primary"
    assert run.documents.n_frames == 1


def test_primary_that_stays_empty_leaves_the_series_to_a_stream_with_frames():
    run = Run()
    run.send("descriptor", descriptor("primary"))
    run.stream("detector_stream", 3, 1.0)
    run.stop()
    assert run.values == [1.0] * 3
    assert "left out: 'primary'." in run.documents.left_out
    long = Run()
    long.send("descriptor", descriptor("primary"))
    long.stream("detector_stream", ENOUGH_FRAMES, 1.0)
    assert len(long.values) == ENOUGH_FRAMES  # at once
    long.send("event", event("primary", 1, 2.0))
    assert long.values[ENOUGH_FRAMES:] == [2.0]


def test_dark_frames_are_no_series_because_primary_stayed_empty():
    run = Run()
    run.stream("dark", 3, -1.0)
    run.send("descriptor", descriptor("primary"))
    run.stop()
    assert run.values == []
    assert run.documents.image_descriptor["name"] == "primary"


def test_of_two_long_streams_the_longer_is_the_series_in_the_end():
    run = Run()
    run.stream("one", ENOUGH_FRAMES, 1.0)
    run.stream("two", 2 * ENOUGH_FRAMES, 2.0)
    run.stop()
    assert run.values[-2 * ENOUGH_FRAMES :] == [2.0] * 2 * ENOUGH_FRAMES
    assert run.documents.image_descriptor["name"] == "two"


def test_the_stream_of_the_plans_dimensions_is_the_series():
    run = Run(hints={"dimensions": [(["time"], "sweep")]})
    run.stream("other", 2, -1.0)
    run.stream("sweep", 3, 1.0)
    assert run.values == [1.0] * 3


def test_without_a_likely_name_the_longest_stream_is_the_series():
    run = Run()
    run.stream("a", 1, -1.0)
    run.stream("b", 4, 1.0)
    run.stop()
    assert run.values == [1.0] * 4


def test_the_setting_chooses_the_stream_and_no_other_takes_its_place():
    run = Run(stream="dark")
    run.stream("primary", 2, 1.0)
    run.stream("dark", 3, -1.0)
    run.stop()
    assert run.values == [-1.0] * 3
    absent = Run(stream="light")
    absent.stream("primary", 2, 1.0)
    absent.stop()
    assert absent.documents.image_descriptor is None
    assert absent.documents.streams == ("primary",)


def test_frames_of_a_stream_that_waits_are_copied():
    run, value = Run(), np.ones((4, 6))
    run.send("descriptor", descriptor("detector_stream"))
    run.send("event", {"descriptor": "d-detector_stream", "seq_num": 1, "data": {KEY: value}})
    value[:] = 7  # the detector uses its buffer again
    run.stop()
    assert run.values == [1.0]


def test_a_stream_of_files_before_primary_is_left_out():
    run = RunDocuments({}, detector="eiger", data_key=KEY)
    for name in ("dark", "primary"):
        run.receive("descriptor", descriptor(name, external="STREAM:"))
        resource = {
            "uid": f"r-{name}",
            "data_key": KEY,
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost/{name}.h5",
            "parameters": {"dataset": "/a"},
        }
        run.receive("stream_resource", resource)
        datum = {
            "stream_resource": f"r-{name}",
            "descriptor": f"d-{name}",
            "indices": {"start": 0, "stop": 2},
        }
        references = run.receive("stream_datum", datum)
        assert [one.path for one in references] == ["/primary.h5"] * (name == "primary")


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("bg", OTHER_PURPOSE),
        ("cam_ff", OTHER_PURPOSE),
        ("darks", OTHER_PURPOSE),
        ("Flatfield", OTHER_PURPOSE),
        ("latest", UNKNOWN),
        ("fastest", UNKNOWN),
    ],
)
def test_words_in_the_name_of_a_stream_tell_another_purpose(name, rank):
    assert stream_rank(name, {}, None) == rank
