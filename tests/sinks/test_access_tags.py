"""Which access tags the result of a run gets."""

import pytest

from xpcs_live_denoise import Settings
from xpcs_live_denoise.sinks import TiledDestination


@pytest.mark.parametrize(
    ("wanted", "start", "tags"),
    [
        ((), {}, ()),
        (("chx",), {"tiled_access_tags": ["pass-1"]}, ("chx",)),
        ((), {"tiled_access_tags": ["pass-1", "chx"]}, ("pass-1", "chx")),
        ((), {"tiled_access_tags": "pass-1"}, ("pass-1",)),
        ((), {"tiled_access_tags": {"not": "a list"}}, ()),
        (("{data_session}",), {"data_session": "pass-7"}, ("pass-7",)),
        (("pass-{proposal}", "chx"), {"proposal": 7}, ("pass-7", "chx")),
        (("{sequence id}",), {"sequence id": "12"}, ("12",)),
        (("pass-1", "{data_session}"), {"data_session": "pass-1"}, ("pass-1",)),
        # Nobody can be given such a tag: the result waits instead of being everybody's.
        (("{data_session}",), {}, ("{data_session}",)),
        (("{data_session}",), {"data_session": ""}, ("{data_session}",)),
        (("{data_session}",), {"data_session": ["pass-1"]}, ("{data_session}",)),
    ],
)
def test_tags_are_those_of_the_settings_with_the_runs_own_keys(synthetic, wanted, start, tags):
    settings = Settings(detector="eiger", tiled={"access_tags": wanted})
    spool = TiledDestination(settings).spool(synthetic(start=start).info)
    assert spool.access_tags == tags
