"""`runs` prints the table of runs, or writes it."""

import pandas as pd
import pytest

from tests.support.written import end
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks.run import TiledSink


def ask(*words):
    return app(list(map(str, words)), standalone_mode=False)


@pytest.fixture
def server(tiled_server, tiled_client, synthetic, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    monkeypatch.setenv("COLUMNS", "200")
    if "listed" not in tiled_client:
        for scan, degrees in ((11, 20), (12, 30)):
            run = synthetic(n_frames=4, start={"scan_id": scan, "T_sample": degrees})
            end(TiledSink(run.info, client=tiled_client, path="listed"), run.result(denoised=False))
    return tiled_server.uri


def test_the_table_is_printed_with_the_keys_that_were_asked_for(server, capsys):
    ask("runs", server, "--path", "listed", "--scan-ids", "12-20", "--key", "T_sample=30")
    said = capsys.readouterr().out
    assert "1 runs" not in said
    assert "1 run" in said
    assert "12" in said
    assert "T_sample" in said
    assert "2 +- 0.5 1/s" in said
    assert "gel" in said
    ask("runs", server, "--path", "listed", "--sample", "water")
    assert capsys.readouterr().out == "No runs.\n"


def test_the_whole_table_goes_into_a_file(server, tmp_path, capsys):
    ask("runs", server, "--path", "listed", "--csv", tmp_path / "runs.csv")
    assert "4 rows of 2 runs" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "runs.csv")
    assert sorted(table["T_sample"].unique()) == [20, 30]
    assert table["relaxation_rate"].tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--key", "T_sample"], "--key T_sample: .*expected NAME=VALUE"),
        (["--csv", "runs.txt"], r"expected \.csv"),
        (["--since", "20.11.2026"], "since: got '20.11.2026'"),
        ([], "xpcs-live-denoise runs: no address of a Tiled server"),
    ],
)
def test_what_cannot_be_is_said(server, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    address = [server] if words else []
    with pytest.raises(InvalidInputError, match=said):
        ask("runs", *address, *words)
