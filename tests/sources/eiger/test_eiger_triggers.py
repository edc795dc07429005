"""An Eiger triggered several times a series: every frame of one event, though no document tells."""

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import h5py
import numpy as np
import pytest

from tests.support.eiger_series import (
    FRAMES,
    frames_of,
    lengths_of,
    series_files,
    write_file,
    write_series,
)
from tests.support.file_roots import ANYWHERE
from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    assert_same_result,
    engine,
    offline,
    series,
    subscribe,
)
from tests.support.pieces import read_pieces
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.sources.eiger.files import read_eiger
from xpcs_live_denoise.sources.eiger.follow import EigerFollower, new_masters
from xpcs_live_denoise.sources.eiger.reconcile import Following
from xpcs_live_denoise.sources.frames import FrameReader


@pytest.fixture
def eiger(tmp_path):
    """Return a function that makes a simulated classic Eiger named cam with three triggers."""

    def make(frames, n_images):
        detector = SimulatedClassicEiger(
            recorded(frames),
            tmp_path / "raw",
            name="cam",
            n_frames=n_images,
            images_per_file=20,
            frame_rate_hz=100,
        )
        detector.num_triggers.put(3)
        return detector

    return make


def test_the_documents_tell_the_frames_of_one_trigger_and_the_files_hold_all(
    engine, eiger, tmp_path
):
    documents = {}
    frames = series(90)
    engine(bp.count([eiger(frames, 30)]), lambda name, doc: documents.update({name: dict(doc)}))
    descriptor = documents["descriptor"]
    assert descriptor["data_keys"]["cam_image"]["shape"][0] == 30
    configuration = descriptor["configuration"]["cam"]["data"]
    assert configuration["cam_cam_num_images"] == 30
    assert not any("trigger" in key for key in configuration)
    assert documents["resource"]["resource_kwargs"] == {"images_per_file": 20}
    assert documents["datum"]["datum_kwargs"] == {"seq_id": 1}
    (master,) = (tmp_path / "raw").glob("*_master.h5")
    with h5py.File(master) as file:
        specific = file["entry/instrument/detector/detectorSpecific"]
        assert (specific["nimages"][()], specific["ntrigger"][()]) == (30, 3)
        parts = [file[f"entry/data/data_{number:06d}"][:] for number in range(1, 6)]
    np.testing.assert_array_equal(np.concatenate(parts), frames)


@pytest.mark.parametrize("known_by", ["documents", "device", "folder"])
def test_every_frame_of_every_trigger_is_analysed_once(
    engine, subscribe, eiger, tmp_path, known_by
):
    frames = series(90)
    detector = eiger(frames, 30)
    (tmp_path / "raw").mkdir()
    follow = {"follow": {"folder": str(tmp_path / "raw")}} if known_by == "folder" else {}
    device = detector if known_by == "device" else None
    live, sinks = subscribe(frame_time_s=0.01, device=device, **follow)
    engine(bp.count([detector], md={"number of images": "30"}))
    assert live.wait(60)
    (sink,) = sinks
    assert_same_result(sink.result, offline(frames))
    status = sink.result.status
    assert (status.n_seen, status.n_processed, status.n_skipped) == (90, 90, 0)
    assert sink.end.analysis_exit_status == "success"
    assert sink.end.reason == ""
    assert live.n_faults == 0


def test_every_series_of_a_count_has_its_triggers(engine, subscribe, eiger):
    frames = series(120)
    detector = eiger(frames, 20)
    live, sinks = subscribe(frame_time_s=0.01)

    def plan():
        yield from bps.mv(detector.num_triggers, 2)
        yield from bp.count([detector], num=3)

    engine(plan())
    assert live.wait(60)
    assert_same_result(sinks[0].result, offline(frames))


def triggered(folder, n_triggers, without=()):
    files = series_files(folder, n_triggers=n_triggers)
    files.write_master()
    for number in (1, 2, 3):
        if number not in without:
            write_file(files, number)


def open_ended(folder, stop, start=0):
    return frames_of(folder, start, stop, open_ended=True)


@pytest.mark.parametrize("start", [0, 5, 20])
def test_a_reference_that_is_open_goes_on_to_where_the_master_says(tmp_path, start):
    triggered(tmp_path, 1)
    blocks = read_eiger(open_ended(tmp_path, 7, start), 10**6, roots=ANYWHERE, timeout_s=0.1)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), FRAMES[start:])


def test_one_that_is_not_open_ends_where_it_says(tmp_path):
    triggered(tmp_path, 1)
    blocks = read_eiger(frames_of(tmp_path, 0, 7), 10**6, roots=ANYWHERE, timeout_s=0.1)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), FRAMES[:7])


def test_without_a_master_the_document_is_believed(tmp_path):
    write_series(tmp_path, master=False)
    blocks = read_eiger(open_ended(tmp_path, 12), 10**6, roots=ANYWHERE, timeout_s=0.1)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), FRAMES[:12])


def test_a_master_that_tells_fewer_frames_than_the_document_changes_nothing(tmp_path):
    triggered(tmp_path, 1)
    reader = FrameReader(roots=ANYWHERE, timeout_s=0.05)
    pieces = read_pieces(reader, open_ended(tmp_path, 30), FRAMES.shape[1:])
    assert lengths_of(pieces) == [10, 10, 3, 7]


@pytest.mark.parametrize(
    ("without", "expected"), [([1], [MissingFrames, 10, 3]), ([2], [10, MissingFrames, 3])]
)
@pytest.mark.parametrize("stop", [5, 12])
def test_a_file_that_is_missing_behind_the_documents_end_is_a_gap(
    tmp_path, stop, without, expected
):
    triggered(tmp_path, 1, without)
    reader = FrameReader(roots=ANYWHERE, timeout_s=0.05)
    pieces = read_pieces(reader, open_ended(tmp_path, stop), FRAMES.shape[1:])
    assert [
        MissingFrames if isinstance(piece, MissingFrames) else len(piece) for piece in pieces
    ] == expected


def test_an_absurd_number_in_a_master_is_not_believed(tmp_path):
    triggered(tmp_path, 1)
    with h5py.File(tmp_path / "gel_3_master.h5", "r+") as master:
        master["entry/instrument/detector/detectorSpecific/ntrigger"][()] = 2**40
    blocks = read_eiger(open_ended(tmp_path, 7), 10**6, roots=ANYWHERE, timeout_s=0.1)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), FRAMES[:7])


def test_an_event_of_one_trigger_adds_what_was_not_followed_of_all(tmp_path):
    names = new_masters(str(tmp_path))
    triggered(tmp_path, 1, without=[3])
    following = Following(EigerFollower(names, roots=ANYWHERE), "the-run")
    assert [(r.start, r.stop) for r in following.poll()] == [(0, 20)]
    rest = following.reconcile(open_ended(tmp_path, 7))
    assert [(r.start, r.stop) for r in rest] == [(20, 23)]
    triggered(tmp_path, 1)
    assert following.poll() == following.finish() == ()
