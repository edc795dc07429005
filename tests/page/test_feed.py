"""One run, read and followed, as all pages share it."""

import asyncio
import time

import numpy as np
import pytest

from tests.support.written import end, publish
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.page.feed import READ
from xpcs_live_denoise.page.hub import Hub
from xpcs_live_denoise.page.tiled_http import TiledHttp
from xpcs_live_denoise.readers import results
from xpcs_live_denoise.records.results import BandRows, C2Rows
from xpcs_live_denoise.sinks.run import TiledSink

DEADLINE_S = 120


async def until(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.02)


class WithoutStreams(TiledHttp):
    """As a server whose proxy or version has no route for streams."""

    def stream_address(self, path):
        return self.address.replace("http", "ws") + "/api/v1/stream-of-none"


def with_hub(server, work, kind=TiledHttp, **options):
    """Run `work(hub)` in a loop of its own."""

    async def main():
        hub = Hub(kind(server.uri, server.api_key), "processed", **options)
        try:
            await hub.start()
            return await work(hub)
        finally:
            await hub.close()

    return asyncio.run(main())


def shown(feed, index=1):
    return feed.state.map_of(index).full(feed.state.n_frames)


def denoised(feed, index=1):
    return feed.state.band_of(index, 50).square(0, feed.state.n_frames)


def traced(feed):
    return feed.state.data.trace.drawn(feed.state.n_frames)[1]


def near(square, window=50):
    """A square as far as windows reach."""
    apart = abs(np.subtract.outer(np.arange(len(square)), np.arange(len(square))))
    return np.where(apart < window, square, np.nan)


def test_a_late_opener_sees_the_whole_of_a_live_run_and_then_what_comes(
    tiled_server, tiled_client, synthetic
):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 30))

    async def work(hub):
        feed = await hub.open((await hub.find(run.raw_uid))[0])
        await until(lambda: feed.state.loaded)
        np.testing.assert_array_equal(shown(feed), run.c2[1, :30, :30])
        np.testing.assert_array_equal(denoised(feed), run.denoised[1, :30, :30])
        assert len(feed.state.data.gamma) == 2 * 30
        np.testing.assert_allclose(traced(feed), run.roi_mean[:30])
        await until(lambda: len(feed.followed) == 9)
        await asyncio.to_thread(publish, sink, run.publication(30, 50))
        await until(lambda: traced(feed).shape == (50, 2))
        np.testing.assert_allclose(traced(feed), run.roi_mean[:50])
        await until(lambda: np.array_equal(shown(feed), run.c2[1, :50, :50]))
        await until(lambda: len(feed.state.data.gamma) == 100)
        await until(lambda: feed.state.data.status.n_processed == 50)
        feed.want(0)
        await until(lambda: 0 in feed.state.data.bands)
        await asyncio.to_thread(end, sink, run.result())
        await until(lambda: feed.state.complete)
        assert set(feed.state.data.g2) == set(READ["g2"])
        assert feed.state.data.gamma.final.all()
        np.testing.assert_allclose(traced(feed), run.roi_mean)
        for index in (0, 1):
            np.testing.assert_array_equal(shown(feed, index), run.c2[index])
            np.testing.assert_array_equal(denoised(feed, index), near(run.denoised[index]))
        assert not feed.followed
        return feed.state.data.gamma

    gamma = with_hub(tiled_server, work)
    stored = results(tiled_client, run.raw_uid).gamma_table()
    order = ["roi", "source", "width", "age_frame"]
    assert gamma.to_pandas().sort_values(order)["relaxation_rate"].tolist() == (
        stored["relaxation_rate"].tolist()
    )


def test_a_run_without_a_frame_is_opened_and_followed(tiled_server, tiled_client, synthetic):
    run = synthetic(seed=6)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 10))
    stored = tiled_client["processed", sink.uid]
    stored.update_metadata({"n_frames": 0}, drop_revision=True)  # as between the two writes

    async def work(hub):
        feed = await hub.open(sink.uid)
        await until(lambda: feed.state.loaded and len(feed.followed) == 9 and not hub.notice)
        await asyncio.to_thread(publish, sink, run.publication(10, 20))
        await until(lambda: feed.state.n_frames == 20)
        await until(lambda: np.array_equal(shown(feed), run.c2[1, :20, :20]))
        await until(lambda: np.array_equal(denoised(feed), run.denoised[1, :20, :20]))

    with_hub(tiled_server, work)


def test_a_map_that_gets_larger_bins_while_it_is_followed_is_read_anew(
    tiled_server, tiled_client, synthetic
):
    run = synthetic(seed=7, n_expected=None)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 40))
    halves = run.c2.reshape(2, 30, 2, 30, 2).mean(axis=(2, 4))
    halves = (halves + halves.swapaxes(1, 2)) / 2

    def binned(start, stop):
        rows = C2Rows(start=start, stop=stop, values=halves[:, start:stop, :stop], frames_per_bin=2)
        return run.publication(2 * max(start, 20), 2 * stop, c2=rows)

    async def work(hub):
        feed = await hub.open(sink.uid)
        await until(lambda: len(feed.followed) == 9)
        np.testing.assert_array_equal(shown(feed), run.c2[1, :40, :40])
        await asyncio.to_thread(publish, sink, binned(0, 25))
        await until(lambda: feed.state.n_frames == 50)
        await until(lambda: np.array_equal(shown(feed), halves[1, :25, :25]))
        await asyncio.to_thread(publish, sink, binned(24, 30))
        await until(lambda: np.array_equal(shown(feed), halves[1]))
        await until(lambda: feed.state.data.bands[1].n_frames == 60)
        view = feed.state.two_time(1)
        assert view.raw_title == "Raw C2, 2 frames/bin"
        np.testing.assert_array_equal(view.strip.values[4, 5:], np.diagonal(run.denoised[1], -5))

    with_hub(tiled_server, work)


