"""The simulated classic Eiger under a real RunEngine: documents, names, files as at CHX."""

import importlib
import sys
import threading
import time

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import FailedStatus

from tests.support.eiger_series import FRAMES
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.simulation.eiger import chip_gaps


@pytest.fixture
def engine():
    return RunEngine({}, context_managers=[])


def eiger(folder, frames=None, **options):
    options = {"n_frames": 23, "images_per_file": 10, "frame_rate_hz": 500, **options}
    return SimulatedClassicEiger(frames or recorded(FRAMES), folder, **options)


def run(engine, plan):
    documents = []
    engine(plan, lambda name, doc: documents.append((name, dict(doc))))
    return documents


def test_the_documents_come_in_the_order_of_chx_after_the_exposure(engine, tmp_path):
    documents = run(engine, bp.count([eiger(tmp_path)]))
    names = [name for name, _ in documents]
    assert names == ["start", "descriptor", "resource", "datum", "event", "stop"]
    by_name = dict(documents)
    assert by_name["start"]["detectors"] == ["eiger4m_single"]
    key = by_name["descriptor"]["data_keys"]["eiger4m_single_image"]
    assert (key["shape"], key["external"]) == ([23, 12, 16], "FILESTORE:")
    resource, datum = by_name["resource"], by_name["datum"]
    assert resource["spec"] == "AD_EIGER2"
    assert resource["resource_kwargs"] == {"images_per_file": 10}
    assert datum["datum_kwargs"] == {"seq_id": 1}
    assert by_name["event"]["data"]["eiger4m_single_image"] == datum["datum_id"]
    assert by_name["event"]["filled"] == {"eiger4m_single_image": False}
    master = f"/{resource['resource_path']}_1_master.h5"
    with h5py.File(master) as file:
        parts = [file[f"entry/data/data_{number:06d}"][:] for number in (1, 2, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), FRAMES)


def test_the_configuration_has_the_keys_of_chx(engine, tmp_path):
    by_name = dict(run(engine, bp.count([eiger(tmp_path, name="eiger1m_single")])))
    configuration = by_name["descriptor"]["configuration"]["eiger1m_single"]["data"]
    assert configuration == {
        "eiger1m_single_beam_center_x": 7.5,
        "eiger1m_single_beam_center_y": 5.5,
        "eiger1m_single_wavelength": 1.2848,
        "eiger1m_single_det_distance": 10.0,
        "eiger1m_single_cam_acquire_time": 0.002,
        "eiger1m_single_cam_acquire_period": 0.002,
        "eiger1m_single_cam_num_images": 23,
    }


def test_at_the_start_document_the_device_knows_its_files_and_none_is_there(engine, tmp_path):
    detector = eiger(tmp_path)
    seen = []

    def look(name, doc):
        pattern = detector.file.file_write_name_pattern.get()
        seen.append((pattern, detector.file.sequence_id.get(), list(tmp_path.iterdir())))

    engine(bp.count([detector]), {"start": look})
    ((pattern, sequence_id, files),) = seen
    prefix = pattern.removesuffix("_$id")
    assert files == []
    assert (tmp_path / f"{prefix}_{sequence_id + 1}_master.h5").exists()


def test_each_staging_has_a_prefix_and_each_trigger_a_sequence_id_of_its_own(engine, tmp_path):
    detector = eiger(tmp_path, n_frames=4)
    first = run(engine, bp.count([detector], num=2))
    second = run(engine, bp.count([detector]))
    datums = [doc["datum_kwargs"]["seq_id"] for name, doc in first + second if name == "datum"]
    assert datums == [1, 2, 3]
    paths = {doc["resource_path"] for name, doc in first + second if name == "resource"}
    assert len(paths) == 2


def test_plans_set_the_number_of_images_and_how_they_are_filed(engine, tmp_path):
    detector = eiger(tmp_path)

    def plan():
        yield from bps.mv(detector.cam.num_images, 7, detector.file.file_write_images_per_file, 5)
        yield from bp.count([detector])

    documents = dict(run(engine, plan()))
    assert documents["descriptor"]["data_keys"]["eiger4m_single_image"]["shape"][0] == 7
    assert len(list(tmp_path.glob("*_data_*.h5"))) == 2


