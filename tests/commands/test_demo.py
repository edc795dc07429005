"""The demo, where it cannot even begin, and the whole of it once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiled.client import from_uri

from xpcs_live_denoise import InvalidInputError
from xpcs_live_denoise.commands.demo import demo


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/none"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_starts(tmp_path, name, capsys):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidInputError, match=r"cannot be made, .*expected a folder .*--out"):
        demo(frames=60, out=tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.system
@pytest.mark.slow
def test_the_demo_runs_from_the_server_to_the_figure_and_its_catalog_stays(tmp_path, command):
    options = ("--frames", 100, "--rate", 60, "--rois", 2, "--out", tmp_path / "out")
    output = command("demo", *options).stdout
    assert "frames seen" in output
    assert "Gamma now" in output
    assert "Gamma(t) in 1/s, ROI 2" in output
    assert "-m xpcs_live_denoise catalog" in output
    figure = Path(output.split("Figure: ")[1].split("\n")[0])
    assert figure.stat().st_size > 50_000
    assert (tmp_path / "out/catalog/catalog.db").is_file()
    log = (tmp_path / "out/tiled.log").read_text()
    assert "Traceback" not in log
    served_again(tmp_path / "out")


def served_again(folder):
    """Serve the catalog of a demo in a process; Ctrl-C ends it and the key goes."""
    with subprocess.Popen(
        [sys.executable, "-m", "xpcs_live_denoise", "catalog", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        uri = process.stdout.readline().split("Tiled server at ")[1].split(";")[0]
        client = from_uri(uri, api_key=(folder / "api_key").read_text())
        assert len(client["processed"].values().last().gamma_table())
        client.context.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, process.stdout.read()
    assert not (folder / "api_key").exists()
