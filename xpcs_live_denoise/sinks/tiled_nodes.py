"""Creates nodes in Tiled such that a repeat after a lost answer finds what the first one made."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiled.client.utils import ClientError
from tiled.structures.core import Spec

HTTP_CONFLICT = 409


def specs_of(*specs: tuple[str, str | None]) -> list[Spec]:
    """Return Tiled's specs of (name, version) pairs."""
    return [Spec(name, version) for name, version in specs]


def create_or_adopt(parent: Any, key: str, create: Callable[[], Any]) -> Any:
    """Return the node that `create` makes, or the one of that key that is already there."""
    try:
        return create()
    except ClientError as error:
        if error.response.status_code != HTTP_CONFLICT:
            raise
        return parent[key]


def plain(node: Any) -> Any:
    """Return the plain container client of a node; special clients look for columns in it."""
    return getattr(node, "base", node)