def appeared(folder, name="*_data_000001.h5"):
    """Wait for a file and return it."""
    deadline = time.monotonic() + 60
    while not (found := list(folder.glob(name))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found[0]


def test_data_files_appear_while_the_series_runs(tmp_path):
    seen = threading.Event()

    def frames():
        yield FRAMES[:10]
        assert seen.wait(60)
        yield FRAMES[10:]

    detector = eiger(tmp_path, frames=frames)
    detector.stage()
    status = detector.trigger()
    appeared(tmp_path)
    assert not status.done
    assert list(tmp_path.glob("*_master.h5"))
    seen.set()
    status.wait(60)
    detector.unstage()
    assert len(list(tmp_path.glob("*_data_*.h5"))) == 3


def test_a_file_can_appear_half_first(tmp_path):
    detector = eiger(tmp_path, n_frames=10, copy_s=600.0)
    detector.stage()
    status = detector.trigger()
    path = appeared(tmp_path)
    with pytest.raises(OSError, match="open"):
        h5py.File(path)
    detector.stop()  # the copy is not waited for any longer
    status.wait(60)
    detector.unstage()
    with h5py.File(path) as file:
        assert file["entry/data/data"].shape == (10, 12, 16)


def test_a_series_that_is_stopped_writes_the_frames_it_has(tmp_path):
    endless = np.tile(FRAMES, (200, 1, 1))
    detector = eiger(tmp_path, frames=recorded(endless), n_frames=len(endless), frame_rate_hz=20)
    detector.stage()
    detector.trigger()
    appeared(tmp_path)
    time.sleep(0.2)  # a few frames of the next file
    detector.unstage()
    held = 0
    for path in sorted(tmp_path.glob("*_data_*.h5")):
        with h5py.File(path) as file:
            held += len(file["entry/data/data"])
    assert 10 < held < len(endless)
    assert not list(tmp_path.glob(".*")), "nothing half is left behind"


def test_gaps_between_modules_hold_the_largest_value(tmp_path):
    bad = np.zeros(FRAMES.shape[1:], bool)
    bad[3] = True
    detector = eiger(tmp_path, n_frames=2, bad_pixels=bad)
    detector.stage()
    detector.trigger().wait(20)
    detector.unstage()
    (path,) = tmp_path.glob("*_data_000001.h5")
    with h5py.File(path) as file:
        frames = file["entry/data/data"][:]
    assert (frames[:, 3] == 65535).all()
    np.testing.assert_array_equal(frames[:, 4], FRAMES[:2, 4])


def test_the_gaps_of_an_eiger_4m_are_where_its_modules_end():
    gaps = chip_gaps((2167, 2070))
    assert gaps.sum() == 2167 * 2070 - 8 * 514 * 1030
    assert not chip_gaps((514, 1030)).any()
    assert chip_gaps((1065, 1030))[514:551].all()


def test_a_series_that_is_too_short_fails_the_plan_with_a_remedy(engine, tmp_path):
    with pytest.raises(FailedStatus) as caught:
        engine(bp.count([eiger(tmp_path, n_frames=30)]))
    assert "its frames ended after 23; expected 30" in str(caught.value.__cause__)


def test_a_trigger_without_staging_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="without being staged"):
        eiger(tmp_path).trigger()


@pytest.mark.parametrize("field", ["n_frames", "images_per_file", "frame_rate_hz"])
def test_numbers_that_are_not_positive_are_refused(tmp_path, field):
    with pytest.raises(InvalidInputError, match=f"{field}=0"):
        eiger(tmp_path, **{field: 0})


def test_two_detectors_in_one_run_write_their_own_series(engine, tmp_path):
    both = [eiger(tmp_path / name, name=name) for name in ("eiger4m_single", "eiger1m_single")]

    def plan():
        yield from bpp.stage_wrapper(bpp.run_wrapper(bps.trigger_and_read(both)), both)

    names = [name for name, _ in run(engine, plan())]
    assert names.count("resource") == names.count("datum") == 2


def test_without_ophyd_the_message_says_how_to_get_it(monkeypatch):
    module = "xpcs_live_denoise.simulation.eiger"
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "ophyd", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[profile\]'"):
        importlib.import_module(module)
