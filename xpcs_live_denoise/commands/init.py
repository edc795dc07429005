"""`init`: a settings file with every setting, its unit and its default, commented."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from .output import check_output

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDTH = 96
HEAD = (
    "Settings of xpcs-live-denoise. A line such as #mode: ... shows a default: take the # away to "
    "change it. Paths are relative to this file. `xpcs-live-denoise check` tests what is set."
)


def init(
    detector: Annotated[
        str, typer.Option(help="Name of the detector as documents spell it.")
    ] = "eiger4m_single",
    out: Annotated[Path, typer.Option(help="The file to write, YAML.")] = Path("xpcs.yml"),
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a settings file to begin with: every setting, with its unit and its default."""
    check_output(out, (".yml", ".yaml"), overwrite=overwrite)
    out.write_text(settings_text(detector), encoding="utf-8")
    typer.echo(
        f"Settings are in {out}. Set at least `rois`, `file_roots` and `tiled` in it, then:\n"
        f"  xpcs-live-denoise check {out}"
    )


def settings_text(detector: str) -> str:
    """Return YAML with every setting of `Settings`, all but the detector commented."""
    from xpcs_live_denoise.config import Settings

    lines = [*_comment(HEAD, ""), "", *_described(Settings, "")]
    required = f"detector: {_yaml(detector)}"
    return "\n".join(required if line == "#detector:" else line for line in lines) + "\n"


def _described(model: type[BaseModel], indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        lines += _comment(field.description or "", indent)
        if (inner := _model_in(field.annotation)) is not None:
            lines += [f"#{indent}{name}:", *_described(inner, f"{indent}  ")]
        elif field.is_required():
            lines.append(f"#{indent}{name}:")
        else:
            default = field.get_default()
            shown = [str(one) for one in default] if isinstance(default, tuple) else default
            lines.append(f"#{indent}{name}: {_yaml(shown)}")
        lines += [] if indent else [""]
    return lines


def _model_in(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    kinds = (annotation, *get_args(annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=f"# {indent}",
        subsequent_indent=f"# {indent}",
        break_long_words=False,
    )


def _yaml(value: Any) -> str:
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.strip().removesuffix("...").strip()
