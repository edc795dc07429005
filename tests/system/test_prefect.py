"""deploy/prefect: the end-of-run flow in an environment of its own, as a workflow server has it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "prefect"
RUN = """
import sys
from end_of_run import end_of_run_workflow
end_of_run_workflow({"run_start": sys.argv[1], "exit_status": "success"})
"""


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    """The Python of an environment with what deploy/prefect/requirements.txt names."""
    folder = tmp_path_factory.mktemp("prefect") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", FOLDER / "requirements.txt"], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def flow(prefect, tmp_path):
    """Return a function that runs the flow for a uid with a command in the place of ours."""

    def flow(uid, command):
        environment = {
            **os.environ,
            "PYTHONPATH": str(FOLDER),
            "PREFECT_HOME": str(tmp_path / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "XPCS_COMMAND": shlex.join(command),
            "XPCS_CONFIG": "settings.yml",
        }
        return subprocess.run(
            [prefect, "-c", RUN, uid],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )

    return flow


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_the_flow_reprocesses_the_run_of_a_stop_document(flow, tmp_path):
    written = tmp_path / "arguments"
    ours = [
        sys.executable,
        "-c",
        f"import sys; open({str(written)!r}, 'w').write(str(sys.argv[1:]))",
    ]
    ended = flow("a1b2c3d4", ours)
    assert ended.returncode == 0, ended.stderr
    expected = ["reprocess", "--config", "settings.yml", "--skip-done", "--", "a1b2c3d4"]
    assert written.read_text() == str(expected)


@pytest.mark.deployment
@pytest.mark.timeout(900)
def test_the_command_knows_the_arguments_of_the_flow(tmp_path):
    arguments = ["reprocess", "--config", tmp_path / "none.yml", "--skip-done", "--", "a1b2c3d4"]
    ended = subprocess.run(
        [sys.executable, "-m", "xpcs_live_denoise", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "Expected a YAML file" in " ".join(ended.stderr.replace("│", " ").split())
