"""The Containerfile's steps, in a clean environment where no container engine is there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/containers/Containerfile"
# Of the base image, and of root's: not of the environment that is made.
ELSEWHERE = ("useradd", "install -d")


def steps():
    return re.findall(r"^RUN (.*)$", FILE.read_text(), re.MULTILINE)


@pytest.mark.deployment
@pytest.mark.timeout(1800)
def test_the_steps_of_the_image_make_an_environment_that_runs(tmp_path):
    prefix = tmp_path / "opt/xpcs"
    shutil.copytree(
        ROOT,
        prefix / "source",
        ignore=shutil.ignore_patterns(".venv", ".git", "__pycache__", "*.nbc", "*.nbi"),
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    environment["NUMBA_CACHE_DIR"] = str(prefix / "numba")
    for step in steps():
        if step.startswith(ELSEWHERE):
            continue
        # A mirror, where one is set, has torch for the CPU, too.
        command = re.sub(r"--extra-index-url \S+ ", "", step).replace("/opt/xpcs", str(prefix))
        command = command.replace("python3 -m venv", f"{sys.executable} -m venv")
        done = subprocess.run(
            ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"

    def run(*words):
        command = [prefix / "venv/bin" / words[0], *words[1:]]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    for command in ("serve", "view", "deliver", "check"):
        done = run("xpcs-live-denoise", command, "--help")
        assert done.returncode == 0, done.stderr
    assert "--metrics-port" in run("xpcs-live-denoise", "serve", "--help").stdout
    demo = run("xpcs-live-denoise", "demo", "--frames", "60", "--rate", "60")
    assert demo.returncode == 0, demo.stdout[-2000:] + demo.stderr[-2000:]
    variables = re.findall(r"\$\{(\w+)\}", (ROOT / "deploy/tiled/production.yml").read_text())
    given = {name: "sqlite:////tmp/x" if "TABLES" in name else "/x" for name in variables}
    environment |= given
    environment |= {"XPCS_TILED_CATALOG": "postgresql+asyncpg://a@127.0.0.1/b"}
    environment |= {"XPCS_TILED_REDIS": "redis://127.0.0.1:6379/0"}
    config = str(prefix / "deploy/tiled/production.yml")
    done = run("tiled", "admin", "check-config", config)
    assert "No errors found" in done.stdout, done.stderr
