"""The command `view`: what it refuses before it serves anything."""

import importlib.util

import pytest

from xpcs_live_denoise.commands.view import view
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError

URI = "http://127.0.0.1:9"


def run(**options):
    view(URI, browser=False, **options)


def test_without_bokeh_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[view\]'"):
        run()


def test_beyond_this_machine_the_variable_with_the_key_is_named(monkeypatch):
    monkeypatch.delenv("CONTROL_ROOM_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="environment variable CONTROL_ROOM_KEY"):
        run(host="0.0.0.0", key_env="CONTROL_ROOM_KEY")


def test_an_empty_variable_is_no_key(monkeypatch):
    monkeypatch.setenv("XPCS_VIEW_KEY", "")
    with pytest.raises(InvalidInputError, match="no key is set"):
        run(host="0.0.0.0")


def test_a_key_file_that_others_may_read_is_refused_before_anything_is_served(tmp_path):
    file = tmp_path / "key"
    file.write_text("long enough to be a key\n")
    file.chmod(0o640)
    with pytest.raises(InvalidInputError, match=r"--key-file.*mode 640.*chmod 600") as error:
        run(key_file=file)
    assert "long" not in str(error.value)
    with pytest.raises(InvalidInputError, match="--api-key-file"):
        run(api_key_file=file)


def test_a_short_key_in_a_file_is_refused_as_one_in_a_variable_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XPCS_VIEW_KEY", "this one would be long enough")
    file = tmp_path / "key"
    file.write_text("short\n")
    file.chmod(0o600)
    with pytest.raises(InvalidInputError, match="got 5 characters; expected at least 16"):
        run(host="0.0.0.0", key_file=file)


def test_without_an_address_the_settings_are_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=r"no xpcs\.yml in this folder.*--config"):
        view(browser=False)


def test_address_container_and_key_come_from_the_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("TILED_API_KEY", raising=False)
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    config = tmp_path / "xpcs.yml"
    config.write_text(f"detector: e\ntiled: {{uri: {URI}, path: chx/p, api_key_file: key}}\n")
    served = []

    async def serve_page(http, path, **options):
        served.append((http.address, path, http.headers))

    monkeypatch.setattr("xpcs_live_denoise.page.serve_page", serve_page)
    view(config=config, browser=False)
    view(config=config, path="other", browser=False)
    headers = {"Authorization": "Apikey secret"}
    assert served == [(URI, "chx/p", headers), (URI, "other", headers)]


@pytest.mark.parametrize(
    ("host", "has_users", "asked", "login"),
    [
        ("127.0.0.1", True, None, False),  # the operator's own page
        ("127.0.0.1", True, True, True),
        ("0.0.0.0", True, None, True),
        ("0.0.0.0", False, None, False),  # one key for all: it is not for visitors
        ("0.0.0.0", True, False, False),
    ],
)
def test_visitors_log_in_beyond_this_machine_where_the_server_has_users(
    monkeypatch, capsys, host, has_users, asked, login
):
    monkeypatch.setenv("TILED_API_KEY", "of the operator")
    monkeypatch.setenv("XPCS_VIEW_KEY", "this one is long enough")
    monkeypatch.setattr("xpcs_live_denoise.catalog.has_users", lambda uri: has_users)
    served = {}

    async def serve_page(http, path, **options):
        served.update(options, headers=http.headers)

    monkeypatch.setattr("xpcs_live_denoise.page.serve_page", serve_page)
    run(host=host, login=asked)
    assert served["login"] is login
    if login:  # no key of the operator's is there to be used for a visitor
        assert served["headers"] == {}
        assert served["key"] is None
    said = capsys.readouterr().out
    if host == "0.0.0.0":
        warning = "put a proxy with TLS before it" if login else "sees what this key may read"
        assert warning in said
