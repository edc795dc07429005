"""The command `view`: what it refuses before it serves anything."""

import importlib.util
import io

import pytest
from rich.console import Console

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.view import ViewOptions, view

URI = "http://127.0.0.1:9"


def run(**options):
    view(ViewOptions(uri=URI, open_browser=False, **options), Console(file=io.StringIO()))


def test_without_bokeh_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"xpcs-live-denoise\[view\]"):
        run()


def test_beyond_this_machine_the_variable_with_the_key_is_named(monkeypatch):
    monkeypatch.delenv("CONTROL_ROOM_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="environment variable CONTROL_ROOM_KEY"):
        run(host="0.0.0.0", key_env="CONTROL_ROOM_KEY")


def test_an_empty_variable_is_no_key(monkeypatch):
    monkeypatch.setenv("XPCS_VIEW_KEY", "")
    with pytest.raises(InvalidInputError, match="no key is set"):
        run(host="0.0.0.0")
