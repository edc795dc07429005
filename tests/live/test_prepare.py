"""What LiveDenoise can load before the first run."""

import pytest

from tests.support.live_runs import Fake
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.live import callback


class Answering:
    """Stands for the factory of Tiled sinks."""

    def __init__(self, settings, catalog):
        self.connected = False

    def connect(self):
        self.connected = True

    def close(self):
        pass


@pytest.fixture
def live(monkeypatch):
    monkeypatch.setattr(callback, "open_ensemble", lambda settings: (Fake(), ""))
    monkeypatch.setattr("xpcs_live_denoise.sinks.run.TiledSinkFactory", Answering)
    made = LiveDenoise(Settings(detector="cam"))
    yield made
    assert made.close(10)


def test_the_ensemble_is_loaded_and_tiled_connected_in_the_background(live):
    assert live._ensemble is None
    live.prepare()
    made = lambda: live._make_tiled_sink is not None and live._make_tiled_sink.connected  # noqa: E731
    assert live._worker.wait(made, 20)
    assert live._ensemble is not None
    assert not live.status, "no run began"


def test_what_cannot_be_prepared_is_logged_and_left_to_the_first_run(live, monkeypatch, caplog):
    def refuse(self):
        raise ConnectionError("the server is away")

    monkeypatch.setattr(Answering, "connect", refuse)
    live.prepare()
    assert live._worker.wait(lambda: "the server is away" in caplog.text, 20)
    assert live.n_faults == 0
