"""What is said at the start of what will not work with a Tiled server."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest

from xpcs_live_denoise.catalog import redis_findings, server_findings
from xpcs_live_denoise.catalog.preflight import WRITER
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sinks import TiledSink

API = "http://tiled.example/api/v1/"


class Container:
    """A container as far as it is asked."""

    def __init__(self, *, creates=None, deletes=None, schemas=(), path_parts=("processed",)):
        self.creates, self.deletes, self.schemas = creates, deletes, schemas
        self.path_parts, self.made = list(path_parts), []

    def __contains__(self, key):
        return False

    def search(self, query):
        less = {"lt": lambda n: n < query.value, "gt": lambda n: n > query.value}[query.operator]
        return [schema for schema in self.schemas if less(schema)]

    def create_container(self, name, **options):
        if self.creates is not None:
            raise self.creates
        self.made.append((name, options["access_tags"]))

    def delete_contents(self, name):
        if self.deletes is not None:
            raise self.deletes


class Root(Container):
    """A client of a server whose answers the test makes."""

    def __init__(self, container, *, date=None, version="0.2.20", providers=("local",), key=None):
        super().__init__(path_parts=())
        self._container = container
        answers = {
            API: httpx.Response(200, headers={"date": date} if date else {}),
            f"{API}auth/apikey": httpx.Response(200, json=key or {"scopes": list(WRITER)}),
            f"{API}auth/whoami": httpx.Response(
                200, json={"roles": [{"scopes": ["read:data"]}, {"scopes": ["read:metadata"]}]}
            ),
        }

        def get(url):
            answers[url].request = httpx.Request("GET", url)
            return answers[url]

        self.context = SimpleNamespace(
            api_uri=API,
            http_client=SimpleNamespace(get=get),
            server_info=SimpleNamespace(
                library_version=version, authentication=SimpleNamespace(providers=providers)
            ),
        )

    def __contains__(self, key):
        return key == "processed"

    def __getitem__(self, key):
        return self._container


def found(container=None, tags=(), **options):
    client = Root(container or Container(), **options)
    return [
        (one.subject, one.problem, one.text) for one in server_findings(client, "processed", tags)
    ]


def http_date(**ahead):
    return format_datetime(datetime.now(UTC) + timedelta(**ahead), usegmt=True)


def test_a_server_where_all_is_well_gives_no_line():
    container = Container(schemas=(2, 2))
    assert found(container, ("chx", "{data_session}"), date=http_date()) == []
    assert [tags for _, tags in container.made] == [["chx"]]  # the other is known with each run


@pytest.mark.parametrize(
    ("hours", "said"), [(1, "3600 s behind the Tiled server"), (-1, "3600 s ahead of the Tiled")]
)
def test_a_clock_an_hour_off_is_told_with_its_remedy(hours, said):
    ((subject, problem, text),) = found(date=http_date(hours=hours))
    assert (subject, problem) == ("clock", True)
    assert said[:4] in text.replace("3599", "3600").replace("3601", "3600")
    assert said.split(" s ")[1] in text
    assert "timedatectl set-ntp true" in text


@pytest.mark.parametrize(
    ("key", "missing"),
    [
        (
            {"scopes": ["read:metadata", "read:data"]},
            "create:node, write:metadata, write:data, register",
        ),
        ({"scopes": ["inherit"]}, "create:node, write:metadata, write:data, register"),
        ({"scopes": [scope for scope in WRITER if scope != "write:data"]}, "write:data"),
        ({"scopes": []}, ", ".join(WRITER)),
    ],
)
def test_scopes_that_a_key_lacks_are_named(key, missing):
    ((subject, problem, text),) = found(key=key)
    assert (subject, problem) == ("key", True)
    assert f"lacks the scopes {missing}: results cannot be stored" in text


@pytest.mark.parametrize(("days", "told"), [(3, True), (100, False), (None, False)])
def test_a_key_that_ends_soon_is_told(days, told):
    ends = days and (datetime.now(UTC) + timedelta(days=days, hours=1)).replace(tzinfo=None)
    key = {"scopes": list(WRITER), "expiration_time": ends and ends.isoformat()}
    lines = found(key=key)
    assert [problem for _, problem, _ in lines] == [False] * told
    assert all("ends in 3 days" in text for _, _, text in lines)


def test_one_key_for_all_has_no_scopes_to_ask_for():
    assert found(providers=(), key={"scopes": []}) == []


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (("chx",), "takes no results with the access tags chx: tag='chx' is not defined"),
        ((), "takes no results without access tags: tag='chx' is not defined"),
    ],
)
def test_a_container_that_refuses_a_node_is_told_with_tags_and_reason(tags, said):
    refuses = Container(creates=InvalidInputError("tag='chx' is not defined"))
    ((subject, problem, text),) = found(refuses, tags)
    assert (subject, problem) == ("container", True)
    assert said in text
    assert "Results will wait in the spool" in text


def test_tags_that_only_a_run_knows_are_not_tried():
    refuses = Container(creates=InvalidInputError("no"))
    assert found(refuses, ("{data_session}",)) == []


def test_a_key_that_may_not_delete_is_no_problem_but_told():
    ((_, problem, text),) = found(Container(deletes=InvalidInputError("delete:node")))
    assert problem is False
    assert "the empty node xpcs-test-" in text
    assert "The scopes delete:node and delete:revision mend it" in text


@pytest.mark.parametrize(
    ("schemas", "problem", "said"),
    [((1, 1, 2), False, "2 results in /processed have an older"), ((3,), True, "a newer schema")],
)
def test_results_of_another_schema_are_told(schemas, problem, said):
    ((subject, is_problem, text),) = found(Container(schemas=schemas))
    assert (subject, is_problem) == ("schema", problem)
    assert said in text


@pytest.mark.parametrize(
    ("version", "told"), [("0.1.9", True), ("0.2.20", False), ("0.3.0", False)]
)
def test_an_old_server_is_told(version, told):
    lines = found(version=version)
    assert len(lines) == told
    assert all("upgrade-database" in text for _, _, text in lines)


def test_a_real_server_takes_the_empty_node_and_nothing_stays(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, path="preflight")
    sink.write(run.result())
    before = list(tiled_client["preflight"])
    assert list(server_findings(tiled_client, "preflight", ())) == []
    assert list(server_findings(tiled_client, "nowhere/at/all", ())) == []
    assert list(tiled_client["preflight"]) == before
    old = tiled_client["preflight"][before[0]]
    old.update_metadata({"start": {"xpcs": {"schema": 1}}}, drop_revision=True)
    (finding,) = server_findings(tiled_client, "preflight", ())
    assert "1 results in /preflight have an older schema than 2" in finding.text
    assert not any(key.startswith("xpcs-test") for key in tiled_client)


def test_a_redis_that_is_away_is_told():
    (finding,) = redis_findings("redis://127.0.0.1:9/0")
    assert finding.problem
    assert "Tiled takes no results without it" in finding.text
