"""The stream `two_time` of a series that is longer than its map has bins."""

import dataclasses

import httpx
import numpy as np
import pytest
from event_model import DocumentNames, schema_validators

from xpcs_live_denoise.readers import results
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())
BANDS = {"c2_band": "c2", "c2_band_denoised": "denoised", "c2_band_spread": "spread"}


@pytest.fixture
def sent(tiled_client):
    """Bytes of each patch that goes out, by the name of the array."""
    patches = []

    def note(request):
        if request.method == "PATCH" and "/array/full/" in request.url.path:
            patches.append((request.url.path.rsplit("/", 1)[1], len(request.content)))

    tiled_client.context.http_client.event_hooks["request"].append(note)
    return patches


@pytest.fixture
def long_run(synthetic):
    """330 frames, a map of at most 100 bins: 2 frames a bin from 101 frames on, 4 from 201."""
    return synthetic(n_frames=330, n_expected=37, map_frames=100)


def n_bytes(sent, name):
    return sum(size for array, size in sent if array == name)


def assert_is_whole(tiled_client, uid, run):
    """A finished long result: every array complete and of its length, for every reader."""
    done = tiled_client["processed", uid]
    stored, band = done["two_time"].read(), run.band(0, run.n_frames)
    values, frames_per_bin = run.map(run.n_frames)
    np.testing.assert_array_equal(stored["c2"], values)
    for name, field in BANDS.items():
        np.testing.assert_array_equal(stored[name], getattr(band, field))
    assert "c2_denoised" not in stored
    assert done["two_time", "c2"].metadata["frames_per_bin"] == frames_per_bin
    assert done["two_time"].metadata["data_keys"]["c2"]["frames_per_bin"] == frames_per_bin
    assert done.metadata["n_frames"] == run.n_frames
    assert done.validate(fix_errors=False, raise_on_error=True)
    for name, doc in done.documents():
        schema_validators[DocumentNames[name]].validate(dict(doc))
    return stored


def test_a_long_series_is_written_while_it_is_measured_and_no_row_twice(
    tiled_client, long_run, sent
):
    run = long_run
    sink = TiledSink(run.info, client=tiled_client)
    versions = []
    for start in range(0, 330, 30):
        sink.write(run.publication(start, start + 30))
        live = tiled_client["processed", sink.uid]
        node = live["two_time", "c2"]
        versions.append((node.metadata["frames_per_bin"], node.metadata["version"]))
        values, _ = run.map(start + 30)
        n = values.shape[1]
        lower = np.tril(np.ones((n, n), dtype=bool))
        np.testing.assert_array_equal(node[:, :n, :n][:, lower], values[:, lower])
    assert versions == [(1, 0)] * 3 + [(2, 2)] * 3 + [(4, 4)] * 5
    assert live["two_time"].read()["c2_band_spread"].shape == (2, 400, 50)
    assert all(n_bytes(sent, name) < 1.1 * 2 * 50 * 4 * 330 for name in BANDS)
    of_c2 = [name for name, _ in sent if name.startswith("c2")]
    assert of_c2[-1] == "c2", "Gamma and the band go before the map"
    del sent[:]
    sink.write(run.result())
    assert not [name for name, _ in sent if name in BANDS], "its rows had all arrived"
    assert n_bytes(sent, "c2") < 2 * 83 * 83 * 4, "the lower triangle had arrived"
    sink.finish(END)
    stored = assert_is_whole(tiled_client, sink.uid, run)
    np.testing.assert_allclose(stored["t1_s"][[0, 1, -1]], [0.75, 2.75, 164.25])  # 2 in the last
    np.testing.assert_allclose(stored["t_s"][-1], 329 * 0.5)
    np.testing.assert_allclose(stored["lag_s"], np.arange(50) * 0.5)


def test_a_new_process_goes_on_with_the_rows_that_another_has_not_delivered(
    tiled_client, long_run, sent
):
    run = long_run
    sink = TiledSink(run.info, client=tiled_client)
    for start in (0, 90):
        sink.write(run.publication(start, start + 90))
    later = TiledSink(run.info, client=tiled_client, uid=sink.uid)
    rows = dataclasses.replace(run.publication(180, 300), c2=None, gamma=None)
    later.write(rows)
    later.write(run.result())
    later.finish(END)
    assert_is_whole(tiled_client, sink.uid, run)


def test_a_map_that_a_process_left_half_written_is_completed(tiled_client, long_run):
    run = long_run
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 90))
    hooks = tiled_client.context.http_client.event_hooks["request"]

    def dies(request):
        if request.method == "PATCH" and request.url.path.endswith(
            f"/full/processed/{sink.uid}/two_time/c2"
        ):
            raise OSError("the process died")

    hooks.append(dies)
    with pytest.raises(OSError, match="died"):
        sink.write(run.publication(90, 130))
    hooks.remove(dies)
    assert tiled_client["processed", sink.uid, "two_time", "c2"].metadata["version"] == 1
    later = TiledSink(run.info, client=tiled_client, uid=sink.uid)
    later.write(dataclasses.replace(run.publication(90, 300), c2=None))
    later.write(run.result())
    later.finish(END)
    assert_is_whole(tiled_client, sink.uid, run)
    c2 = results(tiled_client, sink.uid).c2()
    np.testing.assert_array_equal(c2, run.map(330)[0])
    assert c2.attrs["frames_per_bin"] == 4


def test_a_server_that_refuses_to_cut_arrays_leaves_them_readable(
    tiled_client, synthetic, monkeypatch
):
    run = synthetic(n_frames=60, n_roi=1)
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.result())
    forbidden = httpx.Response(403, request=httpx.Request("PUT", "http://tiled"))
    with monkeypatch.context() as patch:  # as for a key without the scope `register`
        patch.setattr(tiled_client.context.http_client, "put", lambda *_, **__: forbidden)
        sink.finish(END)
    stored = tiled_client["processed", sink.uid]["two_time"].read()
    assert stored["c2"].shape == (1, 200, 200)
    np.testing.assert_array_equal(stored["c2"][:, :60, :60], run.c2)
    np.testing.assert_array_equal(results(tiled_client, sink.uid).c2().values, run.denoised)
