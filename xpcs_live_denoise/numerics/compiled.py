"""Compilation of inner loops with numba, on first use and kept on disk."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Compiled]:
    """Return a decorator that compiles a function of arrays and numbers when it is first called.

    Compiled code releases the GIL and is kept on disk, where there is a folder for it; `options`
    are numba's. It never spreads over threads by itself: two threads that call parallel code on
    numba's workqueue layer abort the process.
    """
    return lambda function: Compiled(function, options)


class Compiled:
    """A function that numba compiles when it is first called: importing numba takes half a second.

    Its state is the compiled function.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function."""
        return self.kernel(*arguments)

    @functools.cached_property
    def kernel(self) -> Any:
        """The compiled function, for other compiled functions to call."""
        import numba

        try:
            return numba.njit(nogil=True, cache=True, **self._options)(self._function)
        except (RuntimeError, OSError):  # no folder that numba may write to
            return numba.njit(nogil=True, **self._options)(self._function)
