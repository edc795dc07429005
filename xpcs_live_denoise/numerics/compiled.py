"""Loops compiled with numba: without the interpreter's lock, on one thread, kept on disk.

A module of kernels is imported inside the functions that call them: numba takes half a second, and
the first import on a machine compiles, for some seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numba

_MODULES = (
    "two_time_kernels",
    "fit_kernels",
    "hot_pixel_kernels",
    "static_kernels",
    "estimator.algebra_kernels",
    "estimator.cell_kernels",
    "estimator.grid_kernels",
    "estimator.path_kernels",
    "estimator.prior_kernels",
    "estimator.refine_kernels",
    "estimator.sums_kernels",
)
# Modules whose kernels are compiled for each type of frame, when they are called.
_BY_TYPE = ("two_time", "mean_image", "bslz4", "hot_pixels")

Function: TypeAlias = Callable[..., Any]

# Sums may be taken in any order, a product added in one go; NaN and infinity keep their meaning.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},
}
_njit: Function = cast("Any", numba).njit


def kernel(
    signature: str | None = None, *, in_order: bool = False, makes_arrays: bool = True
) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function of arrays and numbers.

    With a signature it is compiled at once, for those types only; without, when it is called, for
    each precision. `in_order`: operations are done as they are written. A function that makes no
    arrays of its own, but views of others, need not count who uses them: that takes longer than a
    short loop.
    """
    options = {**_OPTIONS, "fastmath": False} if in_order else _OPTIONS
    if not makes_arrays:
        options = {**options, "_nrt": False}

    def compiled(function: Function) -> Function:
        types = () if signature is None else (signature,)
        try:
            return _njit(*types, cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder that numba may write to
            return _njit(*types, **options)(function)

    return compiled


def prepare_fits() -> None:
    """Compile what all types share: before several threads call it, as numba compiles on one."""
    for name in _MODULES:
        importlib.import_module(f"xpcs_live_denoise.numerics.{name}")


def prepare() -> None:
    """Compile all kernels, or read them from disk: some seconds the first time on a machine."""
    prepare_fits()
    for name in _BY_TYPE:
        importlib.import_module(f"xpcs_live_denoise.numerics.{name}").compile_kernels()
