"""What commands say at their start of the disk, and that they go on."""

import shutil

import pytest

from xpcs_live_denoise import Settings
from xpcs_live_denoise.commands.preflight import findings, tell_findings

MIB = 2**20


@pytest.fixture
def settings(tmp_path):
    return Settings(detector="cam", spool=tmp_path / "spool")


@pytest.mark.parametrize(("free", "problem"), [(100 * MIB, True), (800 * MIB, False)])
def test_a_disk_that_fills_is_told_before_the_first_run(settings, monkeypatch, free, problem):
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    (finding,) = findings(settings, None)
    assert (finding.subject, finding.problem) == ("spool", problem)
    assert f"{free // MIB} MiB are free" in finding.text
    assert "set `spool` to another disk" in finding.text


def test_a_disk_with_room_and_no_redis_to_ask_give_no_line(settings, capsys):
    tell_findings(settings, None)
    assert capsys.readouterr().out == ""
    assert not list(settings.spool.iterdir())


def test_a_spool_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    tell_findings(Settings(detector="cam", spool=tmp_path / "file/spool"), None)
    said = capsys.readouterr().out
    assert "Problem: spool:" in said
    assert "cannot be written" in said
    assert "set `spool` to another one" in said


def test_redis_is_asked_where_its_address_is_known(settings, monkeypatch):
    monkeypatch.setenv("XPCS_TILED_REDIS", "redis://127.0.0.1:9/0")
    (finding,) = findings(settings, None)
    assert finding.subject == "Redis"
