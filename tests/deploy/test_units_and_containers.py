"""What deploy/ has for systemd and containers: valid, tight, every variable told."""

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

from xpcs_live_denoise.commands.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "containers/compose.yml").read_text())


def read(name):
    return (DEPLOY / name).read_text()


def variables_of(text):
    """The variables that an environment file sets, also those that stand there as a comment."""
    return set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A file system with the units and the programs that they name, where they are installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    root = tmp_path_factory.mktemp("root")
    units = root / "etc/systemd/system"
    shutil.copytree("/lib/systemd/system", units, symlinks=True)
    (root / "opt/xpcs/venv/bin").mkdir(parents=True)
    for name in ("xpcs-live-denoise", "tiled"):
        program = root / "opt/xpcs/venv/bin" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    for name in UNITS:
        shutil.copy(DEPLOY / "systemd" / name, units)
    return root


@pytest.mark.deployment
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_knows_every_line_of_a_unit(installed, unit):
    """It returns 0 for keys that it does not know: only a silent standard error is good."""
    file = installed / "etc/systemd/system" / unit
    verify = ["systemd-analyze", "verify", "--man=no", f"--root={installed}", str(file)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    with file.open("a") as broken:
        broken.write("\n[Service]\nRestartSteps=5\n")  # not known to systemd 252
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    shutil.copy(DEPLOY / "systemd" / unit, file)
    assert "RestartSteps" in done.stderr or _version() >= 254


def _version():
    said = subprocess.run(
        ["systemd-analyze", "--version"], capture_output=True, text=True, check=True
    )
    return int(re.search(r"systemd (\d+)", said.stdout).group(1))


@pytest.mark.deployment
@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_to_little(installed, unit):
    options = ["security", "--offline=yes", "--threshold=30", "--no-pager"]
    done = subprocess.run(
        ["systemd-analyze", *options, str(DEPLOY / "systemd" / unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_says_who_it_runs_as_and_lets_numba_compile(unit):
    text = read(f"systemd/{unit}")
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "RestartSec=10"):
        assert line in text
    assert re.search(r"^User=(?!root)\w", text, re.MULTILINE)
    assert re.search(r"^StartLimitBurst=\d", text, re.MULTILINE)
    assert not re.search(r"^(MemoryDenyWriteExecute|RestartSteps)", text, re.MULTILINE)


def commands():
    """The command lines of ours in units and in the compose file."""
    for unit in UNITS:
        yield re.search(r"^ExecStart=(.*)$", read(f"systemd/{unit}"), re.MULTILINE).group(1)
    for service in COMPOSE["services"].values():
        yield " ".join(service["command"]).replace("$$", "$") if "command" in service else ""


@pytest.mark.parametrize("line", [one for one in commands() if "xpcs-live-denoise" in one])
def test_a_command_line_has_options_that_the_command_has(line):
    import typer

    words = line.partition("xpcs-live-denoise ")[2].split()
    command = typer.main.get_command(app).commands[words[0]]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_variable_is_in_an_environment_file():
    xpcs, tiled = (variables_of(read(f"{name}.env.example")) for name in ("xpcs", "tiled"))
    for unit in UNITS:
        text = read(f"systemd/{unit}")
        used = set(re.findall(r"\$\{?([A-Z_]+)", text))
        assert used <= (tiled if "tiled.env" in text else xpcs), unit
    assert set(re.findall(r"\$\{([A-Z_]+)\}", read("tiled/production.yml"))) <= tiled
    assert set(re.findall(r"\$\$?\{?([A-Z_]+)", read("containers/compose.yml"))) <= xpcs | tiled
    for script in ("backup", "restore"):
        used = set(re.findall(r"\$\{?(XPCS_TILED_[A-Z]+)", read(f"bin/{script}.sh")))
        assert used <= tiled


def test_the_compose_file_follows_the_specification_of_compose():
    vendor = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(vendor.read_text())
    check = jsonschema.validators.validator_for(schema)(schema).validate
    check(COMPOSE)
    wrong = {"services": {"tiled": {"image": "a", "helthcheck": {}}}}
    with pytest.raises(jsonschema.ValidationError, match="helthcheck"):
        check(wrong)
    for service in COMPOSE["services"].values():
        for name in service.get("depends_on", {}):
            assert "healthcheck" in COMPOSE["services"][name]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith((".", "${"))


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_a_script_is_one_that_a_plain_shell_reads(name):
    subprocess.run(["sh", "-n", str(DEPLOY / f"bin/{name}.sh")], check=True)
