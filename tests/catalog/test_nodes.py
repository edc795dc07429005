"""Containers for derived runs: made where they are not there, refused where raw runs lie."""

import uuid
from types import SimpleNamespace

import httpx
import pytest
from tiled.client.utils import ClientError
from tiled.queries import KeyPresent
from tiled.structures.core import Spec

from xpcs_live_denoise.catalog.nodes import create_or_adopt, refuse_raw_runs
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks.run import TiledSink

RUN = [Spec("BlueskyRun", "3.0")]


@pytest.fixture
def place():
    return (f"nodes-{uuid.uuid4()}",)


@pytest.fixture
def container(tiled_client, place):
    """A new container of the shared server."""
    return tiled_client.create_container(*place)


def test_a_container_with_a_raw_run_is_refused_with_a_remedy(tiled_client, container, place):
    container.create_container("a-run", specs=RUN, metadata={"start": {"uid": "a-run"}})
    with pytest.raises(InvalidInputError) as caught:
        refuse_raw_runs(tiled_client, place)
    assert f"/{place[0]}: holds raw runs, a-run for one; expected" in str(caught.value)
    assert "Set tiled.path" in str(caught.value)
    assert "deliver --config xpcs.yml --path processed" in str(caught.value)


def test_the_raw_run_itself_is_known_by_its_uid_whatever_its_specs(tiled_client, container, place):
    container.create_container("my-run")
    refuse_raw_runs(tiled_client, ("nowhere", *place), "my-run")
    with pytest.raises(InvalidInputError, match="holds raw runs, my-run"):
        refuse_raw_runs(tiled_client, place, "my-run")


def test_derived_runs_of_ours_and_of_other_tools_are_no_raw_runs(tiled_client, container, place):
    ours, theirs = [Spec("XPCSResult", "1"), *RUN], {"start": {"original_run_uid": "r"}}
    container.create_container("ours", specs=ours, metadata={"start": {}})
    container.create_container("theirs", specs=RUN, metadata=theirs)
    container.create_container("masks")
    refuse_raw_runs(tiled_client, place, "another")


def test_a_container_is_asked_once_a_connection_but_an_empty_one_again(
    tiled_client, container, place
):
    refuse_raw_runs(tiled_client, place)
    container.create_container("notes")
    refuse_raw_runs(tiled_client, place)
    asked = []
    tiled_client.context.http_client.event_hooks["request"].append(asked.append)
    refuse_raw_runs(tiled_client, place)
    assert not asked
    container.create_container("a-run", specs=RUN, metadata={"start": {}})
    refuse_raw_runs(tiled_client, place)


def test_a_sink_writes_nothing_beside_raw_runs(tiled_client, container, place, synthetic):
    run = synthetic()
    container.create_container("a-run", specs=RUN, metadata={"start": {}})
    sink = TiledSink(run.info, client=tiled_client, path=place[0])
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="holds raw runs"):
            sink.write(run.publication(0, 5))
    assert list(container) == ["a-run"]


def refusal(status):
    request = httpx.Request("POST", "http://server/api")
    return ClientError("no", request, httpx.Response(status, request=request))


class WithoutMetadataSearch:
    """A node of a server that answers every search by metadata with an error of these statuses."""

    def __init__(self, node, statuses):
        self._node, self._statuses = node, statuses
        self.context = node.context

    def __getitem__(self, key):
        return WithoutMetadataSearch(self._node[key], self._statuses)

    def __len__(self):
        return len(self._node)

    def search(self, query):
        if isinstance(query, KeyPresent):
            raise refusal(self._statuses.pop(0))
        return WithoutMetadataSearch(self._node.search(query), self._statuses)

    def keys(self):
        return self._node.keys()


def test_a_server_that_cannot_search_by_metadata_is_asked_for_the_raw_run_only(
    tiled_client, container, place
):
    container.create_container("a-run", specs=RUN, metadata={"start": {}})
    client = WithoutMetadataSearch(tiled_client, [500, 400, 400])
    with pytest.raises(ClientError):  # an error of the server is none of the question
        refuse_raw_runs(client, place, "a-run")
    with pytest.raises(InvalidInputError, match="holds raw runs, a-run"):
        refuse_raw_runs(client, place, "a-run")
    refuse_raw_runs(client, place, "another")


def test_a_key_that_may_not_write_is_told_with_the_container():
    def create():
        raise refusal(403)

    parent = SimpleNamespace(path_parts=("", "chx", "processed"))
    with pytest.raises(InvalidInputError, match=r"/chx/processed: .* 'run' in it \(status 403\)"):
        create_or_adopt(parent, "run", create)
