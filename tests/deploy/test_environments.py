"""The wheel in environments of its own: a profile like CHX's, and the oldest versions allowed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def deployed(test):
    """Mark what builds and installs."""
    return pytest.mark.deployment(pytest.mark.timeout(1500)(test))


# Extras of which a test of the oldest versions has no use: large, or for who develops.
NOT_TRIED = {"torch", "qt", "bench", "docs", "dev", "all"}

# A series on a simulated camera, in an environment that has the wheel and nothing of this clone.
SERIES = """
import importlib.util, json, sys
import bluesky.plans as bp
import numpy as np
from bluesky.run_engine import RunEngine
from tiled.client import from_uri
import xpcs_live_denoise
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, results, simulate_speckle
from xpcs_live_denoise.simulation import SimulatedCamera

uri, key = sys.argv[1:]
rings = RoiMap.rings((64, 64), (31.5, 31.5), [(10, 20), (20, 30)])
camera = SimulatedCamera(
    lambda: simulate_speckle(rings, 80, relaxation_rate=0.05, mean_counts=1.0, seed=1), name="cam"
)
catalog = from_uri(uri, api_key=key)
live = LiveDenoise(Settings(detector="cam", frame_time_s=0.1), rois=rings, catalog=catalog)
engine = RunEngine({}, context_managers=[])
engine.subscribe(live)
(uid,) = engine(bp.count([camera], num=80))
assert live.wait(200)
gamma = results(catalog, uid).gamma_table(recommended=True)
print(json.dumps({
    "where": xpcs_live_denoise.__file__,
    "rate": float(np.median(gamma.relaxation_rate)),
    "message": live.status[uid].message,
    "missing": [n for n in ("torch", "fastapi", "bokeh") if not importlib.util.find_spec(n)],
    "numpy": np.__version__,
}))
live.close()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True
    )
    return folder


@pytest.fixture
def environment(built, tmp_path):
    """Return a function that installs the wheel under constraints; it returns the Python."""

    def environment(constraints):
        python = tmp_path / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        (wheel,) = built.glob("*.whl")
        pip = [python, "-m", "pip", "install", "--quiet", "--prefer-binary"]
        subprocess.run([*pip, "--constraint", constraints, wheel], check=True)
        return python

    return environment


@pytest.fixture
def series(tiled_server, tmp_path):
    """Return a function that runs a series with a Python, and returns what it found."""

    def series(python):
        done = subprocess.run(
            [python, "-c", SERIES, tiled_server.uri, tiled_server.api_key],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return series


def test_the_oldest_versions_are_those_that_pyproject_allows():
    """The job that tries them would else try others; and what is installed has one of them all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints-oldest.txt").read_text().split()
    oldest = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    wanted += [line for extra, group in extras.items() if extra not in NOT_TRIED for line in group]
    for requirement in map(Requirement, wanted):
        (least,) = requirement.specifier
        assert least.operator == ">="
        pinned = oldest.get(canonicalize_name(requirement.name), "")
        assert pinned, f"{requirement}: not in constraints-oldest.txt"
        assert Version(pinned) == Version(least.version), requirement


@deployed
def test_the_commands_of_the_wheel_can_be_run_by_pipx(built, tmp_path):
    """In an environment that pipx makes of it, without a file of this clone."""
    home = {"PIPX_HOME": str(tmp_path / "pipx"), "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
    (wheel,) = built.glob("*.whl")
    command = [sys.executable, "-m", "pipx", "run", "--spec", wheel, "xpcs-live-denoise"]
    for words, said in ((["--version"], "0.1.0"), (["init", "--out", "xpcs.yml"], "xpcs.yml")):
        done = subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            env={name: v for name, v in os.environ.items() if name != "PYTHONPATH"} | home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout + done.stderr
    assert "detector:" in (tmp_path / "xpcs.yml").read_text()


@deployed
def test_wheel_and_source_are_fit_for_an_index(built):
    files = sorted(map(str, built.iterdir()))

    assert len(files) == 2
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@deployed
def test_a_profile_without_torch_and_server_runs_a_series(environment, series, tmp_path):
    found = series(environment(ROOT / "constraints.txt"))

    assert found["where"].startswith(str(tmp_path))
    assert found["missing"] == ["torch", "fastapi", "bokeh"]
    assert "needed to denoise" in found["message"]
    assert found["rate"] == pytest.approx(0.5, rel=0.4)


@deployed
def test_the_oldest_versions_that_are_allowed_run_a_series(environment, series, tmp_path):
    found = series(environment(ROOT / "constraints-oldest.txt"))

    assert found["where"].startswith(str(tmp_path))
    assert found["numpy"] == "1.26.0"
    assert found["rate"] == pytest.approx(0.5, rel=0.4)
