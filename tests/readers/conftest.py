"""What all tests of readers share."""

import pytest


@pytest.fixture(scope="module")
def module_client(tiled_server):
    """A module's client of the root of the server."""
    client = tiled_server.client()
    yield client
    client.context.close()
