"""The derived run that TiledSink writes, looked at through plain Tiled clients."""

import dataclasses
import logging
import os
import uuid

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators
from tiled.queries import Eq, FullText, Key

from xpcs_live_denoise.catalog.schema import GAMMA_SCHEMA, STATUS_SCHEMA, TABLES
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.records.results import OneTime
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import TiledDestination
from xpcs_live_denoise.sinks.run import TiledSink


def ended(status=None, raw="success", analysis="success", reason=""):
    return RunEnd(
        raw_exit_status=raw,
        analysis_exit_status=analysis,
        reason=reason,
        status=status or Status(),
    )


def derived(client, sink, path="processed"):
    return client[(*path.split("/"), sink.uid)]


def assert_documents_are_valid(run, finished=True):
    """Every document fits event-model's schema, and events refer to a descriptor before them."""
    documents = list(run.documents())
    descriptors = set()
    for name, doc in documents:
        if name == "stop" and not finished:
            assert dict(doc) == {}
            continue
        schema_validators[DocumentNames[name]].validate(dict(doc))
        if name == "descriptor":
            descriptors.add(doc["uid"])
        if name in ("event", "stream_datum"):
            assert doc["descriptor"] in descriptors
    return documents


def test_a_live_run_can_be_read_validated_and_replayed(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 25))
    sink.write(run.publication(25, 40))
    live = derived(tiled_client, sink)
    assert live.metadata["n_frames"] == 40
    assert "stop" not in live.metadata
    stored = live["two_time"].read()
    assert stored["c2"].dims == ("roi", "t1_s", "t2_s")
    assert stored["c2"].dtype == np.float32
    lower = np.tril(np.ones((40, 40), dtype=bool))
    np.testing.assert_array_equal(
        stored["c2"].values[:, :40, :40][:, lower], run.c2[:, :40, :40][:, lower]
    )
    band = run.band(0, 40)
    for name in ("c2", "denoised", "spread"):
        found = stored["c2_band" if name == "c2" else f"c2_band_{name}"]
        assert found.dims == ("roi", "t_s", "lag_s")
        np.testing.assert_array_equal(found.values[:, :40], getattr(band, name))
    assert "c2_denoised" not in stored
    assert "g2" not in live
    assert live.validate(raise_on_error=False)
    documents = assert_documents_are_valid(live, finished=False)
    assert sum(name == "event" for name, _ in documents) == 2 * 40 + 2


def test_a_finished_run_holds_complete_symmetric_arrays_and_every_row(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, raw_path="raw")
    sink.write(run.publication(0, 60))
    sink.write(run.result())
    sink.finish(ended(run.result().status))
    done = derived(tiled_client, sink)
    stored = done["two_time"].read()
    for name, truth in (("c2", run.c2), ("c2_denoised", run.denoised), ("c2_spread", run.spread)):
        np.testing.assert_array_equal(stored[name].values, truth)
    np.testing.assert_array_equal(stored["c2"].values, stored["c2"].values.swapaxes(1, 2))
    g2 = done["g2"].read()
    assert g2["g2"].dims == ("roi", "delay_s")
    for name in ("g2_denoised", "heterogeneity", "heterogeneity_error"):
        np.testing.assert_array_equal(g2[name], getattr(run.result().g2, name))
    gamma = done["gamma"].base["internal"].read()
    assert list(gamma["seq_num"]) == list(range(1, 2 * 60 * 3 + 1))
    assert gamma["final"].sum() == 2 * 60 * 2
    stop = done.metadata["stop"]
    assert stop["exit_status"] == "success"
    assert stop["num_events"] == {
        "two_time": 1,
        "intensity": 1,
        "g2": 1,
        "gamma": 360,
        "status": 2,
    }
    assert stop["run_start"] == sink.uid
    assert done.validate(fix_errors=False, raise_on_error=True)
    documents = assert_documents_are_valid(done)
    names = [name for name, _ in documents]
    assert (names[0], names[-1]) == ("start", "stop")
    assert names.count("event") == 362


