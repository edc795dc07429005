"""Delivery of the spool where something is wrong with it; with a server: test_tiled_outages."""

import uuid

import pytest
from tiled.structures.core import Spec
from typer.testing import CliRunner

from xpcs_live_denoise.commands import deliver as deliver_module
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.commands.deliver import deliver
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks.spool import Spool


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XPCS_TEST_KEY", "abcdef")
    tiled = {"uri": "http://127.0.0.1:9", "api_key_env": "XPCS_TEST_KEY"}
    return Settings(detector="eiger", spool=tmp_path / "spool", tiled=tiled)


def spooled(settings, run, uid):
    box = Spool(settings.spool, run.info, uid=uid, time=5.0, path="processed")
    box.put(run.publication(0, 5))
    return box


def test_an_empty_spool_is_no_failure(settings, tmp_path):
    lines = []
    assert deliver(settings, tell=lines.append)
    assert deliver(settings, spool=tmp_path / "other", tell=lines.append)
    assert lines == [f"Nothing to deliver in {tmp_path / name}." for name in ("spool", "other")]


def test_the_default_spool_is_the_users_own(settings, state_home):
    lines = []
    assert deliver(settings.model_copy(update={"spool": None}), tell=lines.append)
    assert lines == [f"Nothing to deliver in {state_home / 'xpcs-live-denoise' / 'spool'}."]


def test_what_cannot_be_delivered_stays_and_each_run_is_tried(settings, synthetic):
    for number, uid in enumerate(("one", "two", "three")):
        spooled(settings, synthetic(seed=number), uid).close()
    damaged = next(settings.spool.glob("*-two/run.npz"))
    damaged.write_bytes(b"no zip at all")
    lines = []
    assert not deliver(settings, tell=lines.append)
    assert len(lines) == 3
    assert sum("not delivered (TiledUnavailableError" in line for line in lines) == 2
    assert sum("not delivered (InvalidInputError: Spooled record" in line for line in lines) == 1
    assert len(list(settings.spool.glob("*/*-publication.npz"))) == 3
    assert "abcdef" not in "".join(lines)


def test_a_file_that_is_missing_on_the_way_to_the_server_is_no_delivery(
    settings, synthetic, monkeypatch
):
    box = spooled(settings, synthetic(), "one")
    box.close()

    def no_certificate(*_):
        raise FileNotFoundError(2, "No such file or directory", "ca.pem")

    monkeypatch.setattr(deliver_module, "TiledDestination", no_certificate)
    lines = []
    assert not deliver(settings, tell=lines.append)
    assert "not delivered (FileNotFoundError" in lines[0]
    assert box.folder.exists()


def test_a_run_that_vanishes_between_listing_and_delivery_is_another_processs(
    settings, synthetic, monkeypatch
):
    box = spooled(settings, synthetic(), "one")
    monkeypatch.setattr(deliver_module, "spooled_folders", lambda _root: [box.folder])
    box.clear()
    lines = []
    assert deliver(settings, tell=lines.append)
    assert lines == [f"{box.folder.name}: delivered by another process."]


@pytest.mark.parametrize("own", ["", "a_raw_container"])
def test_a_run_whose_container_does_not_do_is_delivered_elsewhere(
    settings, synthetic, tiled_server, tiled_client, monkeypatch, own
):
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    tiled = settings.tiled.model_copy(update={"uri": tiled_server.uri})
    settings = settings.model_copy(update={"tiled": tiled})
    if own:
        raw = tiled_client.create_container(own)
        raw.create_container("run", specs=[Spec("BlueskyRun", "3.0")], metadata={"start": {}})
    run, uid = synthetic(), str(uuid.uuid4())
    box = Spool(settings.spool, run.info, uid=uid, time=5.0, path=own)
    box.put(run.publication(0, 5))
    box.close()
    lines = []
    assert not deliver(settings, tell=lines.append)
    assert "not delivered (InvalidInputError: Container" in lines[0]
    assert "xpcs-live-denoise deliver --config xpcs.yml --path processed" in lines[0]
    assert deliver(settings, path="else/where", tell=lines.append)
    assert f"delivered as else/where/{uid}, without an end" in lines[1]
    stop = tiled_client["else", "where", uid].metadata["stop"]
    assert f"replay {run.raw_uid} --config xpcs.yml" in stop["reason"]
    assert deliver(settings, path="else/where", tell=lines.append)
    assert "Nothing to deliver" in lines[2]


def test_an_empty_path_is_refused_and_nothing_is_tried(settings, tmp_path):
    with pytest.raises(InvalidInputError, match="got '/'; expected a name"):
        deliver(settings, path="/", tell=pytest.fail)
    (tmp_path / "xpcs.yml").write_text("detector: eiger")
    call = ["deliver", f"--config={tmp_path}/xpcs.yml", "--path=/"]
    assert isinstance(CliRunner().invoke(app, call).exception, InvalidInputError)


def test_a_run_that_a_session_has_is_left_to_it(settings, synthetic):
    box = spooled(settings, synthetic(), "one")
    lines = []
    assert deliver(settings, tell=lines.append)
    assert lines == [f"{box.folder.name}: left to the process that has it."]
    box.clear()
