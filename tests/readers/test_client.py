"""How a result is found and read again."""

import contextlib
import dataclasses
import json
import math
import re
import time
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from bluesky_tiled_plugins.writing.validator import ValidationException

from tests.support import written
from xpcs_live_denoise import views
from xpcs_live_denoise.catalog import schema
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.numerics.estimator.model_image import c2_residual
from xpcs_live_denoise.readers import results
from xpcs_live_denoise.readers.client import XPCSResult
from xpcs_live_denoise.readers.two_time import mirrored
from xpcs_live_denoise.readers.view import result_view
from xpcs_live_denoise.records.results import GAMMA_COLUMNS, GammaTable
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink


def write(client, run, *, live=False, denoised=True, path="processed", raw_path=None):
    sink = TiledSink(run.info, client=client, path=path, raw_path=raw_path)
    sink.write(run.publication(0, run.n_frames // 2))
    if not live:
        result = run.result(denoised=denoised, message="" if denoised else "no torch")
        sink.write(result)
        finish(sink, result.status)
    return sink


def write_rows(client, run, gamma=None, *, live=False, path="processed", raw_path=None):
    """Write Gamma(t) alone, for who asks for no more: arrays take the server seconds."""
    sink = TiledSink(run.info, client=client, path=path, raw_path=raw_path)
    gamma = run.gamma(range(run.n_frames)) if gamma is None else gamma
    news = run.publication(0, run.n_frames, c2=None, band=None, intensity=None, gamma=gamma)
    sink.write(news)
    if not live:
        finish(sink, news.status)
    return sink


def finish(sink, status):
    sink.finish(
        RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=status)
    )


@contextlib.contextmanager
def as_before(stream, *unknown):
    """Write a stream as a version did that did not know some columns yet."""
    columns, key = schema.TABLES[stream]
    known = {name: kind for name, kind in columns.items() if name not in unknown}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schema.TABLES, stream, (known, tuple(name for name in key if name in known)))
        yield


@pytest.fixture(scope="module")
def finished(module_client, synthetic):
    """A finished analysis: the numbers, and the result as a reader finds it."""
    run = synthetic()
    write(module_client, run)
    return run, results(module_client, run.raw_uid)


@pytest.fixture(scope="module")
def live(module_client, synthetic):
    """An analysis of which 30 of 60 frames are there."""
    run = synthetic(seed=1)
    write(module_client, run, live=True)
    return run, results(module_client, run.raw_uid)


@pytest.fixture
def reader(module_client):
    """Makes the server refuse to validate, as it does to a key that may only read, and more."""
    hooks = module_client.context.http_client.event_hooks["response"]

    def refuse(*parts):
        def hook(response):
            if any(part in response.url.path for part in ("/custom/validate/", *parts)):
                response.status_code = 403

        hooks.append(hook)

    before = list(hooks)
    yield refuse
    hooks[:] = before


@pytest.mark.parametrize("state", ["finished", "live"])
def test_who_may_only_read_validates_a_good_result(request, reader, state):
    _, result = request.getfixturevalue(state)
    reader()
    assert result.validate()


def test_the_server_validates_a_good_result_once(finished, reader, module_client):
    asked = []
    reader()  # puts back the hooks
    module_client.context.http_client.event_hooks["response"][-1] = asked.append
    assert finished[1].validate()
    assert len([one for one in asked if "/custom/validate/" in one.url.path]) == 1


@pytest.mark.parametrize(
    ("part", "said"), [("/array/", "two_time/c2"), ("/table/", "gamma/internal")]
)
def test_who_may_only_read_is_told_what_cannot_be_read(finished, reader, part, said):
    _, result = finished
    reader(part)
    assert not result.validate()
    assert result.validate(try_reading=False)
    assert result.validate(ignore_errors=["reading failed"])
    with pytest.raises(ValidationException, match="reading failed"):
        result.validate(raise_on_error=True)
    with pytest.raises(ValidationException, match=said):
        result.validate(raise_on_error=True, ignore_errors=["^(?!" + said + ")"])


def test_tiled_hands_out_the_special_client_by_spec(module_client, finished):
    run, result = finished
    assert type(result) is XPCSResult
    assert type(module_client["processed", result.start["uid"]]) is XPCSResult
    assert result.start["original_run_uid"] == run.raw_uid