def test_the_streams_of_a_finished_run_carry_their_coordinates(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.result())
    sink.finish(ended(run.result().status))
    done = derived(tiled_client, sink)
    c2, g2 = done["two_time"].read(), done["g2"].read()
    assert set(c2.indexes) == {"roi", "t1_s", "t2_s", "t_s", "lag_s"}
    assert set(g2.indexes) == {"roi", "delay_s"}
    np.testing.assert_allclose(c2["t1_s"], np.arange(60) * 0.5)
    np.testing.assert_allclose(c2["t2_s"], np.arange(60) * 0.5)
    np.testing.assert_allclose(c2["t_s"], np.arange(60) * 0.5)
    np.testing.assert_allclose(c2["lag_s"], np.arange(50) * 0.5)
    assert c2["c2_band"].sel(roi=2, t_s=10.0, lag_s=7.5).item() == run.c2[1, 20, 5]
    np.testing.assert_allclose(g2["delay_s"], np.arange(1, 60) * 0.5)
    for stored in (c2, g2):
        assert stored["roi"].values.tolist() == [1, 2]
        np.testing.assert_array_equal(stored["q_inv_angstrom"], [0.01, np.nan])
    at = {"roi": 2, "t1_s": 2.5, "t2_s": 10.0}
    assert c2["c2"].sel(at).item() == run.c2[1, 5, 20]
    units = {key: one.get("units") for key, one in done["two_time"].metadata["data_keys"].items()}
    assert (units["t1_s"], units["q_inv_angstrom"]) == ("s", "1/angstrom")


def test_a_live_run_of_unknown_length_can_be_read_while_windows_lag_behind(tiled_client, synthetic):
    run = synthetic(n_frames=230, n_roi=1, n_expected=None)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 190))
    sink.write(run.publication(190, 205, band=run.band(180, 205, denoised=False)))
    live = derived(tiled_client, sink)
    assert live["two_time"].read()["c2_band_denoised"].shape == (1, 400, 50)
    sink.finish(ended(Status(message="The worker failed."), analysis="fail", reason="It failed."))
    left = derived(tiled_client, sink)["two_time"].read()
    np.testing.assert_allclose(left["t1_s"], np.arange(205) * 0.5)
    np.testing.assert_allclose(left["t_s"], np.arange(205) * 0.5)
    assert left["c2"].sel(roi=1, t1_s=100.0, t2_s=1.0).item() == run.c2[0, 200, 2]


def test_a_search_finds_results_by_what_the_raw_run_said(tiled_client, synthetic):
    word = f"word{uuid.uuid4().hex}"
    start = {"comment": f"second try {word}", "transmission": 0.25, "my_key": word, "bad": 10**400}
    sink = TiledSink(synthetic(start=start).info, client=tiled_client)
    sink.finish(ended())
    catalog = tiled_client["processed"]
    for query in (Eq("start.my_key", word), Key("my_key") == word, FullText(word)):
        assert list(catalog.search(query)) == [sink.uid]
    assert catalog.search(Eq("start.my_key", word)).search(Eq("start.transmission", 0.25))
    assert derived(tiled_client, sink).start["xpcs"]["not_copied"] == ["bad"]


def test_rows_are_appended_by_name_to_a_table_that_another_version_has_begun(
    tiled_client, synthetic, monkeypatch
):
    run = synthetic(n_frames=6, n_expected=6)
    columns, _ = TABLES["gamma"]
    before = {name: columns[name] for name in sorted(columns) if name != "caution"}
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "gamma", (before, tuple(before)))
        sink = TiledSink(run.info, client=tiled_client)
        sink.write(run.publication(0, 3))
    later = TiledSink(run.info, client=tiled_client, uid=sink.uid)
    for start in (0, 3):  # the first of it is there already
        later.write(run.publication(start, start + 3))
    table = derived(tiled_client, sink)["gamma"].base["internal"].read()
    assert table["seq_num"].tolist() == list(range(1, 13))
    assert set(table["source"]) == {"raw"}
    assert sorted(table["age_frame"]) == [age for age in range(6) for _ in run.roi]
    assert (table["relaxation_rate"] == 1.0).all()


