"""The command line as a whole: what every command shares."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from xpcs_live_denoise.commands import main
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.numerics.kww import kww

COMMANDS = (
    *("demo", "init", "check", "catalog", "train", "evaluate", "deliver", "view"),
    *("convert-rois", "serve", "replay", "bench"),
)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Data in the format of the public set: 5 series of 8 noisy windows each."""
    rng = np.random.default_rng(8)
    rows, cols = np.triu_indices(50)
    curves = np.stack([kww(np.arange(50), rate) for rate in (0.02, 0.04, 0.06, 0.09, 0.12)])
    target = curves[:, cols - rows].astype(np.float32)
    index = np.repeat(np.arange(5), 8)
    file = tmp_path_factory.mktemp("windows") / "windows.npz"
    np.savez(
        file,
        c2=(target[index] + rng.normal(0, 0.3, (40, 1275))).astype(np.float32),
        target=target,
        target_index=index.astype(np.int32),
        window=np.tile(np.arange(8), 5).astype(np.int16),
        experiment=np.arange(5, dtype=np.int16),
        roi=np.ones(5, np.int16),
        every_second_frame=np.zeros(5, bool),
    )
    return file


def run_here(*arguments):
    """Run a command in the test's process; return what it printed."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.output


def test_a_trained_ensemble_is_evaluated_and_what_is_asked_for_is_written(
    windows, tmp_path, command
):
    ensemble, table, predictions = (tmp_path / name for name in ("ensemble", "t.json", "all"))
    trained = command("train", windows, "--out", ensemble, "--members", 1, "--candidates", 1)
    assert "1 members are in" in trained.stdout
    files = ("--json", table, "--predictions", predictions)
    evaluated = command("evaluate", windows, "--weights", ensemble, *files).stdout
    assert "raw" in evaluated
    assert "cnn" in evaluated
    assert "any_size" in evaluated
    methods = json.loads(table.read_text())["methods"]
    assert methods["bayes"]["target"]["mse_g2"] < methods["raw"]["target"]["mse_g2"]
    with np.load(predictions) as stored:
        assert stored["cnn_g2"].shape == (40, 49)
        for method in ("raw", "cnn"):
            for name in ("gamma", "gamma_error", "alpha", "beta", "baseline", "converged"):
                assert stored[f"{method}_{name}"].shape == (40,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "missing.npz"], "missing.npz"),
        (["evaluate", "missing.npz", "--json", "no/such/folder/t.json"], "folder does not exist"),
        (["evaluate", "--paper", "x"], "got --paper without a file of windows"),
        (["evaluate", "w.npz", "--frames", "350"], "got --frames beside a file of windows"),
        (["evaluate", "w.npz", "--seed", "0"], "got --seed beside a file of windows"),
        (["train", "--out", "o", "--minutes", "2", "--simulated"], "got --minutes with --denoiser"),
        (
            ["train", "--out", "o", "--denoiser", "any_size", "--epochs", "2", "--recipe", "own"],
            "got --recipe, --epochs with --denoiser any_size; expected them with --denoiser",
        ),
        (
            ["train", "--out", "o", "--denoiser", "any_size", "--device", "abacus"],
            "device 'abacus' cannot be used",
        ),
        (["demo", "--data", "missing.npz"], "missing.npz"),
        (["demo", "--rois", "1000"], "Ask for fewer"),
        (["catalog", "missing"], "holds no catalog"),
        (["convert-rois", "--yes", "[/missing].pkl", "a.npz"], "Pickle [/missing].pkl: "),
        (
            ["convert-rois", "--yes", __file__, "a.npz"],
            "Expected a pickle of [roi_mask, qval_dict]",
        ),
        (["view", "http://127.0.0.1:http"], "expected an address such as"),
    ],
)
def test_an_error_is_one_line_and_no_traceback(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["xpcs-live-denoise", *arguments])
    with pytest.raises(SystemExit, match="1"):
        main()
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith("Error: ")
    assert message in told.out
    assert "Traceback" not in told.out + told.err


def test_a_process_ends_with_status_1_after_an_error_and_2_after_a_wrong_option(command):
    run = command("catalog", "missing", check=False)
    assert (run.returncode, run.stderr) == (1, "")
    assert run.stdout.startswith("Error: Folder missing: holds no catalog; expected one that")
    run = command("view", "http://127.0.0.1:9", "--port", 65536, check=False)
    assert run.returncode == 2
    assert "65535" in run.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    page = CliRunner().invoke(app, [name, "--help"])
    assert page.exit_code == 0
    assert re.search(rf"Usage: .* {name} ", page.output)
    assert name in CliRunner().invoke(app, ["--help"]).output


def test_the_command_line_loads_what_a_command_needs_and_no_more():
    script = "import sys, xpcs_live_denoise.commands.cli; print('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    heavy = {"numpy", "pandas", "torch", "matplotlib", "tiled", "bluesky", "scipy", "httpx"}
    assert not heavy & set(run.stdout.split())
