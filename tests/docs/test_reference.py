"""The reference of the documentation: every public name, and what these hand out."""

import importlib.util

import pytest

import xpcs_live_denoise
from tests.support.snippets import REPOSITORY


@pytest.fixture(scope="module")
def generated():
    """What writes the pages of the reference."""
    path = REPOSITORY / "docs/_ext/generated.py"
    spec = importlib.util.spec_from_file_location("generated", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_stands_in_the_reference(generated):
    listed = {line.strip() for line in generated.api().splitlines() if line.startswith("   ")}

    assert {name for name in xpcs_live_denoise.__all__ if not name.startswith("_")} <= listed


def test_what_public_names_return_or_hold_stands_in_the_reference(generated):
    """`compare` returns a Comparison, LiveDenoise.rates KnownRates ...: found in their types."""
    page = generated.api()

    for name in ("Comparison", "DenoisedFrame", "KnownRates", "Status", "Delivery", "OneTime"):
        assert f".{name}\n" in page, name


def test_a_new_name_brings_what_it_returns(generated, monkeypatch):
    from xpcs_live_denoise.records.frames import Geometry

    def measured() -> tuple[Geometry | None, int]: ...

    monkeypatch.setattr(xpcs_live_denoise, "measured", measured, raising=False)
    assert generated.handed_out_by(["measured"]) == [Geometry]


def test_what_they_return_is_described(generated):
    for one in generated.handed_out_by(generated.public_names()):
        assert one.__doc__, f"{one.__name__}: no description"
        assert not one.__doc__.startswith(f"{one.__name__}("), f"{one.__name__}: that of dataclass"