def test_the_run_has_the_specs_the_start_document_and_the_place_of_the_schema(
    tiled_client, synthetic
):
    run = synthetic(start={"plan_name": "count"})
    sink = TiledSink(run.info, client=tiled_client, path="lab/results", raw_path="lab/raw")
    sink.write(run.publication(0, 5))
    found = tiled_client["lab", "results"].search(Eq("start.original_run_uid", run.raw_uid))
    assert [r.metadata["start"]["uid"] for r in found.values()] == [sink.uid]
    node = derived(tiled_client, sink, "lab/results")
    assert [(s.name, s.version) for s in node.specs] == [
        ("XPCSResult", None),
        ("BlueskyRun", "3.0"),
    ]
    assert [s.name for s in tiled_client["lab", "results"].specs] == ["CatalogOfBlueskyRuns"]
    assert node.metadata["start"]["scan_id"] == 7
    assert node.metadata["start"]["xpcs"]["raw_path"] == "lab/raw"
    assert tiled_client["lab", "results"][-1].metadata["start"]["uid"] == sink.uid


@pytest.mark.parametrize(("stream", "schema"), [("gamma", GAMMA_SCHEMA), ("status", STATUS_SCHEMA)])
def test_a_table_has_exactly_the_columns_of_the_schema(tiled_client, synthetic, stream, schema):
    run = synthetic(n_frames=5, n_expected=5)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 5))
    table = derived(tiled_client, sink)[stream].base["internal"].read()
    assert list(table) == ["seq_num", "time", *schema, *[f"ts_{name}" for name in schema]]
    kinds = {"float": "f", "int": "i", "bool": "b", "str": "OT"}
    for name, (kind, _) in schema.items():
        assert getattr(table[name].dtype, "kind", "O") in kinds[kind], name
    assert (table["ts_" + next(iter(schema))] == table["time"]).all()


@pytest.mark.parametrize(
    ("n_frames", "n_expected", "capacity"),
    [
        pytest.param(60, None, 200, marks=pytest.mark.soak),
        pytest.param(61, 10_000, 200, marks=pytest.mark.soak),
        (230, 60, 400),
    ],
)
def test_an_array_of_another_capacity_ends_with_the_exact_size(
    tiled_client, synthetic, n_frames, n_expected, capacity
):
    run = synthetic(n_frames=n_frames, n_expected=n_expected)
    sink = TiledSink(run.info, client=tiled_client)
    for start in range(0, n_frames, 50):
        sink.write(run.publication(start, min(start + 50, n_frames)))
    live = derived(tiled_client, sink)
    assert live["two_time", "c2"].shape == (2, capacity, capacity)
    np.testing.assert_array_equal(
        np.tril(live["two_time", "c2"][:, :n_frames, :n_frames]), np.tril(run.c2)
    )
    sink.write(run.result())
    sink.finish(ended())
    done = derived(tiled_client, sink)
    shape = done["two_time", "c2"].shape
    assert shape == (2, n_frames, n_frames)
    assert [sum(c) for c in done["two_time", "c2"].chunks] == list(shape)
    np.testing.assert_array_equal(done["two_time", "c2"].read(), run.c2)
    np.testing.assert_array_equal(done["two_time", "c2_denoised"].read(), run.denoised)
    key = done["two_time"].metadata["data_keys"]["c2"]
    assert tuple(key["shape"]) == shape
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert_documents_are_valid(done)


def test_small_arrays_of_a_stream_are_described_in_one_request(tiled_client, synthetic):
    run, asked = synthetic(n_frames=6, n_expected=6), []
    hooks = tiled_client.context.http_client.event_hooks["request"]
    hooks.append(lambda request: asked.append((request.method, request.url.path)))
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.result())
    sink.finish(ended())
    hooks.pop()
    described = [method for method, path in asked if path.endswith(f"{sink.uid}/g2")]
    # The coordinates at the end; its arrays when it is made, and all others make nodes.
    assert described.count("PATCH") == 1
    assert described.count("POST") == len(derived(tiled_client, sink)["g2"].base)


