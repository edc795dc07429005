"""Two processes at one spool, and a disk that refuses: no result is lost, nothing is left over."""

import errno

import pytest

from xpcs_live_denoise.sinks import spool
from xpcs_live_denoise.sinks.spool import Spool, spooled_folders


def records_in(root):
    (folder,) = spooled_folders(root)
    with Spool.open(folder) as run:
        return list(run.records())


def spooled(root, run, uid="derived"):
    box = Spool(root, run.info, uid=uid, time=5.0, path="processed")
    box.put(run.publication(0, 5))
    return box


def test_who_looks_into_a_folder_while_it_is_removed_leaves_nothing_there(
    tmp_path, synthetic, monkeypatch
):
    box = spooled(tmp_path, synthetic())
    rmdir, seen = type(tmp_path).rmdir, []

    def look_first(folder):
        if not seen:  # another process, between the removal of the lock and that of the folder
            seen.append(folder)
            with pytest.raises(FileNotFoundError):
                Spool.open(folder)
        if folder.exists():
            rmdir(folder)

    monkeypatch.setattr(type(tmp_path), "rmdir", look_first)
    box.clear()
    assert seen == [box.folder]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_looked_into_a_little_longer_is_removed_by_who_looks(
    tmp_path, synthetic, monkeypatch
):
    box = spooled(tmp_path, synthetic())
    rmdir = type(tmp_path).rmdir

    def lock_first(folder):
        (folder / spool.LOCK).touch()  # as the other one opens its lock
        monkeypatch.setattr(type(tmp_path), "rmdir", rmdir)
        rmdir(folder)

    monkeypatch.setattr(type(tmp_path), "rmdir", lock_first)
    box.clear()
    with pytest.raises(FileNotFoundError):
        Spool.open(box.folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_its_record_but_with_results_is_left_as_it_is(tmp_path, synthetic):
    box = spooled(tmp_path, synthetic())
    box.close()
    (box.folder / spool.RUN).unlink()
    with pytest.raises(FileNotFoundError):
        Spool.open(box.folder)
    assert len(list(box.folder.glob("*-publication.npz"))) == 1


def test_a_run_that_is_delivered_while_the_spool_is_listed_is_not_listed(
    tmp_path, synthetic, monkeypatch
):
    boxes = [spooled(tmp_path, synthetic(), uid) for uid in ("one", "two")]
    glob = type(tmp_path).glob

    def deliver_one(root, pattern):
        found = list(glob(root, pattern))
        boxes[0].clear()
        return found

    monkeypatch.setattr(type(tmp_path), "glob", deliver_one)
    assert spooled_folders(tmp_path) == [boxes[1].folder]
    boxes[1].close()


def test_a_run_whose_record_the_disk_refused_once_is_listed_all_the_same(
    tmp_path, synthetic, monkeypatch
):
    box = Spool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")

    def refuse(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "write_record", refuse)
        with pytest.raises(OSError, match="No space left"):
            box.put(synthetic().publication(0, 5))
    assert spooled_folders(tmp_path) == []
    box.put(synthetic().publication(0, 9))
    box.close()
    assert [record.n_frames for record in records_in(tmp_path)] == [9]
