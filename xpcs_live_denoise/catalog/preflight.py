"""What will not work with a Tiled server, asked before the first run: each with its remedy."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tiled.client.utils import ClientError
from tiled.queries import Comparison

from xpcs_live_denoise.errors import XpcsError, text_of

from .nodes import Node, plain
from .schema import SCHEMA_VERSION

# What the key of a session needs. register: to cut arrays to their length at the end of a run; to
# delete is needed where a series turns out to be another one.
WRITER = ("read:metadata", "read:data", "create:node", "write:metadata", "write:data", "register")
MOST_CLOCK_S = 60.0
SOON_S = 14 * 86400.0
LEAST_TILED = (0, 2, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was asked: what it is about, whether it is a problem, and what to do."""

    subject: str
    problem: bool
    text: str


def server_findings(client: Node, path: str, access_tags: Sequence[str]) -> Iterator[Finding]:
    """Yield what will not work, or will not for long, when results are written to a server.

    Asks for the rights of the key, the clock, the versions; writes an empty node to the container
    and removes it, as only that tells whether access tags, databases and disks take results.
    """
    context = client.context
    try:
        answer = context.http_client.get(str(context.api_uri))
        yield from _clock(answer)
        yield from _version(context.server_info.library_version)
        if context.server_info.authentication.providers:
            yield from _rights(context)
        yield from _container(client, path, access_tags)
    except (XpcsError, ClientError, httpx.HTTPError) as error:
        yield Finding(subject="Tiled", problem=True, text=text_of(error))


def _clock(answer: httpx.Response) -> Iterator[Finding]:
    said = answer.headers.get("date")
    if said is None:
        return
    ahead_s = time.time() - parsedate_to_datetime(said).timestamp()
    if abs(ahead_s) > MOST_CLOCK_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        yield Finding(
            subject="clock",
            problem=True,
            text=f"this machine is {abs(ahead_s):.0f} s {way} the Tiled server: runs would be in "
            "the wrong order, and keys expire at the wrong time. Set both by NTP: timedatectl "
            "set-ntp true.",
        )


def _version(version: str) -> Iterator[Finding]:
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if len(numbers) == len(LEAST_TILED) and numbers < LEAST_TILED:
        yield Finding(
            subject="Tiled",
            problem=True,
            text=f"the server is version {version}; expected {'.'.join(map(str, LEAST_TILED))} or "
            "newer. Upgrade it, and its databases: tiled catalog upgrade-database, tiled admin "
            "upgrade-database.",
        )


def _rights(context: Any) -> Iterator[Finding]:
    """Say which scopes the key lacks, and whether it ends soon."""
    base = str(context.api_uri).rstrip("/")
    key = context.http_client.get(f"{base}/auth/apikey").raise_for_status().json()
    scopes = set(key["scopes"])
    if "inherit" in scopes:
        who = context.http_client.get(f"{base}/auth/whoami").raise_for_status().json()
        scopes = {scope for role in who["roles"] for scope in role["scopes"]}
    if missing := [scope for scope in WRITER if scope not in scopes]:
        yield Finding(
            subject="key",
            problem=True,
            text=f"lacks the scopes {', '.join(missing)}: results cannot be stored. Make a key "
            f"with {', '.join(WRITER)} (role `writer` of access.yml).",
        )
    if key.get("expiration_time"):
        ends = datetime.fromisoformat(key["expiration_time"])
        ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
        left_s = ends.timestamp() - time.time()
        if left_s < SOON_S:
            yield Finding(
                subject="key",
                problem=False,
                text=f"ends in {left_s / 86400:.0f} days, {ends:%Y-%m-%d}; make a new one before.",
            )


def _container(client: Node, path: str, access_tags: Sequence[str]) -> Iterator[Finding]:
    node, missing = plain(client), False
    for key in path.strip("/").split("/"):
        if missing := key not in node:
            break
        node = plain(node[key])
    place = "/" + "/".join(node.path_parts)
    if not missing:
        yield from _schemas(node, place)
    static = [tag for tag in access_tags if "{" not in tag]
    if access_tags and not static:
        return  # they are known with each run
    name = f"xpcs-test-{uuid.uuid4().hex[:12]}"
    try:
        node.create_container(name, metadata={}, specs=[], access_tags=static or None)
    except (XpcsError, ClientError, httpx.HTTPError) as error:
        tags = f" with the access tags {', '.join(static)}" if static else " without access tags"
        yield Finding(
            subject="container",
            problem=True,
            text=f"{place} takes no results{tags}: {text_of(error, 600)} Results will wait in the "
            "spool. The administrator gives the key the right to create there, and the tags that "
            "it may give go into tiled.access_tags.",
        )
        return
    try:
        node.delete_contents(name)
    except (XpcsError, ClientError, httpx.HTTPError) as error:
        yield Finding(
            subject="container",
            problem=False,
            text=f"{place} takes results, and this key may not delete ({text_of(error, 200)}): the "
            f"empty node {name} stays there, and so do arrays of a series that turns out to be "
            "another one. The scopes delete:node and delete:revision mend it.",
        )


def _schemas(node: Node, place: str) -> Iterator[Finding]:
    """Say which results in a container were written by another version."""
    for operator, words in (
        ("lt", "are read as before; docs/schema.md says what they lack"),
        ("gt", "come from a newer version: install it here, too, before results are mixed"),
    ):
        n = len(node.search(Comparison(operator, "start.xpcs.schema", SCHEMA_VERSION)))
        if n:
            older = "an older" if operator == "lt" else "a newer"
            yield Finding(
                subject="schema",
                problem=operator == "gt",
                text=f"{n} results in {place} have {older} schema than {SCHEMA_VERSION}: they "
                f"{words}.",
            )


def redis_findings(uri: str) -> Iterator[Finding]:
    """Yield what is wrong with the Redis of a Tiled server; needs the library redis."""
    try:
        import redis
    except ImportError:
        text = "the library redis is not installed (extra `server`): Redis was not asked."
        yield Finding(subject="Redis", problem=False, text=text)
        return
    try:
        with redis.from_url(uri, socket_timeout=5, socket_connect_timeout=5) as client:
            info: Any = client.info("persistence")
            saves: Any = client.config_get("save")
    except redis.RedisError as error:
        text = f"does not answer ({text_of(error, 200)}); Tiled takes no results without it. "
        yield Finding(subject="Redis", problem=True, text=f"{text}Start it: see deploy/redis.conf.")
        return
    if not info.get("aof_enabled") and not saves.get("save"):
        yield Finding(
            subject="Redis",
            problem=True,
            text="keeps nothing on disk: after its restart the updates are numbered anew, and "
            "pages and subscribers that are connected miss some. Set `appendonly yes`, see "
            "deploy/redis.conf.",
        )
    elif info.get("aof_last_write_status", "ok") != "ok":
        text = "cannot write to its disk: make room there, or Tiled takes no results."
        yield Finding(subject="Redis", problem=True, text=text)
