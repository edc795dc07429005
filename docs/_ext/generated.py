"""Sphinx extension: the reference pages that are made from the code, before each build.

Settings from the fields of `Settings`, commands from what typer shows, columns from the docstrings
of the records, and a page for each public name.
"""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from numpydoc.docscrape import ClassDoc

import xpcs_live_denoise
from xpcs_live_denoise.catalog.schema import GAMMA_SCHEMA, STATUS_SCHEMA
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.run import Status

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx

COMMAND = "xpcs-live-denoise"
ERRORS = "Error"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the writing of the pages with Sphinx."""
    app.connect("config-inited", _write_pages)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx, _config: Any) -> None:
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    pages = {"settings": settings, "commands": commands, "columns": columns, "api": api}
    for name, page in pages.items():
        text, path = page(), folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:  # what is unchanged is not built again
            path.write_text(text)


def settings() -> str:
    """Return the page of settings."""
    lines = [
        "# Settings",
        "",
        "Fields of `Settings`, and lines of `xpcs.yml`. `xpcs-live-denoise init` writes a file "
        "with all of them, `xpcs-live-denoise check` tests one. Paths are relative to the file.",
        "",
        *_fields(Settings, ""),
    ]
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], prefix: str) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        inner = [
            a for a in (field.annotation, *get_args(field.annotation)) if hasattr(a, "model_fields")
        ]
        described = html.escape(" ".join((field.description or "").split()), quote=False)
        if inner:
            lines += [
                f"## {prefix}{name}",
                "",
                described,
                "",
                *_fields(inner[0], f"{prefix}{name}."),
            ]
        else:
            lines += [f"`{prefix}{name}`", f": {described} {_default(field)}", ""]
    return lines


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "Required."
    default = field.get_default()
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        default = str(default).lower()
    return f"*Default:* `{default}`."


def commands() -> str:
    """Return the page of commands, as typer writes it."""
    arguments = ("xpcs_live_denoise.commands.cli", "utils", "docs", "--name", COMMAND)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "typer", *arguments], capture_output=True, text=True, check=True
    )
    text = html.unescape(done.stdout).replace(f"# `{COMMAND}`", "# Commands", 1)
    return text.replace("```console", "```text")


def columns() -> str:
    """Return the page of the columns of tables."""
    lines = [
        "# Columns of the tables",
        "",
        "What the tables `gamma` and `status` of a result hold. Arrays: [](../schema.md).",
        "",
    ]
    for name, record, schema in (
        ("gamma", GammaTable, GAMMA_SCHEMA),
        ("status", Status, STATUS_SCHEMA),
    ):
        described = {
            column.strip(): " ".join(entry.desc)
            for entry in ClassDoc(record)["Attributes"]
            for column in entry.name.split(",")
        }
        if missing := schema.keys() - described.keys():
            raise ValueError(f"{record.__name__}: no description of {', '.join(sorted(missing))}")
        lines += [f"## {name}", "", "| column | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{c}` | {unit} | {described[c]} |" for c, (_, unit) in schema.items()]
        lines.append("")
    return "\n".join(lines)


def api() -> str:
    """Return the page with all public names."""
    names = sorted(n for n in xpcs_live_denoise.__all__ if not n.startswith("_"))
    rest = [n for n in names if not n.endswith(ERRORS)]
    errors = [n for n in names if n.endswith(ERRORS)]
    lines = ["# Python", "", "Everything is imported from `xpcs_live_denoise`.", ""]
    for title, group in (("Names", rest), ("Errors", errors)):
        entries = [f"   {name}" for name in group]
        lines += [f"## {title}", "", "```{eval-rst}", ".. currentmodule:: xpcs_live_denoise", ""]
        lines += [".. autosummary::", "   :toctree: names", "", *entries, "```", ""]
    return "\n".join(lines)
