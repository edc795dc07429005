"""Sphinx extension: the reference pages that are made from the code, before each build.

Settings from the fields of `Settings`, commands from what typer shows, columns from the docstrings
of the records, and a page for each public name.
"""

from __future__ import annotations

import builtins
import html
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from numpydoc.docscrape import ClassDoc

import xpcs_live_denoise
from xpcs_live_denoise.catalog.schema import GAMMA_SCHEMA, STATUS_SCHEMA
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.monitoring import METRICS
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.run import Status

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from sphinx.application import Sphinx

REPOSITORY = Path(__file__).parents[2]
COMMAND = "xpcs-live-denoise"
ERRORS = "Error"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the writing of the pages with Sphinx."""
    app.connect("config-inited", _write_pages)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx, _config: Any) -> None:
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    pages = {
        "settings": settings,
        "commands": commands,
        "columns": columns,
        "metrics": metrics,
        "api": api,
        "deploy": deploy,
    }
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


def metrics() -> str:
    """Return the page of what services show to Prometheus."""
    lines = [
        "# Metrics",
        "",
        "What `/metrics` of `serve`, `view` and `serve_metrics` shows. Alert rules and a dashboard "
        "over them are in `deploy/prometheus` and `deploy/grafana`.",
        "",
        "| metric | kind | of | labels | meaning |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS.values():
        labels = f"`{metric.label}`: {', '.join(metric.values) or '...'}" if metric.label else ""
        shown = ", ".join(metric.commands)
        lines.append(f"| `{metric.name}` | {metric.kind} | {shown} | {labels} | {metric.text} |")
    return "\n".join(lines) + "\n"


def deploy() -> str:
    """Return deploy/README.md, with its links as seen from here."""
    text = (REPOSITORY / "deploy" / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!http|#)([^)]+)\)", r"](../../deploy/\1)", text)


def api() -> str:
    """Return the page with all public names, and with what they hand out."""
    names = public_names()
    rest = [n for n in names if not n.endswith(ERRORS)]
    errors = [n for n in names if n.endswith(ERRORS)]
    handed_out = [
        f"~{one.__module__.partition('.')[2]}.{one.__qualname__}" for one in handed_out_by(names)
    ]
    lines = ["# Python", "", "What has names of its own is imported from `xpcs_live_denoise`.", ""]
    for title, group in (("Names", rest), ("What they return", handed_out), ("Errors", errors)):
        entries = [f"   {name}" for name in group]
        lines += [f"## {title}", "", "```{eval-rst}", ".. currentmodule:: xpcs_live_denoise", ""]
        lines += [".. autosummary::", "   :toctree: names", "", *entries, "```", ""]
    return "\n".join(lines)


def public_names() -> list[str]:
    """Return the names that users import."""
    return sorted(n for n in xpcs_live_denoise.__all__ if not n.startswith("_"))


def handed_out_by(names: Iterable[str]) -> list[type]:
    """Return our own records without a public name that public names return or hold."""
    public = [getattr(xpcs_live_denoise, name) for name in names]
    hints = [hint for one in public for hint in _hints_of(one)]
    found = {one for hint in hints for one in _classes_in(hint) if one not in public}
    ours = [one for one in found if one.__module__.startswith("xpcs_live_denoise.")]
    # A setting's fields are on a page of their own.
    shown = [one for one in ours if not hasattr(one, "model_fields")]
    return sorted(shown, key=lambda one: one.__name__)


def _hints_of(public: Any) -> Iterator[Any]:
    """Yield the types of what a function returns, or the methods and fields of a class."""
    if not isinstance(public, type):
        yield _resolved(public).get("return")
        return
    yield from _resolved(public).values()
    for name, member in inspect.getmembers(public):
        function = getattr(member, "fget", getattr(member, "func", member))
        if not name.startswith("_") and inspect.isfunction(function):
            yield _resolved(function).get("return")


def _resolved(annotated: Any) -> dict[str, Any]:
    return get_type_hints(annotated, localns=_Others(vars(sys.modules[annotated.__module__])))


def _classes_in(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and not get_args(hint):
        yield hint
    for argument in get_args(hint):
        yield from _classes_in(argument)


class _Others(dict[str, Any]):
    """Names that a module imports for its types alone: our own classes, and Any for the others."""

    def __missing__(self, name: str) -> Any:
        room = importlib.import_module(self["__package__"])
        for module in (room, *list(sys.modules.values())):
            found = getattr(module, name, None) if module is room else vars(module).get(name)
            if inspect.isclass(found) and found.__module__.startswith("xpcs_live_denoise."):
                return found
        if hasattr(builtins, name):
            return getattr(builtins, name)
        return _Foreign()


class _Foreign:
    """Stands for what others define."""

    def __getattr__(self, name: str) -> type:
        return object

    def __or__(self, other: object) -> type:
        return object

    __call__ = __getitem__ = __ror__ = __or__
