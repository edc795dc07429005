"""What TiledSink leaves when answers are lost or the server is away, and the caller repeats."""

import httpx
import numpy as np
import pytest

from xpcs_live_denoise.errors import TiledUnavailableError
from xpcs_live_denoise.records.run import RunEnd
from xpcs_live_denoise.sinks.run import TiledSink

SUCCESS = {"raw_exit_status": "success", "analysis_exit_status": "success", "reason": ""}


class LostAnswerError(OSError):
    """Stands for a connection that broke off; no kind that Tiled's client would retry."""


class Network:
    """Loses the first answer to each kind of request of every stage: the server did its work."""

    def __init__(self, client, event):
        self.stage, self.lost, self.armed = 0, set(), True
        client.context.http_client.event_hooks[event].append(self.meddle)

    def meddle(self, message):
        request = getattr(message, "request", message)
        kind = (self.stage, request.method, str(request.url))
        if self.armed and request.method != "GET" and kind not in self.lost:
            self.lost.add(kind)
            raise LostAnswerError(f"{request.method} {request.url}")

    def repeat(self, call, *args):
        """Call until nothing fails any more, as the worker does with news it still has."""
        for _ in range(100):
            try:
                call(*args)
            except LostAnswerError:
                continue
            self.stage += 1
            return
        pytest.fail("the sink makes no progress")


@pytest.mark.soak
@pytest.mark.parametrize("event", ["request", "response"])
def test_every_request_may_fail_once_and_the_run_is_still_exact(tiled_client, synthetic, event):
    run = synthetic(n_frames=70, n_expected=None)
    sink = TiledSink(run.info, client=tiled_client, path="faults/runs", max_message_bytes=150_000)
    network = Network(tiled_client, event)
    for start in (0, 35):
        network.repeat(sink.write, run.publication(start, start + 35))
    network.repeat(sink.write, run.result())
    network.repeat(sink.finish, RunEnd(**SUCCESS, status=run.result().status))
    network.armed = False
    assert len(network.lost) > 40
    done = tiled_client["faults", "runs", sink.uid]
    for name, truth in (("c2", run.c2), ("c2_denoised", run.denoised), ("c2_spread", run.spread)):
        np.testing.assert_array_equal(done["two_time", name].read(), truth)
    gamma = done["gamma"].base["internal"].read()
    assert sorted(gamma["seq_num"]) == list(range(1, 2 * 70 * 3 + 1))
    assert not gamma.duplicated(["roi", "age_frame", "source", "width", "final"]).any()
    status = done["status"].base["internal"].read()
    assert status["n_seen"].tolist() == [35, 70, 70]
    assert done.metadata["stop"]["num_events"] == {
        "two_time": 1,
        "intensity": 1,
        "g2": 1,
        "gamma": len(gamma),
        "status": 3,
    }
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert sum(name == "event" for name, _ in done.documents()) == len(gamma) + 3


def test_news_that_came_since_a_failed_write_are_added_to_what_had_arrived(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 10))
    hooks = tiled_client.context.http_client.event_hooks["request"]

    def no_status(request):
        if request.method != "GET" and "/status/" in str(request.url):
            raise LostAnswerError("gone")

    hooks.append(no_status)
    with pytest.raises(LostAnswerError):
        sink.write(run.publication(10, 20))  # its gamma rows have arrived
    hooks.remove(no_status)
    sink.write(run.publication(10, 30))
    sink.write(run.publication(30, 40))
    gamma = tiled_client["processed", sink.uid]["gamma"].base["internal"].read()
    assert gamma["seq_num"].tolist() == list(range(1, 81))
    assert sorted(gamma.loc[gamma["roi"] == 1, "age_frame"]) == list(range(40))


def test_a_refused_write_is_raised_and_not_taken_for_a_node_that_is_there(
    tiled_server, tiled_client, synthetic
):
    sink = TiledSink(synthetic().info, client=tiled_client)
    tiled_client.context.http_client.headers["Authorization"] = "Apikey 00"
    tiled_client.context.api_key = "00"
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        sink.write(synthetic().publication(0, 5))


@pytest.mark.slow
@pytest.mark.system
def test_a_server_that_is_killed_and_started_again_goes_on_with_the_run(outage_server, synthetic):
    run = synthetic()
    client = outage_server.client()
    sink = TiledSink(run.info, client=client)
    sink.write(run.publication(0, 20))
    outage_server.kill()
    with pytest.raises(TiledUnavailableError, match="no answer"):
        sink.write(run.publication(20, 30))
    outage_server.start()
    sink.write(run.publication(20, 40))
    sink.write(run.result())
    sink.finish(RunEnd(**SUCCESS, status=run.result().status))
    done = outage_server.client()["processed", sink.uid]
    np.testing.assert_array_equal(done["two_time", "c2"].read(), run.c2)
    gamma = done["gamma"].base["internal"].read()
    assert gamma["seq_num"].tolist() == list(range(1, 2 * 40 + 2 * 60 * 2 + 1))
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert outage_server.api_key not in str(list(done.documents()))
