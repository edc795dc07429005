"""What documents add to frames that were followed."""

import numpy as np
import pytest

from tests.support.eiger_series import frames_of, series_files, write_series
from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import AssetFrames, HDF5Frames, InlineFrames, MissingFrames
from xpcs_live_denoise.sources.eiger.follow import EigerFollower, numbered_series
from xpcs_live_denoise.sources.eiger.reconcile import Following, follow


@pytest.fixture
def following(tmp_path):
    names = numbered_series(str(tmp_path / "gel"), 3)
    follower = EigerFollower(names, roots=ANYWHERE, images_per_file=10, n_images=23, n_series=2)
    return Following(follower, "the-run")


def ranges(references):
    return [(reference.start, reference.stop) for reference in references]


def test_an_event_adds_what_was_not_followed_yet(following, tmp_path):
    write_series(tmp_path, without=[3])
    assert ranges(following.poll()) == [(0, 20)]
    assert ranges(following.reconcile(frames_of(tmp_path))) == [(20, 23)]
    assert following.reconcile(frames_of(tmp_path)) == (), "said twice, read once"
    write_series(tmp_path)
    assert following.poll() == following.finish() == ()


@pytest.mark.parametrize("n_images", [23, None])
def test_an_event_that_does_not_say_how_many_frames_it_has_is_read_to_the_end(tmp_path, n_images):
    names = numbered_series(str(tmp_path / "gel"), 3)
    follower = EigerFollower(names, roots=ANYWHERE, images_per_file=10, n_images=n_images)
    following = Following(follower, "the-run")
    write_series(tmp_path, without=[3], master=False)
    assert ranges(following.poll()) == [(0, 20)]
    assert ranges(following.reconcile(frames_of(tmp_path, stop=None))) == [(20, n_images)]
    write_series(tmp_path, master=False)
    assert following.poll() == following.finish() == ()


def test_events_of_single_frames_add_nothing_to_what_was_followed(following, tmp_path):
    write_series(tmp_path, without=[2, 3])
    following.poll()
    events = [frames_of(tmp_path, start, start + 1) for start in range(12)]
    assert ranges(sum((following.reconcile(event) for event in events), ())) == [(10, 11), (11, 12)]


def test_a_prefix_with_a_link_in_it_is_the_same_series(following, tmp_path):
    write_series(tmp_path, without=[3])
    following.poll()
    (tmp_path / "link").symlink_to(tmp_path)
    assert ranges(following.reconcile(frames_of(tmp_path / "link"))) == [(20, 23)]
    write_series(tmp_path)
    assert following.poll() == following.finish() == ()


def test_before_anything_was_followed_an_event_may_name_any_series(following, tmp_path):
    other = frames_of(tmp_path, sequence_id=9)
    assert following.reconcile(other) == (other,)
    write_series(tmp_path)
    assert following.poll() == following.finish() == (), "the followed series is not the run's"


def test_what_an_event_brought_is_not_followed_again(following, tmp_path):
    write_series(tmp_path)
    assert ranges(following.reconcile(frames_of(tmp_path))) == [(0, 23)]
    assert following.poll() == following.finish() == ()


def test_an_event_of_another_series_begins_the_run_anew_with_that_one(following, tmp_path):
    write_series(tmp_path)
    following.poll()
    start_over, named = following.reconcile(frames_of(tmp_path, sequence_id=9))
    assert "names the series gel_9: the frames of gel_3, which were" in start_over.reason
    assert named == frames_of(tmp_path, sequence_id=9)
    write_series(tmp_path, sequence_id=10)
    assert ranges(following.poll()) == [(0, 23)], "the next series of the run is behind it"


def test_a_series_behind_the_last_of_the_run_takes_its_place_when_it_has_frames(tmp_path):
    following = of_one_series(tmp_path)
    write_series(tmp_path, without=[2, 3])
    assert ranges(following.poll()) == [(0, 10)]
    series_files(tmp_path, sequence_id=4).write_master()
    assert following.poll() == ()
    write_series(tmp_path, sequence_id=4, without=[3])
    start_over, again = following.poll()
    assert "began the series gel_4 before an event named gel_3" in start_over.reason
    assert (again.sequence_id, again.start, again.stop) == (4, 0, 20)
    assert ranges(following.reconcile(frames_of(tmp_path, sequence_id=4))) == [(20, 23)]
    write_series(tmp_path, sequence_id=5)
    assert following.poll() == following.finish() == (), "the event has named one"


def test_of_two_series_that_were_begun_anew_the_newest_with_frames_counts(tmp_path):
    following = of_one_series(tmp_path)
    write_series(tmp_path, without=[2, 3])
    following.poll()
    for sequence_id in (4, 5, 6):
        series_files(tmp_path, sequence_id=sequence_id).write_master()
        assert following.poll() == ()
    for sequence_id in (4, 5):
        write_series(tmp_path, sequence_id=sequence_id, without=[2, 3])
    _, again = following.poll()
    assert (again.sequence_id, again.stop) == (5, 10)
    files = series_files(tmp_path, sequence_id=6)
    files.write_data(1, np.ones((4, 12, 16), np.uint16))
    _, last = following.finish()
    assert (last.sequence_id, last.start, last.stop) == (6, 0, 4)


