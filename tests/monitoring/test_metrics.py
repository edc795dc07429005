"""What a session shows to Prometheus and to whoever restarts services."""

import json
import re
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.live_runs import FAKE, ROIS, composed_run, series
from xpcs_live_denoise import LiveDenoise, Settings, serve_metrics
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.monitoring import METRICS, Counts
from xpcs_live_denoise.sinks.memory import MemorySink


def samples_of(address):
    """The samples at an address: (name, label value or "") -> number."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, next(iter(sample.labels.values()), "")] = sample.value
    return found


def health_of(address):
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def watched(tmp_path):
    """A function that makes a LiveDenoise and its metrics; returns both."""
    made = []

    def watch(sink, **options):
        fields = {"detector": "cam", "publish_period_s": 0.02, "rois": None}
        live = LiveDenoise(
            Settings(spool=tmp_path / "spool", **fields),
            rois=ROIS,
            sinks=[sink],
            ensemble=FAKE,
            timings=Timings(first_pause_s=0.05, longest_pause_s=0.1, give_up_s=0.5),
        )
        metrics = serve_metrics(live, port=0, **options)
        made.append((live, metrics))
        return live, metrics

    yield watch
    for live, metrics in made:
        metrics.close()
        live.close(10)


def test_every_metric_of_serve_is_there_before_the_first_frame(watched):
    _, metrics = watched(MemorySink, waits_for=lambda: "")
    names = {
        re.sub("_(bucket|sum|count|created)$", "", name) for name, _ in samples_of(metrics.address)
    }
    expected = {name for name, metric in METRICS.items() if "serve" in metric.commands}
    assert expected <= names
    assert "process_resident_memory_bytes" in names


def test_a_run_is_counted_from_its_frames_to_its_delivery(watched):
    live, metrics = watched(MemorySink)
    _, send, stop = composed_run(live)
    for frame in series(60):
        send(frame)
    send("no frame")  # a gap
    stop()
    assert live.wait(60)
    live("nonsense", {})
    found = samples_of(metrics.address)
    assert found["xpcs_frames_processed_total", ""] == 60
    assert found["xpcs_frames_skipped_total", ""] == 1
    assert found["xpcs_frames_seen_total", ""] == 61
    assert found["xpcs_runs_total", "success"] == 1
    assert found["xpcs_delivery_runs", "delivered"] == 1
    assert found["xpcs_runs_running", ""] == 0
    assert found["xpcs_queue_messages", ""] == 0
    assert found["xpcs_publication_seconds_count", ""] >= 1
    assert (
        found["xpcs_publication_seconds_bucket", "+Inf"]
        == (found["xpcs_publication_seconds_count", ""])
    )
    assert found["xpcs_delivery_seconds_sum", ""] > 0
    assert found["xpcs_faults_total", "document"] == 1
    assert found["xpcs_faults_total", "analysis"] == 0
    assert found["xpcs_spool_free_bytes", ""] > 0
    assert ("xpcs_source_connected", "") not in found  # documents come from this process
    assert health_of(metrics.address) == (200, {"status": "ok", "notes": []})


def test_a_server_that_is_away_is_a_failing_delivery_and_no_reason_to_start_anew(watched):
    def away(info):
        raise TiledUnavailableError("the server is away")

    live, metrics = watched(away, waits_for=lambda: "Waiting for documents.")
    _, send, stop = composed_run(live)
    for frame in series(3):
        send(frame)
    live.wait(0.2)
    found = samples_of(metrics.address)
    assert found["xpcs_source_connected", ""] == 0
    status, said = health_of(metrics.address)
    assert (status, said["status"]) == (200, "ok")
    assert "Waiting for documents." in said["notes"]
    stop()
    assert live.wait(60)
    assert samples_of(metrics.address)["xpcs_faults_total", "delivery"] >= 1


def test_other_addresses_are_not_there_and_a_taken_port_is_told(watched):
    live, metrics = watched(MemorySink)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{metrics.address}/status", timeout=10)
    port = int(metrics.address.rpartition(":")[2])
    with pytest.raises(InvalidInputError, match=f"Metrics on 127.0.0.1, port {port}: .* in use"):
        serve_metrics(live, port=port)
    with pytest.raises(InvalidInputError, match=r"Metrics on 203\.0\.113\.1, port 0"):
        serve_metrics(live, port=0, host="203.0.113.1")


@pytest.mark.parametrize(
    ("name", "label"),
    [("xpcs_frames", ""), ("xpcs_faults_total", "typo"), ("xpcs_lag_seconds", "")],
)
def test_what_is_no_counter_is_not_counted_in_silence(name, label):
    with pytest.raises(KeyError, match=name):
        Counts().add(name, label=label)
    with pytest.raises(KeyError):
        Counts().observe(name, 1.0)
