"""The command that writes stored results into files."""

import dataclasses

import pytest
import yaml
from typer.testing import CliRunner

from tests.support import written
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import XpcsError
from xpcs_live_denoise.sinks.run import TiledSink


@pytest.fixture
def export(tiled_server, tmp_path, monkeypatch):
    """Call `export` with the settings of the worker's server."""
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    config = tmp_path / "xpcs.yml"
    tiled = {"uri": tiled_server.uri, "api_key_env": "XPCS_TEST_KEY", "path": "exported"}
    config.write_text(yaml.safe_dump({"detector": "eiger", "tiled": tiled}))

    def call(*arguments):
        found = CliRunner().invoke(app, ["export", f"--config={config}", *map(str, arguments)])
        assert isinstance(found.exception, SystemExit | XpcsError | None), found.exception
        return found.exit_code, found.output + str(found.exception)

    return call


def test_runs_are_written_into_a_folder_and_one_that_fails_does_not_stop_the_rest(
    export, tiled_client, synthetic, tmp_path
):
    uids = {}
    for scan_id in (501, 502):
        run = synthetic(n_frames=10, n_roi=1, start={"scan_id": scan_id})
        sink = TiledSink(
            dataclasses.replace(run.info, detector="eiger/1m"), client=tiled_client, path="exported"
        )
        if scan_id == 501:
            written.end(sink, run.result())
        else:
            sink.write(run.publication(0, 5))
        uids[scan_id] = run.raw_uid[:8]
    out = tmp_path / "new" / "folder"
    code, text = export(502, 501, 503, "--out", out, "--format", "h5", "--format", "csv")
    assert code == 1
    assert "502: not exported. Result" in text
    assert "still on, 5 frames so far" in text
    assert "503: not exported." in text
    assert "2 of 3 runs were not exported." in text
    names = [f"501_{uids[501]}_eiger-1m.{ending}" for ending in ("csv", "h5")]
    assert sorted(file.name for file in out.iterdir()) == names
    code, text = export(uids[501], "--out", out)
    assert code == 1
    assert "is there already" in text
    assert export(uids[501], "--out", out, "--overwrite")[0] == 0
    code, text = export("--out", out / names[0], "501")
    assert code == 1
    assert "is a file; expected a folder" in text