def test_a_long_series_is_opened_with_as_many_requests_as_a_short_one(
    tiled_server, tiled_client, synthetic
):
    run, n = synthetic(seed=8, n_expected=None, n_roi=1), 3000
    rng = np.random.default_rng(0)
    rows = rng.normal(1.2, 0.01, (1, n, 50)).astype(np.float32)
    bins = C2Rows(start=0, stop=60, values=run.c2, frames_per_bin=50)
    news = BandRows(start=0, stop=n, c2=rows, denoised=rows + np.float32(0.1))
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 60, n_frames=n, c2=bins, band=news))
    asked = []

    class Counted(TiledHttp):
        async def array(self, path, structure, index=()):
            if "/two_time/" in path:
                asked.append(index)
            return await super().array(path, structure, index)

    async def work(hub):
        feed = await hub.open(sink.uid)
        await until(lambda: feed.state.loaded)
        n_asked = len(asked)
        strip = feed.state.two_time(0).strip
        assert np.isfinite(strip.values[:, 8:]).all()
        np.testing.assert_allclose(strip.values[:, 8:], 1.3, atol=0.05)
        assert strip.end_s == pytest.approx(1500, rel=0.01)
        return n_asked

    assert with_hub(tiled_server, work, Counted) <= 5
    assert sum(len(range(*rows[1].indices(n))) for rows in asked[:5]) < 2000


def test_pages_share_one_feed_and_the_last_closes_it(tiled_server, tiled_client, synthetic):
    run = synthetic(seed=1)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 10))

    async def work(hub):
        first = await hub.open((await hub.find(run.raw_uid))[0])
        assert await hub.open(sink.uid) is first
        await until(lambda: first.followed)
        hub.release(first)
        await asyncio.sleep(0.1)
        assert first.followed
        hub.release(first)
        await until(lambda: not first.followed)
        assert await hub.open(sink.uid) is not first

    with_hub(tiled_server, work)


def test_an_unknown_run_is_told_with_where_it_was_looked_for(tiled_server):
    async def work(hub):
        with pytest.raises(ResultNotFoundError, match="Run nonsense: no result in /processed"):
            await hub.find("nonsense")
        with pytest.raises(ResultNotFoundError, match="no result"):
            await hub.find("../raw")

    with_hub(tiled_server, work)


def test_the_list_grows_with_every_run_and_shows_frames_and_end(
    tiled_server, tiled_client, synthetic
):
    run = synthetic(seed=2, start={"sample": "<b>gel</b>", "scan_id": 12})
    sink = TiledSink(run.info, client=tiled_client)

    async def work(hub):
        def line():
            return next((line for line in hub.runs if line.uid == sink.uid), None)

        await until(lambda: hub.version >= 2)  # the list was read again: the subscription stands
        await asyncio.to_thread(publish, sink, run.publication(0, 20))
        await until(lambda: line() is not None and line().n_frames == 20)
        assert hub.runs[0] == line()
        assert (line().scan_id, line().sample, line().state) == ("12", "<b>gel</b>", "live")
        assert (line().n_expected, line().raw_uid) == (60, run.raw_uid)
        await asyncio.to_thread(end, sink, run.result())
        await until(lambda: line().state == "success")
        assert line().n_frames == 60

    with_hub(tiled_server, work)


def test_a_restart_of_the_server_is_told_and_then_nothing_is_missing(outage_server, synthetic):
    run, server = synthetic(seed=3), outage_server
    sink = TiledSink(run.info, client=server.client())
    sink.write(run.publication(0, 20))

    async def work(hub):
        feed = await hub.open(sink.uid)
        await until(lambda: len(feed.followed) == 9)
        await asyncio.to_thread(server.stop)
        await until(lambda: "No connection to the Tiled server" in hub.notice)
        np.testing.assert_array_equal(shown(feed), run.c2[1, :20, :20])
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(publish, sink, run.publication(20, 40))
        await until(lambda: not hub.notice)
        await until(lambda: feed.state.n_frames == 40 and len(feed.state.data.gamma) == 80)
        await until(lambda: np.array_equal(shown(feed), run.c2[1, :40, :40]))
        await asyncio.to_thread(end, sink, run.result())
        await until(lambda: feed.state.complete)

    with_hub(server, work)


@pytest.mark.parametrize("follow_list", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_server_without_streams_is_asked_again_and_again(
    tiled_server, tiled_client, synthetic, follow_list
):
    run = synthetic(seed=4)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 20))

    async def work(hub):
        feed = await hub.open(sink.uid)
        await until(lambda: "offers no streaming" in hub.notice)
        await asyncio.to_thread(publish, sink, run.publication(20, 60))
        await until(lambda: feed.state.n_frames == 60 and len(feed.state.data.gamma) == 120)
        await until(lambda: np.array_equal(shown(feed), run.c2[1]))
        await asyncio.to_thread(end, sink, run.result())
        await until(lambda: feed.state.complete)

    with_hub(tiled_server, work, WithoutStreams, follow_list=follow_list)
