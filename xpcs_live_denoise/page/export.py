"""The shown run as a file: what the buttons of the page hand out."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from tiled.client import from_context
from tiled.client.context import Context
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, text_of
from xpcs_live_denoise.readers import file_name, results

from .access import HEADERS, Access
from .tiled_http import TiledHttp

logger = logging.getLogger(__name__)

KINDS = {"h5": "application/x-hdf5", "csv": "text/csv", "png": "image/png"}
PIECE_BYTES = 2**20
# One at a time: each reads a whole result, and other pages are served meanwhile.
_ONE = ThreadPoolExecutor(1, thread_name_prefix="xpcs export")


class Export(RequestHandler):
    """Makes a file of a result, and sends it; where that cannot be, a sentence."""

    def initialize(self, access: Access) -> None:
        """Take what knows the hub of a request."""
        self._access = access

    def set_default_headers(self) -> None:
        """Keep files out of caches."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    async def get(self) -> None:
        """Send the result `run` (its uid) as `format`: h5, csv or png."""
        uid, kind = self.get_query_argument("run", ""), self.get_query_argument("format", "h5")
        hub = self._access.hub_of(self.request)
        if hub is None:  # the login has ended just now
            self.set_status(403)
            return
        with tempfile.TemporaryDirectory(prefix="xpcs-export-") as folder:
            try:
                path = await asyncio.get_running_loop().run_in_executor(
                    _ONE, write_result, hub.http, hub.path, uid, kind, Path(folder)
                )
            except Exception as error:
                if not isinstance(error, XpcsError):
                    logger.exception("Result %s: not exported.", uid)
                self.set_status(409 if isinstance(error, XpcsError) else 500)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                self.finish(f"Not exported: {text_of(error)}\n")
                return
            self.set_header("Content-Type", KINDS[kind])
            self.set_header("Content-Disposition", f'attachment; filename="{path.name}"')
            self.set_header("Content-Length", str(path.stat().st_size))
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    self.write(piece)
                    try:
                        await self.flush()
                    except StreamClosedError:  # who asked has gone
                        return


def write_result(http: TiledHttp, path: str, uid: str, kind: str, folder: Path) -> Path:
    """Write a result of the container `path` into a file of a folder; return the file.

    Raises XpcsError where there is none, or none that can be exported.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"Format {kind!r}: expected one of {', '.join(KINDS)}.")
    context, _ = Context.from_any_uri(http.address, api_key=http.api_key)
    if http.api_key is None:
        # Tiled's client has taken TILED_API_KEY, or would take a stored login: not the page's
        # rights. What it has asked for by now, it asks for without any.
        context.api_key, context.http_client.auth = None, httpx.Auth()
        context.has_external_auth = True
    try:
        client = from_context(context)
        container = client[tuple(part for part in path.split("/") if part)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that others fit: the uid is that of one result
            result = results(container, uid)
        target = folder / f"{file_name(result)}.{kind}"
        result.export(target)
        return target
    finally:
        context.close()
