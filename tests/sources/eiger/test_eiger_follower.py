"""Which files of a series are complete, poll by poll."""

import errno
import os

import h5py
import pytest

from tests.support.eiger_series import FRAMES, series_files, write_file, write_series
from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.sources.eiger.follow import (
    EigerFollower,
    new_masters,
    numbered_series,
    staged_series,
)


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def follow(tmp_path, clock):
    def follow(**options):
        options = {
            "images_per_file": 10,
            "n_images": 23,
            "clock": clock,
            "roots": ANYWHERE,
            **options,
        }
        names = options.pop("names", None) or numbered_series(str(tmp_path / "gel"), 3)
        return EigerFollower(names, **options)

    return follow


def ranges(references):
    return [(reference.sequence_id, reference.start, reference.stop) for reference in references]


def test_nothing_is_handed_out_before_there_are_files(follow, tmp_path):
    follower = follow()
    assert follower.poll() == []
    files = series_files(tmp_path)
    files.write_master()
    assert follower.poll() == []


def test_each_file_is_handed_out_once_when_it_is_there(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    write_file(files, 1)
    assert ranges(follower.poll()) == [(3, 0, 10)]
    assert follower.poll() == []
    write_file(files, 2)
    write_file(files, 3)
    assert ranges(follower.poll()) == [(3, 10, 23)]
    assert follower.poll() == follower.finish() == []


def test_a_file_that_is_half_there_is_waited_for(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    write_file(files, 1)
    path = files.data_path(1)
    content = path.read_bytes()
    os.truncate(path, len(content) // 2)
    assert follower.poll() == []
    path.write_bytes(content)
    assert ranges(follower.poll()) == [(3, 0, 10)]


def test_a_file_with_too_few_frames_is_waited_for(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    files.write_data(1, FRAMES[:4])
    assert follower.poll() == []
    write_file(files, 1)
    assert ranges(follower.poll()) == [(3, 0, 10)]


def test_frames_that_are_allocated_only_are_waited_for(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    with h5py.File(files.data_path(1), "w") as file:
        dataset = file.create_dataset("entry/data/data", (10, 12, 16), "u2", chunks=(1, 12, 16))
        dataset[:4] = FRAMES[:4]
    assert follower.poll() == []
    with h5py.File(files.data_path(1), "r+") as file:
        file["entry/data/data"][4:] = FRAMES[4:10]
    assert ranges(follower.poll()) == [(3, 0, 10)]


def test_a_missing_file_is_given_up_after_the_grace_if_a_later_one_is_there(
    follow, tmp_path, clock
):
    follower, files = follow(grace_s=10.0), series_files(tmp_path)
    write_file(files, 1)
    assert ranges(follower.poll()) == [(3, 0, 10)]
    clock.now = 100.0
    assert follower.poll() == [], "no later file: it is only late"
    write_file(files, 3)
    clock.now = 101.0
    assert follower.poll() == []
    clock.now = 110.0
    assert follower.poll() == []
    clock.now = 111.5
    assert ranges(follower.poll()) == [(3, 10, 23)], "reading says which of them are missing"


def test_a_late_file_within_the_grace_loses_nothing(follow, tmp_path, clock):
    follower, files = follow(), series_files(tmp_path)
    for number, now in ((1, 0.0), (3, 1.0), (2, 8.0)):
        clock.now = now
        write_file(files, number)
        handed = ranges(follower.poll())
    assert handed == [(3, 10, 23)]


def test_series_follow_one_another(follow, tmp_path):
    follower = follow(n_series=2)
    write_series(tmp_path)
    write_series(tmp_path, sequence_id=4)
    write_series(tmp_path, sequence_id=5)
    assert ranges(follower.poll()) == [(3, 0, 23), (4, 0, 23)]
    assert follower.poll() == []


def test_the_end_takes_a_file_that_is_not_full(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    write_file(files, 1)
    files.write_data(2, FRAMES[10:14])
    assert ranges(follower.poll()) == [(3, 0, 10)]
    assert ranges(follower.finish()) == [(3, 10, 14)]


def test_the_end_does_not_lose_files_behind_a_missing_one(follow, tmp_path):
    follower = follow()
    write_series(tmp_path, without=[2])
    assert ranges(follower.finish()) == [(3, 0, 10), (3, 10, 20), (3, 20, 23)]


def test_a_new_master_in_a_folder_is_followed_with_what_it_tells(follow, tmp_path):
    write_series(tmp_path, sequence_id=2)
    names = new_masters(str(tmp_path), "ge*")
    follower = follow(names=names, images_per_file=None, n_images=None)
    assert follower.poll() == []
    write_series(tmp_path, sequence_id=9, prefix="other")
    assert follower.poll() == [], "its name does not fit"
    files = series_files(tmp_path, sequence_id=3)
    files.write_master()
    write_file(files, 1)
    assert follower.poll() == [], "nobody knows how many frames a file gets"
    write_file(files, 2)
    assert ranges(follower.poll()) == [(3, 0, 20)]
    write_file(files, 3)
    assert ranges(follower.poll()) == [(3, 20, 23)]
    assert (follower.n_images, follower.frame_time_s) == (23, 0.01)


def test_a_single_file_of_a_followed_folder_is_complete_with_all_images(follow, tmp_path):
    names = new_masters(str(tmp_path))
    follower = follow(names=names, images_per_file=None, n_images=None)
    write_series(tmp_path, images_per_file=100)
    assert ranges(follower.poll()) == [(3, 0, 23)]


def test_without_any_number_a_file_is_complete_when_it_grows_no_more(follow, tmp_path, clock):
    follower = follow(images_per_file=None, n_images=None)
    write_series(tmp_path, master=False, images_per_file=100)
    assert follower.poll() == []
    clock.now = 0.9
    assert follower.poll() == []
    clock.now = 1.1
    assert ranges(follower.poll()) == [(3, 0, 23)]


def test_dates_in_the_folder_are_filled_in(tmp_path):
    import datetime

    today = datetime.datetime.now().astimezone().strftime("%Y/%m")
    names = new_masters(str(tmp_path / "%Y" / "%m"))
    assert next(names) is None
    (tmp_path / today).mkdir(parents=True)
    series_files(tmp_path / today).write_master()
    assert next(names) == (str(tmp_path / today / "gel"), 3)


def test_frames_that_were_read_otherwise_are_passed_over(follow, tmp_path):
    follower, files = follow(), series_files(tmp_path)
    write_file(files, 1)
    follower.poll()
    write_file(files, 2)
    follower.pass_over(str(tmp_path / "gel_3"), 20)
    follower.pass_over(str(tmp_path / "gel_4"), 23)
    write_file(files, 3)
    assert ranges(follower.poll()) == [(3, 20, 23)]


class Signal:
    def __init__(self, value):
        self.value = value

    def get(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def device(pattern="abc_$id", images_per_file=50, n_images=400, **cam):
    file = {
        "file_path": Signal("/data/"),
        "file_write_name_pattern": Signal(pattern),
        "sequence_id": Signal(6),
        "file_write_images_per_file": Signal(images_per_file),
    }
    parts = {
        "file": type("File", (), file)(),
        "cam": type("Cam", (), {"num_images": Signal(n_images), **cam})(),
        "name": "eiger4m_single",
    }
    return type("Eiger", (), parts)()


@pytest.mark.parametrize("place", ["cam", "device"])
def test_a_staged_device_tells_the_next_series(place):
    triggered = device(**({"num_triggers": Signal(2)} if place == "cam" else {}))
    if place == "device":  # as at CHX
        triggered.num_triggers = Signal(2)
    staged = staged_series(triggered)
    assert (staged.prefix, staged.sequence_id) == ("/data/abc", 7)
    assert (staged.images_per_file, staged.n_frames) == (50, 800)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (device(pattern="abc"), "ends in"),
        (device(n_images=0), "above 0"),
        (device(pattern=TimeoutError("the IOC is gone")), "the IOC is gone"),
        (device(images_per_file="many"), "many"),
        (object(), "no file plugin"),
    ],
)
def test_a_device_that_does_not_tell_is_not_followed(odd, message, caplog):
    caplog.set_level("INFO")
    assert staged_series(odd) is None
    assert message in caplog.text


def test_a_file_system_that_stumbles_is_asked_again(follow, tmp_path, monkeypatch):
    write_series(tmp_path)
    follower, stat = follow(), os.stat

    def stumble(path, *args, **options):
        if "gel_3_" in str(path):
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return stat(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stumble)
        assert follower.poll() == []
    assert ranges(follower.poll()) == [(3, 0, 23)]