def test_arrays_that_grow_together_are_described_in_one_request(tiled_client, synthetic):
    run, asked = synthetic(n_frames=230, n_roi=1, n_expected=None, map_frames=60), []
    sink = TiledSink(run.info, client=tiled_client)
    hooks = tiled_client.context.http_client.event_hooks["request"]
    hooks.append(lambda request: asked.append((request.method, request.url.path)))
    for start, stop in ((0, 150), (150, 230)):
        asked.clear()
        sink.write(run.publication(start, stop, gamma=None, c2=None))
    hooks.pop()
    described = [method for method, path in asked if path.endswith(f"{sink.uid}/two_time")]
    assert described == ["PATCH"]
    run_read = derived(tiled_client, sink)["two_time"].base
    bands = ["c2_band", "c2_band_denoised", "c2_band_spread"]
    assert {run_read[name].shape for name in bands} == {(1, 400, 50)}
    keys = run_read.metadata["data_keys"]
    assert {tuple(keys[name]["shape"]) for name in bands} == {(1, 400, 50)}


def test_growing_keeps_what_was_written_and_needs_nothing_again(tiled_client, synthetic):
    run = synthetic(n_frames=450, n_roi=1, n_expected=None)
    sink = TiledSink(run.info, client=tiled_client)
    for start, stop in ((0, 150), (150, 260), (260, 450)):
        sink.write(run.publication(start, stop, gamma=None, band=None))
    c2 = derived(tiled_client, sink)["two_time", "c2"]
    assert c2.shape == (1, 800, 800)
    np.testing.assert_array_equal(np.tril(c2.read()[:, :450, :450]), np.tril(run.c2))


def test_every_message_stays_below_the_limit(tiled_client, synthetic):
    limit = 100_000
    run = synthetic(n_frames=130, n_roi=3, n_expected=130)
    sizes = []
    tiled_client.context.http_client.event_hooks["request"].append(
        lambda request: sizes.append((request.method, len(request.content)))
    )
    sink = TiledSink(run.info, client=tiled_client, max_message_bytes=limit)
    sink.write(run.publication(0, 100))
    sink.write(run.publication(100, 130))
    sink.write(run.result())
    sink.finish(ended())
    sent = [size for method, size in sizes if method in ("PATCH", "PUT")]
    assert max(sent) <= limit
    assert len(sent) > run.c2.nbytes / limit
    done = derived(tiled_client, sink)
    np.testing.assert_array_equal(done["two_time", "c2"].read(), run.c2)
    assert len(done["gamma"].base["internal"].read()) == 3 * 130 * 3


def test_what_was_not_computed_is_not_created(tiled_client, synthetic):
    run = synthetic(n_frames=3, n_expected=60)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 3, band=run.band(0, 3, denoised=False), gamma=None))
    message = "3 frames; denoising needs 50."
    sink.write(run.result(denoised=False, message=message))
    sink.finish(ended(Status(n_seen=3, message=message), raw="abort", reason="Aborted by user."))
    done = derived(tiled_client, sink)
    coordinates = {"roi", "q_inv_angstrom", "t1_s", "t2_s", "t_s", "lag_s"}
    assert set(done["two_time"].base) == {"c2", "c2_band"} | coordinates
    kept = {"g2", "g2_error", "heterogeneity", "heterogeneity_error", "delay_s"}
    kept |= {"roi", "q_inv_angstrom"}
    assert set(done["g2"].base) == kept
    np.testing.assert_array_equal(done["two_time", "c2"].read(), run.c2)
    assert done.metadata["stop"]["exit_status"] == "abort"
    assert done.metadata["stop"]["reason"] == "Aborted by user."
    assert done["status"].read()["message"].values[-1] == message
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert_documents_are_valid(done)


def test_a_single_frame_has_no_lag_and_makes_no_g2(tiled_client, synthetic):
    run = synthetic(n_frames=1, n_expected=1)
    sink = TiledSink(run.info, client=tiled_client)
    result = run.result(denoised=False)
    assert result.g2.delay_s.shape == (0,)
    sink.write(result)
    sink.finish(ended())
    done = derived(tiled_client, sink)
    assert "g2" not in done
    assert done["two_time", "c2"].shape == (2, 1, 1)
    assert done.validate(fix_errors=False, raise_on_error=True)


