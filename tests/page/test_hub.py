"""What the pages share, on a server that is not there."""

import asyncio
import time

import pytest

from tests.page.test_feed import until
from xpcs_live_denoise.errors import ResultNotFoundError, TiledUnavailableError
from xpcs_live_denoise.page.hub import Hub
from xpcs_live_denoise.page.run_list import LISTED_RUNS
from xpcs_live_denoise.page.tiled_http import TiledHttp

XPCS = {"roi": [1], "frame_time_s": 0.5, "n_expected": 20, "detector": "eiger"}


def run(started, n_frames=10, **more):
    return {"start": {"xpcs": XPCS, "time": started}, "n_frames": n_frames, **more}


class FakeHttp(TiledHttp):
    """A server with nothing but the metadata of runs; `away` when it does not answer."""

    def __init__(self, **runs):
        super().__init__("http://nowhere", None)
        self.stored, self.away = runs, False

    def _check(self):
        if self.away:
            raise TiledUnavailableError("no answer")

    async def metadata(self, path):
        self._check()
        uid = path.rpartition("/")[2]
        if uid not in self.stored:
            raise ResultNotFoundError(f"nothing at {uid}")
        return self.stored[uid]

    async def children(self, path):
        self._check()
        return {}

    async def runs(self, path, *, limit, where=None):
        self._check()
        newest = sorted(self.stored, key=lambda uid: self.stored[uid]["start"]["time"])[::-1]
        return {uid: self.stored[uid] for uid in newest[:limit]}


def update(uid, metadata):
    return {"key": uid, "specs": [{"name": "XPCSResult"}], "metadata": metadata}


def with_hub(http, work):
    async def main():
        hub = Hub(http, "processed")
        hub.streaming = False
        await hub.read_list()
        try:
            await work(hub)
        finally:
            await hub.close()

    asyncio.run(main())


async def opened(hub, uid):
    feed = await hub.open(uid)
    await feed.loaded(60)
    return feed


def uids(hub):
    return [line.uid for line in hub.runs]


def test_the_list_keeps_the_newest_runs_and_those_that_are_open():
    http = FakeHttp(**{f"r{n}": run(n) for n in range(LISTED_RUNS)})

    async def work(hub):
        feed = await opened(hub, "r0")
        for n in range(LISTED_RUNS, LISTED_RUNS + 5):
            http.stored[f"r{n}"] = run(n)
            hub.on_update(update(f"r{n}", run(n)))
        newest = [f"r{n}" for n in range(LISTED_RUNS + 4, 4, -1)]
        assert uids(hub) == [*newest, "r0"]
        await hub.read_list()
        assert uids(hub) == [*newest, "r0"]
        hub.release(feed)
        await hub.read_list()
        assert uids(hub) == newest

    with_hub(http, work)


def test_a_run_that_is_deleted_while_it_is_shown_is_told_and_stops_nothing_else():
    http = FakeHttp(a=run(1), b=run(2))

    async def work(hub):
        feed, other = await opened(hub, "a"), await opened(hub, "b")
        stored = http.stored.pop("a")
        http.stored["b"] = run(2, 15)
        await hub.look()
        assert feed.state.gone == "nothing at a"
        assert not feed.state.live
        assert uids(hub) == ["b"]
        assert other.state.n_frames == 15
        assert not http.broken
        http.stored["a"] = stored  # another server stood behind the address for a while
        await hub.look()
        assert feed.state.live

    with_hub(http, work)


def test_a_run_that_is_deleted_while_it_is_read_is_told():
    http = FakeHttp(a=run(1))

    async def work(hub):
        feed = await hub.open("a")
        del http.stored["a"]
        assert await feed.loaded(60)
        assert feed.state.gone
        assert not http.broken

    with_hub(http, work)


def test_a_page_that_is_left_while_the_server_is_away_leaves_no_notice():
    http = FakeHttp(a=run(1))

    async def work(hub):
        feed = await hub.open("a")
        http.away = True
        await until(lambda: http.broken)
        hub.release(feed)
        await until(lambda: not http.broken)

    with_hub(http, work)


def test_a_run_that_ends_while_it_is_read_is_read_again():
    http = FakeHttp(a=run(1))

    async def work(hub):
        feed = await hub.open("a")
        http.away = True
        await until(lambda: http.broken)
        ended = run(1, 20, stop={"exit_status": "success"})
        hub.on_update(update("a", ended))
        http.stored["a"], http.away = ended, False
        await until(lambda: feed.state.complete)
        assert not http.broken

    with_hub(http, work)


@pytest.mark.parametrize("nonsense", [None, "x", 3, [], float("nan")])
def test_nonsense_in_the_metadata_of_one_run_spoils_no_list(nonsense):
    names = ("n_frames", "n_expected", "frame_time_s", "detector")
    bad = {"start": {"xpcs": dict.fromkeys(names, nonsense), "time": 2}, "n_frames": nonsense}
    http = FakeHttp(a=run(1), b=bad, c={"start": {"xpcs": nonsense, "time": 3}, "stop": nonsense})

    async def work(hub):
        assert uids(hub) == ["c", "b", "a"]
        hub.on_update(update("d", {"start": nonsense, "n_frames": 5}))
        assert uids(hub) == ["c", "b", "a", "d"]

    with_hub(http, work)


def test_a_live_run_is_silent_after_a_minute_and_ten_frames_without_a_change():
    slow = run(2)
    slow["start"]["xpcs"] = XPCS | {"frame_time_s": 10.0}
    http = FakeHttp(a=run(1), b=slow, c=run(3, stop={"exit_status": "success"}))

    async def work(hub):
        now = time.time()
        for later, expected in ((0, ""), (59, ""), (65, "a"), (95, "a"), (105, "ab")):
            assert hub.silent(now + later) == set(expected)
        before = {line.uid: line.heard for line in hub.runs}
        await asyncio.sleep(0.01)
        hub.on_update(update("a", run(1)))  # nothing new
        hub.on_update(update("b", slow | {"n_frames": 11}))
        after = {line.uid: line.heard for line in hub.runs}
        assert after["a"] == before["a"]
        assert after["b"] > before["b"]

    with_hub(http, work)


def test_a_run_that_was_found_silent_stays_so_when_its_page_is_left():
    http = FakeHttp(a=run(time.time() - 3600))

    async def work(hub):
        assert not hub.silent(time.time())
        feed = await opened(hub, "a")
        assert hub.silent(time.time()) == {"a"}
        hub.release(feed)
        assert hub.silent(time.time()) == {"a"}
        await hub.read_list()
        assert hub.silent(time.time()) == {"a"}

    with_hub(http, work)
