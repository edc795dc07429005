"""Delivery of the spool where something is wrong with it; with a server: test_tiled_outages."""

import uuid

import pytest
import yaml
from tiled.structures.core import Spec
from typer.testing import CliRunner

from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.commands.deliver import deliver_run
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks.spool import Spool


class Delivering:
    """The command with a settings file, and the spool that it delivers."""

    def __init__(self, folder):
        self.file, self.spool = folder / "xpcs.yml", folder / "spool"
        self.tiled = {"uri": "http://127.0.0.1:9", "api_key_env": "XPCS_TEST_KEY"}

    def run(self, *arguments, spool=True):
        fields = {"detector": "eiger", "tiled": self.tiled}
        if spool:
            fields["spool"] = str(self.spool)
        self.file.write_text(yaml.safe_dump(fields))
        found = CliRunner().invoke(app, ["deliver", f"--config={self.file}", *arguments])
        assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
        return found.exit_code, found.output.splitlines()

    def keep(self, run, uid, path="processed"):
        """Put a run into the spool as a session does."""
        box = Spool(self.spool, run.info, uid=uid, time=5.0, path=path)
        box.put(run.publication(0, 5))
        return box


@pytest.fixture
def delivering(tmp_path, monkeypatch):
    monkeypatch.setenv("XPCS_TEST_KEY", "abcdef")
    return Delivering(tmp_path)


def test_an_empty_spool_is_no_failure(delivering, tmp_path):
    assert delivering.run() == (0, [f"Nothing to deliver in {tmp_path / 'spool'}."])
    other = tmp_path / "other"
    assert delivering.run(f"--spool={other}") == (0, [f"Nothing to deliver in {other}."])


def test_the_default_spool_is_the_users_own(delivering, state_home):
    own = state_home / "xpcs-live-denoise" / "spool"
    assert delivering.run(spool=False) == (0, [f"Nothing to deliver in {own}."])


def test_what_cannot_be_delivered_stays_and_each_run_is_tried(delivering, synthetic):
    for number, uid in enumerate(("one", "two", "three")):
        delivering.keep(synthetic(seed=number), uid).close()
    damaged = next(delivering.spool.glob("*-two/run.npz"))
    damaged.write_bytes(b"no zip at all")
    status, lines = delivering.run()
    assert status == 1
    assert len(lines) == 3
    assert sum("not delivered (TiledUnavailableError" in line for line in lines) == 2
    assert sum("not delivered (InvalidInputError: Spooled record" in line for line in lines) == 1
    assert len(list(delivering.spool.glob("*/*-publication.npz"))) == 3
    assert "abcdef" not in "".join(lines)


def test_a_file_that_is_missing_on_the_way_to_the_server_is_no_delivery(
    delivering, synthetic, monkeypatch
):
    box = delivering.keep(synthetic(), "one")
    box.close()
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/ca.pem")
    delivering.tiled["uri"] = "https://127.0.0.1:9"
    status, (line,) = delivering.run()
    assert status == 1
    assert "not delivered (FileNotFoundError" in line
    assert box.folder.exists()


def test_a_run_that_vanishes_between_listing_and_delivery_is_another_processs(
    delivering, synthetic, capsys
):
    box = delivering.keep(synthetic(), "one")
    box.clear()
    assert deliver_run(box.folder, Settings(detector="eiger", tiled=delivering.tiled))
    assert capsys.readouterr().out == f"{box.folder.name}: delivered by another process.\n"


@pytest.mark.parametrize("own", ["", "a_raw_container"])
def test_a_run_whose_container_does_not_do_is_delivered_elsewhere(
    delivering, synthetic, tiled_server, tiled_client, monkeypatch, own
):
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    delivering.tiled["uri"] = tiled_server.uri
    if own:
        raw = tiled_client.create_container(own)
        raw.create_container("run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    run, uid = synthetic(), str(uuid.uuid4())
    delivering.keep(run, uid, path=own).close()
    status, (line,) = delivering.run()
    assert status == 1
    assert "not delivered (InvalidInputError: Container" in line
    assert "xpcs-live-denoise deliver --config xpcs.yml --path processed" in line
    status, (line,) = delivering.run("--path=else/where")
    assert status == 0
    assert f"delivered as else/where/{uid}, without an end" in line
    stop = tiled_client["else", "where", uid].metadata["stop"]
    assert f"replay {run.raw_uid} --config xpcs.yml" in stop["reason"]
    status, (line,) = delivering.run("--path=else/where")
    assert "Nothing to deliver" in line


def test_an_empty_path_is_refused_and_nothing_is_tried(tmp_path):
    (tmp_path / "xpcs.yml").write_text("detector: eiger")
    found = CliRunner().invoke(app, ["deliver", f"--config={tmp_path}/xpcs.yml", "--path=/"])
    assert isinstance(found.exception, InvalidInputError)
    assert "got '/'; expected a name" in str(found.exception)
    assert found.output == ""


def test_a_run_that_a_session_has_is_left_to_it(delivering, synthetic):
    box = delivering.keep(synthetic(), "one")
    assert delivering.run() == (0, [f"{box.folder.name}: left to the process that has it."])
    box.clear()
