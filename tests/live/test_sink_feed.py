"""The feed between a run and a sink: deltas, failures, and what is offered again."""

import dataclasses
import logging

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.live import outbox as sink_feed
from xpcs_live_denoise.live.outbox import SinkFeed
from xpcs_live_denoise.records.results import C2Rows, Publication
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status

INFO = RunInfo(
    start={"uid": "abc"}, detector="d", image_key="d_image", frame_shape=(4, 4), frame_time_s=1.0,
    n_expected=None, roi=(1,), q_inv_angstrom=(0.1,), n_pixels=(16,), window=50, step=5,
    mode="nonequilibrium", engine="auto",
)  # fmt: skip
END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


class Recorder:
    """A sink that fails as often as it is told."""

    def __init__(self, failures=0, error=None):
        self.failures = failures
        self.error = error or ConnectionError("server is away")
        self.records, self.end = [], None

    def write(self, record):
        if self.failures:
            self.failures -= 1
            raise self.error
        self.records.append(record)

    def finish(self, end):
        self.end = end


def news(start, stop):
    values = np.arange(stop * (stop - start), dtype=float).reshape(1, stop - start, stop)
    rows = C2Rows(start=start, stop=stop, values=values)
    return Publication(n_frames=stop, c2=rows, bands=(), gamma=None, status=Status())


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(sink_feed, "FIRST_PAUSE_S", 0.0)


def feed_of(sink):
    feed = SinkFeed(lambda info: sink, "abc")
    feed.info = INFO
    return feed


def test_the_sink_is_made_once_and_only_when_there_is_something_to_write():
    made = []
    feed = SinkFeed(lambda info: made.append(info) or Recorder(), "abc")
    feed.info = INFO
    assert made == []
    feed.write(news(0, 3))
    feed.write(news(3, 5))
    assert made == [INFO]
    assert feed.n_frames == 5


def test_rows_that_the_sink_could_not_take_come_again_with_the_next(no_pause, caplog):
    sink = Recorder(failures=1)
    feed = feed_of(sink)
    with caplog.at_level(logging.WARNING):
        feed.write(news(0, 3))
        assert feed.n_frames == 0
        feed.write(news(0, 5))
    assert [(record.c2.start, record.c2.stop) for record in sink.records] == [(0, 5)]
    assert feed.n_frames == 5
    assert "server is away" in caplog.text


def test_a_sink_behind_others_gets_only_the_rows_it_lacks():
    sink = Recorder()
    feed = feed_of(sink)
    feed.write(news(0, 3))
    feed.write(news(0, 5))
    second = sink.records[1].c2
    assert (second.start, second.stop, second.values.shape) == (3, 5, (1, 2, 5))
    np.testing.assert_array_equal(second.values, news(0, 5).c2.values[:, 3:])


def test_after_a_failure_the_sink_is_left_alone_for_a_while(caplog):
    sink = Recorder(failures=1)
    feed = feed_of(sink)
    for stop in (3, 4, 5):
        feed.write(news(0, stop))
    assert sink.records == []
    assert caplog.text.count("cannot be published") == 1


def test_a_factory_that_fails_is_tried_again(no_pause):
    sink, attempts = Recorder(), []

    def factory(info):
        attempts.append(info)
        if len(attempts) == 1:
            raise ConnectionError("server is down")
        return sink

    feed = SinkFeed(factory, "abc")
    feed.info = INFO
    feed.write(news(0, 3))
    feed.write(news(0, 4))
    feed.finish(None, END)
    assert len(attempts) == 2
    assert sink.end is END


def test_what_a_user_must_put_right_is_told_apart_and_offered_again_all_the_same(no_pause):
    sink = Recorder(failures=1, error=InvalidInputError("this holds raw runs"))
    feed = feed_of(sink)
    feed.finish(news(0, 3), END)
    assert feed.trouble == "Not stored: this holds raw runs"
    feed.retry()
    assert feed.trouble == ""
    assert sink.end is END


def test_a_final_result_is_offered_again(no_pause):
    sink = Recorder(failures=2)
    feed = feed_of(sink)
    feed.finish(news(0, 3), END)
    assert feed.delivering
    assert feed.trouble == "Not stored yet: server is away"
    feed.retry()
    feed.retry()
    assert not feed.delivering
    assert feed.trouble == ""
    assert len(sink.records) == 1
    assert sink.end is END
    feed.retry()
    assert len(sink.records) == 1


def test_a_sink_without_a_spool_is_given_up_some_time_after_the_end(no_pause, monkeypatch, caplog):
    monkeypatch.setattr(sink_feed, "GIVE_UP_S", 0.0)
    attempts = []

    def broken(info):
        attempts.append(info)
        raise TypeError("no sink")

    feed = SinkFeed(broken, "abc")
    feed.info = INFO
    for stop in (3, 4, 5):
        feed.write(news(0, stop))
    assert len(attempts) == 3, "while the run goes on it may come any time"
    feed.finish(news(0, 5), END)
    assert not feed.delivering
    feed.retry()
    assert len(attempts) == 4
    assert caplog.text.count("Run abc: the final results could not be stored.") == 1


def test_a_final_result_waits_between_attempts():
    sink = Recorder(failures=1)
    feed = feed_of(sink)
    feed.finish(news(0, 3), END)
    feed.retry()
    assert feed.delivering


def test_a_sink_that_stays_away_ends_in_one_clear_line(caplog):
    feed = feed_of(Recorder(failures=99))
    feed.finish(news(0, 3), END)
    feed.abandon()
    assert not feed.delivering
    assert "Run abc: the final results could not be stored. Not stored yet: server" in caplog.text
    assert "analyse" in caplog.text


def test_what_was_kept_is_offered_again_without_new_frames(no_pause):
    sink = Recorder(failures=1)
    feed = feed_of(sink)
    feed.write(news(0, 3))
    feed.retry()
    assert [(record.c2.start, record.c2.stop) for record in sink.records] == [(0, 3)]
    assert (feed.n_frames, feed.trouble) == (3, "")
    feed.retry()
    assert len(sink.records) == 1


def test_facts_that_no_result_holds_are_written_before_it(no_pause):
    sink = Recorder(failures=1)
    feed = feed_of(sink)
    feed.write(dataclasses.replace(news(0, 3), metadata={"later": "other"}))
    result = news(0, 5)
    feed.finish(result, END)
    facts, last = sink.records
    assert (facts.metadata, facts.c2, facts.n_frames) == ({"later": "other"}, None, 0)
    assert last is result
