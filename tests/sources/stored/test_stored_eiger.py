"""Which series on disk are those of a run that Tiled knows only by the prefix of its files."""

import datetime
import os

import pytest

from tests.support.eiger_series import series_files, write_file, write_series
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.stored.eiger import images_per_file, series_of_events

BEGAN = 1_700_000_000.0


def written(folder, sequence_id, after_s, **options):
    """Write a series whose master came so long after the run began."""
    files = write_series(folder, sequence_id=sequence_id, **options)
    os.utime(folder / f"{files.series.name}_master.h5", (BEGAN, BEGAN + after_s))


def found(folder, *times_s, roots=None, n_images=23, prefix="gel"):
    series = series_in(folder, *times_s, roots=roots, n_images=n_images, prefix=prefix)
    return [int(one.series.rpartition("_")[2]) for one in series]


def series_in(folder, *times_s, roots=None, n_images=23, prefix="gel"):
    return series_of_events(
        "Run abc",
        [str(folder / prefix)],
        began_s=BEGAN,
        times_s=[BEGAN + time for time in times_s],
        n_images=n_images,
        roots=FileRoots([folder] if roots is None else roots),
    )


def test_each_event_has_its_series_in_the_order_of_their_numbers(tmp_path):
    for sequence_id in (11, 9, 10):
        written(tmp_path, sequence_id, 2.0 * sequence_id - 17)
    assert found(tmp_path, 3, 5, 7) == [9, 10, 11]
    assert found(tmp_path) == []


def test_series_of_other_runs_with_the_same_prefix_are_left_alone(tmp_path):
    for sequence_id, after_s in ((3, -20), (4, 1), (5, 30)):
        written(tmp_path, sequence_id, after_s)
    assert found(tmp_path, 10) == [4]


@pytest.mark.parametrize("after_s", [-1.5, 11.5, 40])
def test_clocks_need_not_agree(tmp_path, after_s):
    written(tmp_path, 3, after_s)
    assert found(tmp_path, 10) == [3]


def test_a_series_that_broke_off_does_not_count_where_another_is_whole(tmp_path):
    written(tmp_path, 3, 1, without=(2, 3))
    written(tmp_path, 4, 2)
    assert found(tmp_path, 10) == [4]


def test_a_series_without_some_of_its_files_is_found_where_there_is_no_other(tmp_path):
    written(tmp_path, 3, 1, without=(1, 3))
    assert found(tmp_path, 10) == [3]


@pytest.mark.parametrize(
    ("n_frames", "n_triggers", "n_images", "fits"),
    [(23, 1, 23, True), (20, 4, 5, True), (23, 1, None, True), (23, 1, 20, False)],
)
def test_the_frames_of_a_trigger_must_be_those_of_the_run(
    tmp_path, n_frames, n_triggers, n_images, fits
):
    written(tmp_path, 3, 1, n_frames=n_frames, n_triggers=n_triggers)
    if fits:
        assert found(tmp_path, 10, n_images=n_images) == [3]
        return
    with pytest.raises(UnreadableFramesError, match=r"0 series there of 20 frames.*There is gel_3"):
        found(tmp_path, 10, n_images=n_images)


@pytest.mark.parametrize("whole", [(3, 4), (3,), ()])
def test_the_last_series_before_an_event_is_its_own(tmp_path, whole, caplog):
    for sequence_id, after_s in ((3, 1), (4, 2), (5, 12)):
        left_out = () if sequence_id in (*whole, 5) else (2, 3)
        written(tmp_path, sequence_id, after_s, without=left_out)
    assert found(tmp_path, 10) == [4], "a run that is paused takes its exposure again"
    assert "gel_3 came before the same events as gel_4" in caplog.text
    assert found(tmp_path, 10, 15) == [4, 5]


@pytest.mark.parametrize("times_after_s", [(), (-100,), (500,), (10.5, 11)])
def test_without_exactly_one_series_an_event_the_message_says_what_is_there(
    tmp_path, times_after_s
):
    for sequence_id, after_s in enumerate(times_after_s, start=3):
        written(tmp_path, sequence_id, after_s)
    there = "no master file"
    if times_after_s:
        of_all = zip(range(3, 5), times_after_s, strict=False)
        there = ", ".join(f"gel_{k} (23 frames, {shown(s)})" for k, s in of_all)
    with pytest.raises(UnreadableFramesError) as failed:
        found(tmp_path, 10)
    message = str(failed.value)
    assert message.startswith("Run abc: Tiled stores only the path")
    assert f"expected 1, one for each event. There is {there}." in message
    assert "--series N" in message
    assert "rsync -t" in message


def shown(after_s):
    time = datetime.datetime.fromtimestamp(BEGAN + after_s).astimezone()
    return f"{time:%Y-%m-%d %H:%M:%S}"


def test_files_outside_the_roots_are_not_looked_at(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    written(outside, 3, 1)
    with pytest.raises(UnreadableFramesError, match="not below a folder that may be read"):
        found(outside, 10, roots=[inside])
    (inside / "gel_3_master.h5").symlink_to(outside / "gel_3_master.h5")
    with pytest.raises(UnreadableFramesError, match="0 series there"):
        found(inside, 10)


@pytest.mark.parametrize("prefix", ["gel.*", "no\x00path", "missing/folder/gel"])
def test_a_prefix_that_leads_nowhere_is_told(tmp_path, prefix):
    written(tmp_path, 3, 1)
    with pytest.raises(UnreadableFramesError):
        found(tmp_path, 10, prefix=prefix)


def test_a_master_that_cannot_be_read_still_counts(tmp_path):
    written(tmp_path, 3, 1)
    master = tmp_path / "gel_3_master.h5"
    master.write_bytes(b"no HDF5")
    os.utime(master, (BEGAN, BEGAN + 1))
    assert found(tmp_path, 10) == [3]


@pytest.mark.parametrize(
    ("there", "each"), [((1, 2, 3), 10), ((2, 3), 10), ((3,), None), ((), None)]
)
def test_the_files_that_are_there_tell_how_many_frames_a_full_one_holds(tmp_path, there, each):
    files = series_files(tmp_path)
    files.write_master()
    for number in there:
        write_file(files, number)
    os.utime(tmp_path / "gel_3_master.h5", (BEGAN, BEGAN + 1))
    (series,) = series_in(tmp_path, 10)
    assert images_per_file(series, FileRoots([tmp_path])) == each