def test_a_run_that_gave_no_frames_still_says_what_happened(tiled_client, synthetic):
    sink = TiledSink(synthetic().info, client=tiled_client)
    status = Status(n_seen=3, message="The file of frame 0 cannot be read.")
    sink.finish(ended(status, analysis="fail", reason=status.message))
    done = derived(tiled_client, sink)
    assert list(done) == ["status"]
    assert done["status"].read()["message"].values.tolist() == [status.message]
    assert done.metadata["stop"]["exit_status"] == "fail"
    assert done.metadata["stop"]["num_events"] == {"status": 1}
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert_documents_are_valid(done)


def test_an_aborted_analysis_leaves_a_readable_run_of_its_live_arrays(tiled_client, synthetic):
    run = synthetic(n_frames=40, n_expected=60)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 40))
    sink.finish(ended(Status(message="The worker failed."), analysis="fail", reason="It failed."))
    done = derived(tiled_client, sink)
    assert done.metadata["n_frames"] == 40
    assert done["two_time", "c2"].shape == (2, 40, 40)
    assert done["two_time", "c2_band_spread"].shape == (2, 40, 50)
    assert done["status"].read()["message"].values.tolist() == ["", "The worker failed."]
    assert done.validate(fix_errors=False, raise_on_error=True)
    assert_documents_are_valid(done)


def test_a_frame_without_counts_stays_nan(tiled_client, synthetic):
    run = synthetic()
    run.c2[0, 3, :] = run.c2[0, :, 3] = np.nan
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 30))
    np.testing.assert_array_equal(
        np.tril(derived(tiled_client, sink)["two_time", "c2"][0, :30, :30]),
        np.tril(run.c2[0, :30, :30]),
    )


def test_every_node_gets_the_access_tags(tiled_client, synthetic, monkeypatch):
    from tiled.client.container import Container

    asked = {}
    original = Container.new

    def new(self, *args, **kwargs):
        # The embedded server has no access policy and refuses tags: note them, send none.
        asked[kwargs["key"]] = kwargs.pop("access_tags", None)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Container, "new", new)
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, path="tagged/runs", access_tags=("chx",))
    sink.write(run.publication(0, 30))
    sink.write(run.result())
    sink.finish(ended())
    arrays = {"c2", "c2_denoised", "c2_spread", *OneTime.__slots__}
    arrays |= {"c2_band", "c2_band_denoised", "c2_band_spread"}
    arrays |= {"total", "roi_mean", "roi", "q_inv_angstrom", "t1_s", "t2_s", "t_s", "lag_s"}
    streams = {"two_time", "intensity", "gamma", "g2", "status", "internal"}
    assert set(asked) == {"tagged", "runs", sink.uid} | arrays | streams
    assert all(tags == ["chx"] for tags in asked.values())


def test_every_node_is_closed_for_subscribers_before_the_stop(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 30))
    sink.write(run.result())
    calls = []
    tiled_client.context.http_client.event_hooks["request"].append(
        lambda request: calls.append((request.method, request.url.path))
    )
    sink.finish(ended(run.result().status))
    stop = calls.index(("PATCH", f"/api/v1/metadata/processed/{sink.uid}"))
    root = f"/api/v1/stream/close/processed/{sink.uid}"
    closed = {path.removeprefix(root) for method, path in calls[:stop] if method == "DELETE"}
    assert closed == {
        "/two_time",
        "/two_time/c2",
        "/two_time/c2_denoised",
        "/two_time/c2_spread",
        "/two_time/roi",
        "/two_time/q_inv_angstrom",
        "/two_time/t1_s",
        "/two_time/t2_s",
        "/two_time/c2_band",
        "/two_time/c2_band_denoised",
        "/two_time/c2_band_spread",
        "/two_time/t_s",
        "/two_time/lag_s",
        "/intensity",
        "/intensity/total",
        "/intensity/roi_mean",
        "/intensity/t_s",
        "/intensity/roi",
        "/intensity/q_inv_angstrom",
        "/g2",
        "/g2/g2",
        "/g2/g2_error",
        "/g2/g2_denoised",
        "/g2/heterogeneity",
        "/g2/heterogeneity_error",
        "/g2/delay_s",
        "/g2/roi",
        "/g2/q_inv_angstrom",
        "/gamma",
        "/gamma/internal",
        "/status",
        "/status/internal",
    }
    assert ("DELETE", root) in calls[stop:]


