"""The command line, called as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.numerics.fits import kww

COMMAND = [sys.executable, "-m", "xpcs_live_denoise"]


def call(*arguments, check=True):
    run = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=280, check=False
    )
    assert not check or run.returncode == 0, run.stderr + run.stdout
    assert "Traceback" not in run.stderr
    return run


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


def test_evaluate_prints_a_table_and_writes_what_it_is_asked_for(windows, tmp_path):
    table, predictions = tmp_path / "table.json", tmp_path / "predictions"
    run = call("evaluate", windows, "--json", table, "--predictions", predictions)
    assert "raw" in run.stdout
    assert "cnn" in run.stdout
    methods = json.loads(table.read_text())["methods"]
    error = {
        name: method["target"]["mse_g2"]
        for name, method in methods.items()
        if name != "recommended"
    }
    assert error["bayes"] < error["raw"]
    assert error["cnn"] < error["raw"]
    with np.load(predictions) as stored:
        assert stored["cnn_g2"].shape == (40, 49)
        for method in ("raw", "cnn"):
            for name in ("gamma", "gamma_error", "alpha", "beta", "baseline", "converged"):
                assert stored[f"{method}_{name}"].shape == (40,)


def test_a_trained_ensemble_can_be_evaluated(windows, tmp_path):
    out = tmp_path / "ensemble"
    run = call("train", windows, "--out", out, "--members", 1, "--candidates", 1)
    assert "1 members are in" in run.stdout
    run = call("evaluate", windows, "--weights", out)
    assert "cnn" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "missing.npz"], "missing.npz"),
        (["evaluate", "missing.npz", "--json", "no/such/folder/t.json"], "folder does not exist"),
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
def test_an_error_is_one_line_and_no_traceback(arguments, message):
    run = call(*arguments, check=False)
    assert run.returncode == 1
    assert message in run.stdout + run.stderr


def test_a_port_that_is_none_is_refused():
    run = call("view", "http://127.0.0.1:9", "--port", 65536, check=False)
    assert run.returncode == 2
    assert "65535" in run.stderr


@pytest.mark.system
@pytest.mark.slow
def test_the_demo_runs_from_the_server_to_the_figure_and_its_catalog_stays(tmp_path):
    run = call("demo", "--frames", 120, "--rate", 60, "--rois", 2, "--out", tmp_path / "out")
    assert "frames seen" in run.stdout
    assert "Gamma now" in run.stdout
    assert "Gamma(t) in 1/s, ROI 2" in run.stdout
    assert "-m xpcs_live_denoise catalog" in run.stdout
    figure = Path(run.stdout.split("Figure: ")[1].split("\n")[0])
    assert figure.stat().st_size > 50_000
    assert (tmp_path / "out/catalog/catalog.db").is_file()
    log = (tmp_path / "out/tiled.log").read_text()
    assert "Traceback" not in log
