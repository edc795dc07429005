"""`catalog`: serves what a demo has left, for a look at it with any Tiled client."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from xpcs_live_denoise.errors import InvalidInputError

KEY_FILE = "api_key"


def catalog(
    folder: Annotated[Path, typer.Argument(help="A folder that `demo --out` left.")],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; a free one by default.")
    ] = None,
) -> None:
    """Serve a catalog again, on this machine only, until Ctrl-C."""
    from xpcs_live_denoise.catalog import EmbeddedServer

    if not (folder / "catalog" / "catalog.db").is_file():
        raise InvalidInputError(
            f"Folder {folder}: holds no catalog; expected one that `demo --out {folder}` left."
        )
    with EmbeddedServer(folder / "catalog", port=port, readable=folder) as server:
        key_file = folder / KEY_FILE
        key_file.touch(mode=0o600)
        key_file.write_text(server.api_key, encoding="ascii")
        typer.echo(
            f"Tiled server at {server.uri}; its key is in {key_file}, readable by you only. "
            "Ctrl-C ends it.\n\n"
            "  from tiled.client import from_uri\n"
            f"  catalog = from_uri({server.uri!r}, api_key=open({str(key_file)!r}).read())\n"
            "  from xpcs_live_denoise import results\n"
            "  result = results(catalog, -1)\n"
            "  result.gamma_table()"
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.wait()
        key_file.unlink(missing_ok=True)
