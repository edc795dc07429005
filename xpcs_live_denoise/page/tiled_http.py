"""Reads and follows a Tiled server over HTTP, without blocking the one loop that serves the page.

Tiled's own client blocks and retries for 45 s, which would freeze every open page.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import httpx
import numpy as np

from xpcs_live_denoise.errors import (
    InvalidInputError,
    ResultNotFoundError,
    TiledUnavailableError,
    XpcsError,
)
from xpcs_live_denoise.monitoring import Counts
from xpcs_live_denoise.records.run import RESULT_SPEC
from xpcs_live_denoise.records.types import Array, Document, Fields

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection, connect

DataFrame: TypeAlias = Any  # of pandas, which has no types

logger = logging.getLogger(__name__)

API = "/api/v1"
TIMEOUT_S = 20.0
RUN_SPECS = frozenset((RESULT_SPEC, "BlueskyRun"))
MOST_LOOKED_AT = 20  # nodes, to tell what a container is for
ARROW = "application/vnd.apache.arrow.file"
# What the list of runs needs of each, and no more: a start document holds all settings.
SUMMARY_FIELDS = (
    "{n_frames: n_frames, stop: {exit_status: stop.exit_status, time: stop.time, "
    "analysis_exit_status: stop.analysis_exit_status}, start: {"
    "uid: start.uid, time: start.time, scan_id: start.scan_id, sample: start.sample, "
    "plan_name: start.plan_name, sample_name: start.sample_name, "
    "original_run_uid: start.original_run_uid, "
    "xpcs: {n_expected: start.xpcs.n_expected, detector: start.xpcs.detector, "
    "raw_time: start.xpcs.raw_time, frame_time_s: start.xpcs.frame_time_s, "
    "analysed_by: start.xpcs.analysed_by, scan_id: start.xpcs.scan_id}}}"
)


def base_address(uri: str) -> str:
    """Return scheme, host and port (and a prefix before /api/v1) of a server's address.

    Raises InvalidInputError for what is no http(s) address, or holds a key or a password.
    """
    none = InvalidInputError(
        f"Tiled server {uri.partition('?')[0]!r}: expected an address such as "
        "http://127.0.0.1:8000."
    )
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise none from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise none
    if "api_key" in parts.query or parts.username or parts.password:
        raise InvalidInputError(
            f"Tiled server {parts.hostname}: its address holds a key or a password, which would "
            "be seen in the list of processes. Put the key into the environment variable "
            "TILED_API_KEY, another one that --api-key-env names, or a file (--api-key-file)."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.partition(API)[0].rstrip('/')}"


class TiledHttp:
    """A connection to one server, with a key that is sent in a header only.

    `broken` holds the paths that cannot be read or followed at present, as those who try report,
    and `broken_since` when the first of them broke, s since 1970. `counts` are those of the page.
    Raises InvalidInputError for an address or a key that cannot be one.
    """

    def __init__(self, uri: str, api_key: str | None, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self.address = base_address(uri)
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidInputError(
                "API key of the Tiled server: holds characters that no key has; expected the key "
                "and nothing else in its environment variable or file."
            )
        self.api_key = api_key
        self.broken: set[str] = set()
        self.broken_since = 0.0
        # Not `trust_env`: a proxy of the environment must not see a server on loopback.
        self.headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(
            base_url=self.address + API,
            headers=self.headers,
            timeout=TIMEOUT_S,
            trust_env=urlsplit(self.address).hostname not in ("127.0.0.1", "localhost", "::1"),
        )

    def with_key(self, api_key: str) -> TiledHttp:
        """Return a connection of its own to the same server, with another key."""
        return TiledHttp(self.address, api_key, self.counts)

    def stream_address(self, path: str) -> str:
        """Return the address of a node's stream of live updates."""
        scheme = "wss" if self.address.startswith("https") else "ws"
        host = self.address.partition("://")[2]
        return f"{scheme}://{host}{API}/stream/single/{quote(path)}?envelope_format=msgpack"

    def report(self, path: str, *, broken: bool) -> None:
        """Take note of whether the connection to a node is broken."""
        if broken and not self.broken:
            self.broken_since = time.time()
        (self.broken.add if broken else self.broken.discard)(path)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def metadata(self, path: str) -> Document:
        """Return the metadata of a node.

        Raises ResultNotFoundError when there is none or the key does not open it, and
        TiledUnavailableError when the server does not answer.
        """
        answer = await self._get(f"/metadata/{quote(path)}", fields=["metadata"])
        return self._data(answer)["attributes"]["metadata"] or {}

    async def children(self, path: str) -> dict[str, Document]:
        """Return the attributes (structure, metadata) of what is in a container, by key."""
        answer = await self._get(
            f"/search/{quote(path)}",
            fields=["structure", "metadata"],
            **{"page[limit]": 100},
        )
        return {item["id"]: item["attributes"] for item in self._data(answer)}

    async def kind(self, path: str) -> tuple[str, frozenset[str]]:
        """Return what a node is ("container", "array", ...), and the names of its specs.

        Raises as `metadata`.
        """
        fields = ["structure_family", "specs"]
        attributes = self._data(await self._get(f"/metadata/{quote(path)}", fields=fields))
        return spoken_kind(attributes["attributes"])

    async def below(self, path: str) -> dict[str, tuple[str, frozenset[str]]]:
        """Return some of what is in a container: name -> its kind and specs, as `kind`."""
        answer = await self._get(
            f"/search/{quote(path)}",
            fields=["structure_family", "specs"],
            **{"page[limit]": MOST_LOOKED_AT},
        )
        return {item["id"]: spoken_kind(item["attributes"]) for item in self._data(answer)}

    async def runs(
        self,
        path: str,
        *,
        limit: int,
        where: tuple[str, str, str | int] | None = None,
        needed: str = SUMMARY_FIELDS,
    ) -> dict[str, Document]:
        """Return the newest derived runs of a container: uid -> the metadata that a list needs.

        `needed` is what of the metadata, in JMESPath.
        `where` leaves those of which a value of the metadata is, or is like, another one: ("eq",
        key, value) or ("like", key, pattern).
        """
        params: Document = {
            "page[limit]": limit,
            "sort": "-start.time",
            "fields": ["metadata", "specs"],
            "select_metadata": needed,
            "filter[specs][condition][include]": json.dumps([RESULT_SPEC]),
            "filter[specs][condition][exclude]": "[]",
        }
        if where is not None:
            kind, key, value = where
            condition = f"filter[{kind}][condition]"
            params[f"{condition}[key]"] = key
            params[f"{condition}[{'value' if kind == 'eq' else 'pattern'}]"] = json.dumps(value)
        answer = await self._get(f"/search/{quote(path)}", **params)
        found = {}
        for item in self._data(answer):
            metadata = item["attributes"]["metadata"]
            found[item["id"]] = metadata.get("selected", metadata)
        return found

    async def array(
        self, path: str, structure: Fields, index: tuple[int | slice, ...] = ()
    ) -> Array:
        """Return an array, or the part of it that `index` (one entry an axis) names."""
        kind = structure["data_type"]
        order = ">" if kind["endianness"] == "big" else "<"
        dtype = np.dtype(f"{order}{kind['kind']}{kind['itemsize']}")
        shape, text = _selection(tuple(structure["shape"]), index)
        params = {"slice": text} if text else {}
        answer = await self._get(
            f"/array/full/{quote(path)}", format="application/octet-stream", **params
        )
        if len(answer.content) != np.prod(shape, dtype=int) * dtype.itemsize:
            raise TiledUnavailableError(
                f"Tiled server {self.address}: {path} changed while it was read. It is read again."
            )
        return np.frombuffer(answer.content, dtype).reshape(shape)

    async def table(self, path: str) -> DataFrame:
        """Return a table as a DataFrame."""
        answer = await self._get(f"/table/full/{quote(path)}", format=ARROW)
        try:
            return read_arrow(answer.content)
        except (ValueError, OSError) as error:  # pyarrow's errors are either
            raise TiledUnavailableError(
                f"Tiled server {self.address}: {path} came broken ({error}). It is read again."
            ) from error

    def _data(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise TiledUnavailableError(
                f"Server {self.address}: its answer is not that of a Tiled server. Check the "
                "address."
            ) from error

    async def _get(self, path: str, **params: Any) -> httpx.Response:
        if self._http.is_closed:  # the login has ended meanwhile
            raise TiledUnavailableError(
                f"Tiled server {self.address}: this connection is closed. Log in again."
            )
        try:
            answer = await self._http.get(path, params=params)
        except httpx.RequestError as error:
            raise TiledUnavailableError(
                f"Tiled server {self.address}: no answer ({type(error).__name__}). Expected a "
                "running server; start it, or check the address."
            ) from error
        if answer.status_code in (401, 403):
            raise ResultNotFoundError(
                f"Tiled server {self.address}: refused the request (status {answer.status_code}). "
                "Expected an API key that may read; put it into the environment variable "
                "TILED_API_KEY, another one that --api-key-env names, or a file (--api-key-file)."
            )
        if answer.status_code == 404:
            raise ResultNotFoundError(
                f"Tiled server {self.address}: nothing at {unquote(path.split('/', 2)[2])!r} "
                "(status 404)."
            )
        if answer.is_error:
            raise TiledUnavailableError(
                f"Tiled server {self.address}: answered with status {answer.status_code} to "
                f"{path}. Its log says why."
            )
        return answer


def spoken_kind(attributes: Fields) -> tuple[str, frozenset[str]]:
    """Return the structure family and the names of the specs in the attributes of a node."""
    specs = attributes.get("specs") or ()
    return attributes["structure_family"], frozenset(spec["name"] for spec in specs)


async def check_container(http: TiledHttp, path: str) -> None:
    """Raise ResultNotFoundError, with one sentence, unless a path is a place for results.

    It is, if it is a container that holds results, or nothing so far. Raises
    TiledUnavailableError when the server does not answer.
    """
    subject = f"Container {path!r} (--path) on the Tiled server {http.address}:"
    try:
        family, specs = await http.kind(path)
    except ResultNotFoundError as error:
        if not path:
            raise
        parent = path.rpartition("/")[0]
        try:
            beside = await http.below(parent)
        except ResultNotFoundError:
            raise error from None  # the key, or a level above
        raise ResultNotFoundError(
            f"{subject} there is none; expected that of the results, and /{parent} holds "
            f"{_containers(beside)}."
        ) from None
    if family != "container" or specs & RUN_SPECS:
        what = "one run" if specs & RUN_SPECS else f"of the kind {family!r}"
        raise ResultNotFoundError(
            f"{subject} it is {what}; expected the container around the results, for example "
            f"--path {path.rpartition('/')[0] or 'processed'}."
        )
    if await http.runs(path, limit=1):
        return
    inside = await http.below(path)
    if any(specs & RUN_SPECS for _, specs in inside.values()):
        raise ResultNotFoundError(
            f"{subject} it holds runs, but no results of XPCS; expected the container where "
            "LiveDenoise stores them (setting tiled.path)."
        )
    if inside:
        raise ResultNotFoundError(
            f"{subject} it holds no results, but {_containers(inside)}; expected one of them."
        )


def _containers(nodes: Mapping[str, tuple[str, frozenset[str]]]) -> str:
    """Return the names of those nodes that may hold runs."""
    names = [
        repr(name)
        for name, (kind, specs) in nodes.items()
        if kind == "container" and not specs & RUN_SPECS
    ]
    return ", ".join(names[:MOST_LOOKED_AT]) or "no container"


def read_arrow(payload: bytes) -> DataFrame:
    """Return the DataFrame in an Arrow file."""
    import pyarrow as pa

    with pa.ipc.open_file(io.BytesIO(payload)) as reader:
        return reader.read_pandas()


def _selection(
    shape: tuple[int, ...], index: tuple[int | slice, ...]
) -> tuple[tuple[int, ...], str]:
    """Return the shape of what an index selects, and the index as Tiled writes it."""
    kept, texts = [], []
    for n, part in zip(shape, index, strict=False):
        if isinstance(part, int):
            texts.append(str(part))
        else:
            start, stop, step = part.indices(n)
            kept.append(len(range(start, stop, step)))
            texts.append(f"{start}:{stop}:{step}")
    return (*kept, *shape[len(index) :]), ",".join(texts)


FIRST_DELAY_S, LAST_DELAY_S = 0.5, 5.0
OPEN_TIMEOUT_S = 10.0
# A subscriber that had to take less would lose its connection at the first larger update.
MAX_MESSAGE_BYTES = 64_000_000
# The server announces an update before it stores it: what is read at once may lack it.
SETTLE_S = 0.2
PRODUCER_ENDED = 1000
# A stream is refused so for good; servers and proxies without streams answer so, too.
FINAL = (401, 403, 404)


async def follow(
    http: TiledHttp,
    path: str,
    *,
    opened: Callable[[], Awaitable[None]],
    message: Callable[[Document], None],
) -> bool:
    """Follow a node until its producer ends it, or it is gone.

    `opened` is awaited after every connection, before the first message, and reads the stored
    state; messages that come meanwhile wait, so that nothing falls between the two. `message` is
    called with every update. `http` is told when the connection breaks or is back.

    Returns False, at once, where the server has the node but offers no stream of it.
    """
    from websockets.exceptions import InvalidStatus, WebSocketException

    delay_s, was_open = FIRST_DELAY_S, False
    while True:
        try:
            async with _connection(http, path) as socket:
                was_open = True  # a refusal from now on is a restart
                await socket.recv()  # the schema; every update tells its own shape
                await asyncio.sleep(SETTLE_S)
                await opened()
                http.report(path, broken=False)
                delay_s = FIRST_DELAY_S
                await _pass_on(http, socket, opened, message)
            if socket.close_code == PRODUCER_ENDED:
                break
        except InvalidStatus as error:
            final, there = error.response.status_code in FINAL, await _is_there(http, path)
            if final and there is False:
                break
            if there and (final or not was_open):
                http.report(path, broken=False)
                return False
        except (OSError, EOFError, XpcsError, WebSocketException) as error:
            logger.info("Updates of %s: %r; trying again.", path, error)
        except Exception:
            # Whatever a server says while it dies: the page tells, and tries again.
            logger.warning("Updates of %s; trying again.", path, exc_info=True)
        http.report(path, broken=True)
        await asyncio.sleep(delay_s)
        delay_s = min(2 * delay_s, LAST_DELAY_S)
    http.report(path, broken=False)
    return True


def _connection(http: TiledHttp, path: str) -> connect:
    from websockets.asyncio.client import connect

    address = http.stream_address(path)
    return connect(
        address,
        additional_headers=http.headers,
        max_size=MAX_MESSAGE_BYTES,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=1,
        ssl=ssl.create_default_context() if address.startswith("wss") else None,
        proxy=None,
        # No compression: both ends would spend more time on it than on the update.
        compression=None,
    )


async def _pass_on(
    http: TiledHttp,
    socket: ClientConnection,
    opened: Callable[[], Awaitable[None]],
    message: Callable[[Document], None],
) -> None:
    """Hand on messages until the connection is closed."""
    import msgpack

    last = None
    async for data in socket:
        update = msgpack.unpackb(data)
        if last is not None and update["sequence"] != last + 1:
            await opened()  # updates were dropped: read what they said
        last = update["sequence"]
        http.counts.add("xpcs_page_updates_total")
        message(update)


async def _is_there(http: TiledHttp, path: str) -> bool | None:
    """Whether the server has a node that this key opens; None if it does not answer."""
    try:
        await http.kind(path)
    except ResultNotFoundError:
        return False
    except XpcsError:
        return None
    return True


def start_task(
    running: set[asyncio.Task[None]], work: Coroutine[None, None, None], owner: str
) -> asyncio.Task[None]:
    """Run a coroutine, among those that are `running`; what ends it is logged under the owner."""

    def done(task: asyncio.Task[None]) -> None:
        running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: a task failed.", owner, exc_info=task.exception())

    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(done)
    return task


async def end_tasks(running: set[asyncio.Task[None]], *, cancel: bool) -> None:
    """Wait for all that are running, or cancel them first."""
    tasks = list(running)
    for task in tasks if cancel else ():
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
