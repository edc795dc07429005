"""A document as JSON has it: what comes from documents goes into results only like this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import short_repr

MOST_DEPTH = 20
MOST_VALUES = 10_000
MOST_CHARACTERS = 100_000


def plain_document(doc: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a copy of a document that holds only what JSON knows, of bounded depth and size.

    Arrays become lists. What JSON does not know, what lies deeper than MOST_DEPTH, integers of more
    than 64 bits and long texts become a short text that shows them; after MOST_VALUES values the
    rest is left out. Never raises.
    """
    return {
        _text(key): value for key, value in zip(doc, _Plain().values(doc.values(), 1), strict=False)
    }


class _Plain:
    """One document on its way; counts the values."""

    def __init__(self) -> None:
        self._n_left = MOST_VALUES

    def values(self, values: Any, depth: int) -> list[Any]:
        plain: list[Any] = []
        for value in values:
            if self._n_left <= 0:
                break
            self._n_left -= 1
            plain.append(self._value(value, depth))
        return plain

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray) and value.size <= MOST_VALUES:
            value = value.tolist()
        if isinstance(value, list | tuple | Mapping) and depth < MOST_DEPTH:
            return self._container(value, depth + 1)
        is_known = value is None or isinstance(value, bool | float)
        if is_known or (isinstance(value, int) and -(2**63) <= value < 2**63):
            return value
        return _text(value)

    def _container(self, value: Any, depth: int) -> Any:
        if not isinstance(value, Mapping):
            return self.values(value, depth)
        inner = self.values(value.values(), depth)
        return {_text(key): one for key, one in zip(value, inner, strict=False)}


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return short_repr(value)
    # PostgreSQL takes no null characters, which EPICS leaves at the end of texts.
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