def test_the_container_of_the_raw_runs_is_refused(synthetic):
    with pytest.raises(InvalidInputError, match="'/raw/', which holds the raw runs; expected"):
        TiledSink(synthetic().info, client=None, path="/raw/", raw_path="raw")
    with pytest.raises(InvalidInputError, match="got '/'; expected a name such as 'processed'"):
        TiledSink(synthetic().info, client=None, path="/")


def destination(uri="http://127.0.0.1:9"):
    tiled = {"uri": uri, "api_key_env": "XPCS_TEST_KEY", "raw_path": "raw", "path": "processed"}
    return TiledDestination(Settings(detector="eiger", tiled=tiled))


def test_the_sinks_of_a_destination_share_a_connection_that_the_first_write_makes(
    tiled_server, synthetic, monkeypatch, caplog
):
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpx")
    tiled, run = destination(tiled_server.uri), synthetic()
    sinks = [tiled.sink(tiled.spool(info)) for info in (run.info, synthetic(seed=1).info)]
    for sink in sinks:
        sink.write(run.publication(0, 5))
    client = tiled.client()
    node = derived(client, sinks[0])
    assert tiled_server.api_key not in str(list(node.documents()))
    assert tiled_server.api_key not in caplog.text
    assert f"as processed/{sinks[0].uid}" in caplog.text
    n_requests = caplog.text.count(f"GET {tiled_server.uri} ")  # only a connection asks for that
    tiled.close()
    caplog.clear()
    other = destination(tiled_server.uri)
    other.client()
    assert n_requests == caplog.text.count(f"GET {tiled_server.uri} ") > 0
    other.close()
    assert client.context.http_client.is_closed


def test_a_destination_says_which_variable_is_missing(synthetic, monkeypatch):
    monkeypatch.delenv("XPCS_TEST_KEY", raising=False)
    tiled = destination()
    sink = tiled.sink(tiled.spool(synthetic().info))
    with pytest.raises(InvalidInputError, match="variable XPCS_TEST_KEY is not set"):
        sink.write(synthetic().publication(0, 5))


def test_a_server_that_is_down_at_the_start_is_named(synthetic, monkeypatch):
    monkeypatch.setenv("XPCS_TEST_KEY", "abc")
    tiled = destination()
    sink = tiled.sink(tiled.spool(synthetic().info))
    with pytest.raises(TiledUnavailableError, match=r"http://127\.0\.0\.1:9: no answer"):
        sink.write(synthetic().publication(0, 5))
    assert "abc" not in os.environ.get("TILED_API_KEY", "")


@pytest.mark.parametrize(("time_unit", "frame_time_s"), [("frame", 1.0), ("s", 0.3)])
def test_the_time_axis_of_the_end_is_stored_with_its_units(
    tiled_client, synthetic, time_unit, frame_time_s
):
    run = synthetic()
    info = dataclasses.replace(run.info, time_unit="frame", frame_time_s=1.0)
    at_end = dataclasses.replace(info, time_unit=time_unit, frame_time_s=frame_time_s)
    sink = TiledSink(info, client=tiled_client)
    sink.write(run.publication(0, 25))

    def units():
        keys = derived(tiled_client, sink)["gamma"].metadata["data_keys"]
        return keys["relaxation_rate"]["units"], keys["age_s"]["units"]

    assert units() == ("1/frame", "frame")
    sink.write(dataclasses.replace(run.result(), info=at_end))
    sink.finish(ended())
    stored = derived(tiled_client, sink)
    xpcs = stored.metadata["start"]["xpcs"]
    assert (xpcs["time_unit"], xpcs["frame_time_s"]) == (time_unit, frame_time_s)
    assert xpcs["roi"] == list(run.roi)
    assert units() == (f"1/{time_unit}", time_unit)
    assert stored["g2"].metadata["data_keys"]["delay_s"]["units"] == time_unit
