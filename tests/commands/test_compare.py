"""The command that lays the results of one run side by side."""

import dataclasses

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tests.support import written
from xpcs_live_denoise import compare as compare_results
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks.run import TiledSink

OFF = "reprocess, outliers off"


@pytest.fixture(scope="module")
def raw_uid(module_client, synthetic):
    """A run with a live result and a reprocessed one, whose Gamma is twice as high."""
    run = synthetic(n_frames=60, n_roi=1, start={"scan_id": 771})
    for number, (by, outliers) in enumerate([("live", "mask"), ("reprocess", "off")], 1):
        settings = {"detector": "eiger", "outliers": outliers}
        info = dataclasses.replace(run.info, analysed_by=by, settings=settings)
        result = run.result()
        rates = result.gamma.relaxation_rate * number
        gamma = result.gamma.replace(relaxation_rate=rates, relaxation_rate_error=0.1 * rates)
        sink = TiledSink(info, client=module_client, path="compared", created=1e9 + number)
        written.end(sink, dataclasses.replace(result, gamma=gamma))
    return run.raw_uid


@pytest.fixture
def compare(tiled_server, raw_uid, tmp_path, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    monkeypatch.setenv("COLUMNS", "200")
    config = tmp_path / "xpcs.yml"
    tiled = {"uri": tiled_server.uri, "path": "compared"}
    config.write_text(yaml.safe_dump({"detector": "eiger", "tiled": tiled}))

    def call(*arguments):
        words = ["compare", f"--config={config}", *map(str, arguments)]
        found = CliRunner().invoke(app, words, catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.output

    return call


def test_the_results_of_a_run_are_shown_with_the_settings_that_differ(compare, tmp_path):
    said = compare(771, "--csv", tmp_path / "two.csv", "--plot", tmp_path / "two.png")
    assert "2 results of the run" in said
    for words in ("live", OFF, "Settings that differ", "outliers", "mask", "off"):
        assert words in said
    table = pd.read_csv(tmp_path / "two.csv")
    assert table["result"].tolist() == ["live", OFF]
    ratio = table["relaxation_rate"][1] / table["relaxation_rate"][0]
    assert ratio == pytest.approx(2)
    assert table["change_in_errors"][0] == 0
    assert table["change_in_errors"][1] > 3
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_tables_of_all_results_say_which_row_is_of_which(module_client, raw_uid):
    found = compare_results(module_client["compared"], raw_uid)
    for table in (found.gamma_table(), found.g2_table()):
        assert table.columns[0] == "result"
        assert table["result"].unique().tolist() == ["live", OFF]
    gamma = found.plot(1).axes[0]
    assert gamma.get_ylabel() == "Γ (1/s)"
    assert [text.get_text() for text in found.plot().legends[0].get_texts()] == ["live", OFF]
    with pytest.raises(InvalidInputError, match=r"ROI 9: in none of the results; expected .*\[1\]"):
        found.plot(9)
