"""Here the embedded server itself is tested: the shared one is started as a user starts it."""

import pytest

from xpcs_live_denoise.catalog.server import EmbeddedServer


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("embedded")
    with EmbeddedServer(directory, log_path=directory / "server.log") as server:
        yield server