def test_while_documents_wait_no_series_is_left(tmp_path):
    following = of_one_series(tmp_path)
    write_series(tmp_path, without=[3])
    assert ranges(following.poll()) == [(0, 20)]
    write_series(tmp_path, sequence_id=4)
    assert following.poll(is_current=lambda: False) == ()
    assert ranges(following.reconcile(frames_of(tmp_path))) == [(20, 23)]
    assert following.poll() == ()


def test_a_point_that_was_taken_again_leaves_the_points_before_it_where_they_are(tmp_path):
    following = of_one_series(tmp_path, n_series=3)
    for sequence_id in (3, 4):
        write_series(tmp_path, sequence_id=sequence_id)
        following.poll()
        if sequence_id == 3:
            assert following.reconcile(frames_of(tmp_path)) == ()
    write_series(tmp_path, sequence_id=5)
    following.poll()  # taken for the third point
    start_over, *again = following.reconcile(frames_of(tmp_path, sequence_id=5))
    assert "frames of gel_4, which were followed" in start_over.reason
    assert [(one.sequence_id, one.start, one.stop) for one in again] == [(3, 0, 23), (5, 0, 23)]
    write_series(tmp_path, sequence_id=6)
    assert [one.sequence_id for one in following.poll()] == [6]


def test_the_event_has_the_last_word_on_a_series_that_was_left(tmp_path):
    following = of_one_series(tmp_path)
    for sequence_id in (3, 4):
        write_series(tmp_path, sequence_id=sequence_id)
        following.poll()
    _, again = following.reconcile(frames_of(tmp_path))
    assert (again.sequence_id, again.start, again.stop) == (3, 0, 23)
    assert following.poll() == following.finish() == ()


def of_one_series(folder, n_series=1):
    names = numbered_series(str(folder / "gel"), 3)
    options = {"images_per_file": 10, "n_images": 23, "n_series": n_series}
    return Following(EigerFollower(names, roots=ANYWHERE, **options), "the-run")


def test_the_next_series_of_a_run_may_come_when_an_event_named_the_one_before(following, tmp_path):
    write_series(tmp_path)
    following.poll()
    assert following.reconcile(frames_of(tmp_path)) == ()
    write_series(tmp_path, sequence_id=4)
    assert ranges(following.poll()) == [(0, 23)]
    assert following.reconcile(frames_of(tmp_path, sequence_id=4)) == ()


def test_a_stream_goes_on_where_the_files_stopped(following, tmp_path):
    write_series(tmp_path, without=[3])
    following.poll()
    stream = [HDF5Frames(path="a.h5", dataset="x", start=k, stop=k + 15) for k in (0, 15)]
    assert following.reconcile(stream[0]) == ()
    assert ranges(following.reconcile(stream[1])) == [(20, 30)]
    write_series(tmp_path)
    assert following.poll() == (), "the documents win"


def test_inline_frames_go_on_where_the_files_stopped(following, tmp_path):
    write_series(tmp_path, without=[2, 3])
    following.poll()
    frames = np.arange(12)[:, None, None] * np.ones((1, 2, 2))
    (rest,) = following.reconcile(InlineFrames(frames=frames))
    np.testing.assert_array_equal(rest.frames[:, 0, 0], [10, 11])
    assert following.already(5) == 0


def test_announced_frames_that_cannot_be_read_are_no_gap_if_they_were_followed(following, tmp_path):
    write_series(tmp_path)
    following.poll()
    assert following.reconcile(MissingFrames(n_frames=23, reason="a datum was lost")) == ()


def test_a_lost_event_after_one_that_was_not_is_a_gap_of_its_own(following, tmp_path):
    write_series(tmp_path)
    following.poll()
    assert following.reconcile(frames_of(tmp_path)) == ()
    lost = MissingFrames(n_frames=23, reason="a datum was lost")
    assert following.reconcile(lost) == (lost,)


def test_frames_of_an_asset_cannot_be_told_from_followed_ones(following, tmp_path):
    write_series(tmp_path, without=[3])
    following.poll()
    with pytest.raises(InvalidInputError, match="legacy asset"):
        following.reconcile(AssetFrames(resource={}, datum={}, n_frames=23))


def test_a_run_that_ends_without_an_event_keeps_its_last_file(following, tmp_path):
    files = write_series(tmp_path, without=[2, 3])
    files.write_data(2, np.ones((4, 12, 16), np.uint16))
    assert ranges(following.poll()) == [(0, 10)]
    assert ranges(following.finish()) == [(10, 14)]


@pytest.mark.parametrize("detectors", [None, [], ["other"], "cam", 7])
def test_a_run_that_does_not_list_the_detector_is_not_followed(tmp_path, detectors):
    settings = Settings(detector="cam", follow={"folder": str(tmp_path)})
    assert follow(None, settings, {"uid": "a", "detectors": detectors}, ANYWHERE) is None
    assert follow(None, settings, {"uid": "a", "detectors": ["cam"]}, ANYWHERE) is not None
    assert (
        follow(None, Settings(detector="cam"), {"uid": "a", "detectors": ["cam"]}, ANYWHERE) is None
    )


def test_inline_frames_that_came_first_end_the_following(following, tmp_path):
    assert following.already(4, came=True) == 0
    write_series(tmp_path)
    assert following.poll() == following.finish() == (), "the documents win"


def test_frames_that_a_document_could_not_bring_do_not_end_the_following(following, tmp_path):
    assert following.already(4) == 0
    write_series(tmp_path)
    assert ranges(following.poll()) == [(0, 23)]
