"""Which line is a replay, what a word names, and what is no container of results."""

import asyncio

import pytest

from tests.support.written import end
from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.page.run_list import find_result, frames_words, replays, summary
from xpcs_live_denoise.page.tiled_http import TiledHttp, check_container
from xpcs_live_denoise.sinks.run import TiledSink


def line(uid, began, ended=None, raw="r", detector="eiger"):
    xpcs = {"detector": detector, "n_expected": 100, "frame_time_s": 1.0}
    start = {"time": began, "original_run_uid": raw, "xpcs": xpcs}
    stop = {} if ended is None else {"stop": {"time": ended, "exit_status": "success"}}
    return summary(uid, {"start": start} | stop, now=0.0)


def test_a_result_that_began_after_another_one_had_ended_is_a_replay():
    runs = [line("first", 100, 200), line("again", 300, 320), line("third", 400, 420)]
    beside = [line("parallel", 150, 210), line("other", 300, 310, detector="pilatus")]
    assert replays([*runs, *beside, line("else", 300, 310, raw="s")]) == {"again", "third"}
    dead = [line("dead", 100), line("early", 150, 160), line("after", 500, 510)]
    assert replays(dead) == {"after"}  # its last frame could have come at 200
    assert not replays([line("a", 1, 2, raw=""), line("b", 3, 4, raw="")])


@pytest.mark.parametrize(
    ("n", "expected", "live", "words"),
    [
        (20, 60, True, "20 of 60 frames"),
        (150, 400, False, "150 of 400 frames"),
        (400, 400, False, "400 frames"),
        (1, None, False, "1 frame"),
    ],
)
def test_frames_are_counted_against_those_that_were_announced(n, expected, live, words):
    assert frames_words(n, expected, live=live) == words


def test_each_sentence_is_said_once_also_inside_a_longer_one():
    why = "File x_0001.h5: cannot be read. Check file_roots."
    assert views.message(why, f"Frames were lost. {why}", why) == f"{why} Frames were lost."
    assert views.message("Failed: no beam.", "no beam.") == "Failed: no beam."
    assert views.message("", "") == ""


def with_http(server, work):
    async def main():
        http = TiledHttp(server.uri, server.api_key)
        try:
            return await work(http)
        finally:
            await http.close()

    return asyncio.run(main())


def test_any_id_that_the_page_shows_names_the_run(tiled_server, tiled_client, synthetic):
    runs = [synthetic(n_frames=3, n_roi=1, start={"scan_id": 987601}) for _ in range(2)]
    sinks = [TiledSink(r.info, client=tiled_client, created=100.0 + k) for k, r in enumerate(runs)]
    for run, sink in zip(runs, sinks, strict=True):
        end(sink, run.result(denoised=False))

    async def work(http):
        old, new = (sink.uid for sink in sinks)
        for word in (runs[0].raw_uid, runs[0].raw_uid[:8].upper(), old, old[:8]):
            assert await find_result(http, "processed", word) == (old, "")
        uid, note = await find_result(http, "processed", "987601")
        assert uid == new
        assert note == "2 runs have the scan id 987601: this is the newest of them."
        for word in ("987602", "abc", "nonsense", "../raw"):
            with pytest.raises(ResultNotFoundError, match="no result in /processed"):
                await find_result(http, "processed", word)

    with_http(tiled_server, work)


def test_a_path_that_cannot_hold_results_is_told_in_one_sentence(
    tiled_server, tiled_client, synthetic
):
    run = synthetic(n_frames=3, n_roi=1)
    sink = TiledSink(run.info, client=tiled_client)
    end(sink, run.result(denoised=False))
    wrong = {
        "proccessed": "there is none; expected that of the results, and / holds .*'processed'",
        f"processed/{sink.uid}": "it is one run; .*--path processed",
        f"processed/{sink.uid}/gamma/internal": "it is of the kind 'table'",
        "": "it holds no results, but .*'processed'",
    }

    async def work(http):
        await check_container(http, "processed")
        for path, words in wrong.items():
            with pytest.raises(ResultNotFoundError, match=words):
                await check_container(http, path)

    with_http(tiled_server, work)
