"""What LiveDenoise can load before the first run."""

import time

from tests.support.live_runs import Fake
from xpcs_live_denoise import LiveDenoise, Settings


def until(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_what_is_prepared_are_the_weights_and_the_connection(tiled_server, monkeypatch, caplog):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    settings = Settings(detector="cam", weights="nowhere", tiled={"uri": tiled_server.uri})
    live = LiveDenoise(settings)
    with caplog.at_level("DEBUG", "httpx"):
        live.prepare()
        until(lambda: "Nothing will be denoised: Ensemble nowhere" in caplog.text)
        until(lambda: "processed" in caplog.text)  # it asked what the container holds
    assert not live.status, "no run began"
    assert live.close(60)


def test_what_cannot_be_prepared_is_logged_and_left_to_the_first_run(monkeypatch, caplog):
    monkeypatch.setenv("TILED_API_KEY", "abc")
    settings = Settings(detector="cam", tiled={"uri": "http://127.0.0.1:9"})
    live = LiveDenoise(settings, ensemble=Fake())
    live.prepare()
    until(lambda: "http://127.0.0.1:9: no answer" in caplog.text)
    assert live.n_faults == 0
    assert live.close(60)