def test_c2_of_all_rois_has_dims_coordinates_and_units(finished):
    run, result = finished
    c2 = result.c2(denoised=False)
    assert c2.dims == ("roi", "t1_s", "t2_s")
    np.testing.assert_array_equal(c2.values, run.c2)
    np.testing.assert_allclose(c2["t1_s"], np.arange(60) * 0.5)
    np.testing.assert_allclose(c2["t2_s"], np.arange(60) * 0.5)
    assert c2["roi"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(c2["q_inv_angstrom"], [0.01, np.nan])
    units = {name: one.attrs.get("units") for name, one in c2.coords.items()}
    assert units == {"t1_s": "s", "t2_s": "s", "roi": None, "q_inv_angstrom": "1/angstrom"}
    assert c2.attrs == {"long_name": "C2", "units": "1"}
    assert set(c2.indexes) == {"roi", "t1_s", "t2_s"}
    at = {"roi": 2, "t1_s": 2.6, "t2_s": 9.9}
    assert c2.sel(at, method="nearest").item() == run.c2[1, 5, 20]
    np.testing.assert_array_equal(result.c2().values, run.denoised)


def test_times_and_rates_are_per_frame_where_nobody_knew_the_frame_period(
    module_client, synthetic, finished
):
    _, known = finished
    run = synthetic(n_frames=5, n_roi=1)
    info = dataclasses.replace(run.info, time_unit="frame", frame_time_s=1.0)
    sink = TiledSink(info, client=module_client)
    written.end(sink, run.result(denoised=False))
    per_frame = results(module_client, sink.uid)
    for result, unit in ((known, "s"), (per_frame, "frame")):
        assert result.c2(1, denoised=False).t1_s.attrs["units"] == unit
        units = result.gamma_table().attrs["units"]
        assert (units["age_s"], units["relaxation_rate"]) == (unit, f"1/{unit}")


def test_c2_of_one_roi_is_two_dimensional(finished):
    run, result = finished
    c2 = result.c2(2, denoised=False)
    assert c2.dims == ("t1_s", "t2_s")
    assert c2["roi"].item() == 2
    np.testing.assert_array_equal(c2.values, run.c2[1])
    np.testing.assert_array_equal(result.c2(1).values, run.denoised[0])


def test_an_unknown_roi_is_named_with_those_that_exist(finished):
    with pytest.raises(InvalidInputError, match=r"ROI 5: .* labels \[1, 2\]"):
        finished[1].c2(5)


def test_a_live_c2_is_cropped_and_mirrored(live):
    run, result = live
    np.testing.assert_array_equal(result.c2(denoised=False).values, run.c2[:, :30, :30])


def test_a_live_denoised_c2_is_raw_where_no_window_has_been(module_client, synthetic):
    run = synthetic()
    run.c2[0, 40, :] = run.c2[0, :, 40] = np.nan
    sink = TiledSink(run.info, client=module_client)
    sink.write(run.publication(0, 20))
    result = results(module_client, run.raw_uid)
    assert result.c2().shape == (2, 20, 20)
    sink.write(run.publication(20, 50))
    np.testing.assert_array_equal(result.c2().values, run.denoised[:, :50, :50])  # read anew
    later = run.publication(50, 60, band=run.band(50, 60, denoised=False), gamma=None)
    sink.write(later)
    expected = run.c2.copy()
    expected[:, :50, :50] = run.denoised[:, :50, :50]
    np.testing.assert_array_equal(result.c2().values, expected)


def test_mirrored_ignores_what_is_above_the_diagonal():
    lower = np.array([[1.0, 9.0], [2.0, np.nan]])
    np.testing.assert_array_equal(mirrored(lower), [[1.0, 2.0], [2.0, np.nan]])


def test_gamma_table_gives_the_final_row_else_the_newest(finished, live):
    _, result = finished
    table = result.gamma_table()
    assert tuple(table.columns) == GAMMA_COLUMNS
    assert len(table) == 2 * 60 * 2
    assert table["final"].all()
    assert set(table.loc[table["source"] == "raw", "relaxation_rate"]) == {2.0}
    order = ["roi", "source", "width", "age_frame"]
    assert table.equals(table.sort_values(order, kind="stable"))
    _, result = live
    assert not result.gamma_table()["final"].any()
    assert len(result.gamma_table()) == 2 * 30


def test_gamma_table_selects_sources_and_shows_the_whole_history(finished):
    _, result = finished
    assert set(result.gamma_table("denoised")["source"]) == {"denoised"}
    assert len(result.gamma_table(["raw", "denoised"])) == 240
    assert len(result.gamma_table("bayes")) == 0
    history = result.gamma_table(final=False)
    assert len(history) == 2 * 30 + 240
    assert history["seq_num"].is_monotonic_increasing
    assert history["final"].sum() == 240


def test_gamma_table_takes_the_newest_of_provisional_rows_and_one_of_doubled_ones(
    module_client, synthetic
):
    run = synthetic()
    sink = TiledSink(run.info, client=module_client)
    sink.write(run.publication(0, 3))
    sink.write(run.publication(3, 6, gamma=run.gamma(range(2), rate=5.0)))
    series = run.gamma(range(1), source="series_raw").replace(age_frame=np.nan, age_s=np.nan)
    for start in (6, 9):
        sink.write(run.publication(start, start + 3, gamma=series))
    result = results(module_client, run.raw_uid)
    table = result["gamma"].base["internal"]
    schema = table.structure().arrow_schema_decoded
    stored = pa.Table.from_pandas(table.read(), schema=schema, preserve_index=False)
    table.append_partition(0, stored.slice(0, 4))  # as an append that came twice
    shown = result.gamma_table("raw")
    assert shown.loc[shown["roi"] == 1, "relaxation_rate"].tolist() == [5.0, 5.0, 1.0]
    assert len(result.gamma_table("series_raw")) == 2  # NaN is one age
    assert result.gamma_table(final=False)["seq_num"].is_unique


def test_g2_table_is_one_row_a_roi_and_lag(finished, live):
    run, result = finished
    table = result.g2_table()
    g2 = run.result().g2
    assert len(table) == 2 * 59
    second = table[table["roi"] == 2]
    np.testing.assert_array_equal(second["g2"], g2.g2[1])
    np.testing.assert_array_equal(second["g2_error"], g2.g2_error[1])
    np.testing.assert_array_equal(second["g2_denoised"], g2.g2_denoised[1])
    np.testing.assert_array_equal(second["heterogeneity"], g2.heterogeneity[1])
    np.testing.assert_array_equal(second["heterogeneity_error"], g2.heterogeneity_error[1])
    np.testing.assert_array_equal(second["delay_s"], g2.delay_s)
    assert len(live[1].g2_table()) == 0
    assert list(live[1].g2_table()) == list(table)


def test_a_result_without_heterogeneity_reads_as_nothing_known(
    module_client, synthetic, monkeypatch
):
    run = synthetic()
    before = dataclasses.replace(run.result().g2, heterogeneity=None, heterogeneity_error=None)
    old = dataclasses.replace(run.result(), g2=before)
    monkeypatch.setattr(run, "result", lambda **_: old)
    with as_before("status", "heterogeneity"):
        write(module_client, run)
    result = results(module_client, run.raw_uid)
    table = result.g2_table()
    assert table["g2"].notna().all()
    assert table[["heterogeneity", "heterogeneity_error"]].isna().all(axis=None)
    assert result.status_table()["heterogeneity"].tolist() == [[], []]
    assert result_view(result, 1).heterogeneity.words == "not known"


def test_azimuths_come_back_in_tables_arrays_and_titles(module_client, synthetic):
    run = synthetic(n_frames=6, n_expected=6, phi_deg=(45.0, math.nan))
    write(module_client, run)
    result = results(module_client, run.raw_uid)
    np.testing.assert_array_equal(result.c2(denoised=False)["phi_deg"], [45.0, math.nan])
    assert result.c2(1, denoised=False)["phi_deg"].item() == 45.0
    g2 = result.g2_table()
    assert set(g2.loc[g2["roi"] == 1, "phi_deg"]) == {45.0}
    assert "phi_deg" in result.gamma_table()
    assert "φ = 45°" in result_view(result, 1).roi
    assert "φ" not in result_view(result, 2).roi


def test_the_view_of_a_result_has_its_heterogeneity(finished):
    run, result = finished
    assert result_view(result, 1).heterogeneity.words == "ln Γ fluctuates by 0.55 ± 0.08"
    other = result_view(result, 2).heterogeneity
    np.testing.assert_allclose(other.chi, run.heterogeneity[1].chi)
    assert other.words == "not known"  # its spread was NaN, which is null in JSON


def test_the_model_image_is_made_from_the_rows_of_the_path(module_client, synthetic):
    run = synthetic()
    result = run.result()
    path = run.gamma(range(60), source="path", final=True, rate=0.1)
    columns = {"alpha": 1.0, "beta": 0.2, "baseline": 1.0}
    path = path.replace(**columns, converged=path.roi == 2)
    gamma = GammaTable.concatenate([result.gamma, path])
    run.result = lambda **_: dataclasses.replace(result, gamma=gamma)
    write(module_client, run)
    found = results(module_client, run.raw_uid)
    made = found.c2_model(2)
    assert made["model"].dims == ("t1_s", "t2_s")
    lag = abs(np.subtract.outer(np.arange(60), np.arange(60)))
    expected = np.where(lag > 0, 1 + 0.2 * np.exp(-0.1 * lag), np.nan)  # 0.1 1/s, 0.5 s a frame
    np.testing.assert_allclose(made["model"], expected, rtol=1e-9)
    residual = c2_residual(run.c2[1].astype(np.float64), expected)
    np.testing.assert_allclose(made["residual"], residual, rtol=1e-6)
    np.testing.assert_array_equal(made["t1_s"], np.arange(60) * 0.5)
    both = found.c2_model()
    assert both["model"].dims == ("roi", "t1_s", "t2_s")
    assert np.isnan(both["model"][0]).all(), "its path did not converge"
    np.testing.assert_array_equal(both["residual"][1], made["residual"])
    shown = result_view(found, 2, model=True).two_time
    assert shown.title == views.MODEL_TITLE
    np.testing.assert_allclose(shown.denoised[~np.eye(60, dtype=bool)], expected[lag > 0])
    with pytest.raises(ResultNotFoundError, match="ROI 1: got no converged row of source path"):
        found.plot(1, model=True)


def test_status_table_decodes_its_lists(live):
    table = live[1].status_table()
    assert table["n_processed"].tolist() == [30]
    assert table["contrast"].tolist() == [[0.1, None]]
    assert not [name for name in table if name.startswith("ts_")]


def test_a_result_without_denoising_says_why(module_client, synthetic):
    run = synthetic(n_frames=4, n_expected=4)
    sink = TiledSink(run.info, client=module_client)
    sink.write(run.publication(0, 4, band=None, status=Status(message="4 frames; 50 are needed.")))
    result = results(module_client, run.raw_uid)
    with pytest.raises(ResultNotFoundError, match=r"c2\(denoised=False\).* 50 are needed"):
        result.c2()
    np.testing.assert_array_equal(result.c2(denoised=False).values, run.c2)


def test_a_run_without_frames_has_empty_tables_of_the_same_types_and_no_c2(
    module_client, synthetic, finished
):
    run = synthetic()
    sink = TiledSink(run.info, client=module_client)
    status = Status(message="No frame could be read.")
    sink.finish(
        RunEnd(raw_exit_status="fail", analysis_exit_status="fail", reason="no file", status=status)
    )
    result, full = results(module_client, run.raw_uid), finished[1]
    for ask in (
        lambda result: result.gamma_table(),
        lambda result: result.gamma_table("path", final=False, recommended=True),
        lambda result: result.g2_table(),
    ):
        table = ask(result)
        assert len(table) == 0
        assert dict(table.dtypes) == dict(ask(full).dtypes)
        assert dict(pd.concat([table, ask(full)]).dtypes) == dict(table.dtypes)
    assert table["roi"].dtype == np.int64
    assert result.gamma_table().query("recommended and relaxation_rate > 1").empty
    with pytest.raises(ResultNotFoundError, match="No frame could be read"):
        result.c2(denoised=False)


def test_what_a_person_looks_for_is_in_the_first_columns(finished):
    assert list(finished[1].gamma_table())[:8] == [
        "roi", "q_inv_angstrom", "age_s", "relaxation_rate", "relaxation_rate_error", "alpha",
        "recommended", "source",
    ]  # fmt: skip


def test_recommended_rows_alone_can_be_asked_for(module_client, synthetic):
    run = synthetic()
    half = run.gamma(range(60), source="path", final=True)
    write_rows(module_client, run, half.replace(recommended=half.age_frame < 30))
    result = results(module_client, run.raw_uid)
    assert len(result.gamma_table("path")) == 120
    table = result.gamma_table("path", recommended=True)
    assert len(table) == 60
    assert table["recommended"].all()
    assert table.index.tolist() == list(range(60))
    assert result.gamma_table(recommended=True)["recommended"].all()


def test_a_gamma_table_of_schema_version_1_can_be_read(module_client, synthetic):
    run = synthetic()
    with as_before("gamma", "n_effective", "caution", "phi_deg"):
        write_rows(module_client, run)
    table = results(module_client, run.raw_uid).gamma_table()
    assert tuple(table.columns) == GAMMA_COLUMNS
    assert table["n_effective"].isna().all()
    assert set(table["caution"]) == {""}
    assert table["relaxation_rate"].notna().all()


def test_results_prefers_finished_ones_and_among_those_the_newest(module_client, synthetic):
    run = synthetic(n_frames=6, n_expected=6)
    old = write_rows(module_client, run)
    time.sleep(0.01)
    new = write_rows(module_client, run)
    time.sleep(0.01)
    write_rows(module_client, run, live=True)
    assert old.uid != new.uid
    assert results(module_client, run.raw_uid).start["uid"] == new.uid


def test_results_finds_the_newest_unfinished_one_where_none_is_finished(module_client, synthetic):
    run = synthetic(n_frames=6, n_expected=6)
    write_rows(module_client, run, live=True)
    time.sleep(0.01)
    new = write_rows(module_client, run, live=True)
    assert results(module_client, run.raw_uid).start["uid"] == new.uid


@pytest.mark.parametrize("place", [(), ("processed",), ("raw",)])
def test_results_takes_the_root_the_results_or_the_raw_runs(module_client, finished, place):
    run, result = finished
    catalog = module_client[place] if place else module_client
    assert results(catalog, run.raw_uid).start["uid"] == result.start["uid"]


def test_results_are_found_beside_the_raw_runs_of_a_beamline(module_client, synthetic):
    run = synthetic(n_frames=4, n_expected=4)
    sink = write_rows(module_client, run, path="chx/processed")
    if "raw" not in module_client["chx"]:
        module_client["chx"].create_container("raw")
    for place in (("chx",), ("chx", "raw"), ("chx", "processed")):
        assert results(module_client[place], run.raw_uid).start["uid"] == sink.uid
    assert results(module_client, run.raw_uid, path="chx/processed").start["uid"] == sink.uid


def test_a_run_without_result_names_every_place_that_was_searched(module_client):
    with pytest.raises(ResultNotFoundError, match=r"Run nope: no result in /raw, /processed\."):
        results(module_client["raw"], "nope")


def test_nodes_of_a_finished_result_are_asked_for_once_those_of_a_live_one_again(
    module_client, finished, live
):
    asked = []
    hooks = module_client.context.http_client.event_hooks["request"]
    hooks.append(lambda request: asked.append(request.url.path))
    numbers = {}
    try:
        for state, (run, _) in {"finished": finished, "live": live}.items():
            result = results(module_client, run.raw_uid)
            result.gamma_table()
            asked.clear()
            result.gamma_table()
            numbers[state] = sum("/metadata/" in path or "/search/" in path for path in asked)
            assert any("/table/" in path for path in asked)
    finally:
        hooks.pop()
    assert numbers["finished"] == 0
    assert numbers["live"] > 0


def test_a_result_reads_without_the_special_client(module_client, finished):
    from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
    from tiled.client.utils import client_for_item

    run, result = finished
    # A dict: a copy of Tiled's own map shares its entries with all clients of the process.
    structure_clients = {**result.structure_clients, "XPCSResult": BlueskyRunV3}
    plain = client_for_item(module_client.context, structure_clients, result.item)
    assert type(plain) is BlueskyRunV3
    assert plain["gamma"].read()["relaxation_rate"].shape == (300,)
    np.testing.assert_array_equal(plain["two_time"].read()["c2"], run.c2)
    assert type(results(plain, run.raw_uid)) is XPCSResult


def test_raw_is_the_run_that_a_tiled_writer_stored(module_client, synthetic):
    from bluesky_tiled_plugins import TiledWriter

    uid = str(uuid.uuid4())
    writer = TiledWriter(module_client["raw"])
    writer("start", {"uid": uid, "time": 1.0, "scan_id": 7})
    writer(
        "stop",
        {"uid": str(uuid.uuid4()), "time": 2.0, "run_start": uid, "exit_status": "success"},
    )
    run = synthetic(n_frames=4, n_expected=4)
    run.raw_uid = uid
    write_rows(module_client, run, raw_path="raw")
    raw = results(module_client, uid).raw()
    assert raw.start["uid"] == uid
    assert type(raw) is not XPCSResult
    write_rows(module_client, run)  # nobody told where the raw runs are: beside the results
    assert results(module_client, uid).raw().start["uid"] == uid


def test_a_raw_run_that_is_gone_is_named_with_where_it_was_looked_for(finished):
    run, result = finished
    pattern = rf"Raw run {re.escape(run.raw_uid)}: not found in .*/raw.*tiled\.raw_path"
    with pytest.raises(ResultNotFoundError, match=pattern):
        result.raw()


@pytest.mark.parametrize("kind", ["finished", "live", "raw only"])
def test_plot_shows_both_c2_on_one_scale_g2_and_gamma(
    kind, finished, live, module_client, synthetic, tmp_path
):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if kind == "raw only":
        run = synthetic(n_frames=8, n_expected=8)
        sink = TiledSink(run.info, client=module_client)
        sink.write(run.publication(0, 8, band=None, gamma=None))
        result = results(module_client, run.raw_uid)
    else:
        result = (finished if kind == "finished" else live)[1]
    figure = result.plot(2)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    raw, denoised = (panels[f"{name} C2"].images[0] for name in ("Raw", "Denoised"))
    assert raw.get_clim() == denoised.get_clim()
    np.testing.assert_array_equal(
        np.asarray(raw.get_array()), result.c2(2, denoised=False).values.T
    )
    if kind == "raw only":
        assert panels["Denoised C2"].texts[0].get_text() == "no denoiser"
    assert {"Γ(t)", "Γ against q²"} < set(panels)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    plt.close(figure)


def test_the_next_plot_of_a_user_does_not_land_in_the_figure_of_a_result(finished):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    result = finished[1]
    figure = result.plot()
    before = [len(axes.get_children()) for axes in figure.axes]
    drawn = result.c2(2, denoised=False).plot()
    assert drawn.figure is plt.gcf() is not figure
    assert [len(axes.get_children()) for axes in figure.axes] == before
    assert (drawn.axes.get_xlabel(), drawn.axes.get_ylabel()) == ("t2 [s]", "t1 [s]")
    assert drawn.colorbar.ax.get_ylabel() == "C2 [1]"
    plt.close("all")


def test_in_an_interactive_session_the_figure_is_shown_once(finished, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.backend_bases import FigureManagerBase

    shown = []
    monkeypatch.setattr(FigureManagerBase, "show", lambda manager: shown.append(manager.canvas))
    figure = finished[1].plot()
    assert not shown
    with matplotlib.rc_context({"interactive": True}):
        figure = finished[1].plot()
    assert [canvas.figure for canvas in shown] == [figure]


def test_databroker_2_finds_a_result_through_a_profile(
    tiled_server, finished, tmp_path, monkeypatch
):
    run, result = finished
    profile = {"xpcs_test": {"uri": tiled_server.uri}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profile))
    monkeypatch.setenv("TILED_PROFILES", str(tmp_path))
    import databroker

    catalog = databroker.from_profile("xpcs_test", api_key=tiled_server.api_key)
    found = results(catalog["raw"], run.raw_uid)
    assert found.start["uid"] == result.start["uid"]
    assert len(found.gamma_table()) == 240
    catalog.context.close()


def test_the_result_is_free_of_the_servers_key(tiled_server, finished):
    _, result = finished
    assert tiled_server.api_key not in json.dumps(result.metadata, default=str)
