"""Kernels are compiled before data come, do not hold the interpreter's lock, and keep NaN."""

import importlib
import subprocess
import sys

import numpy as np
import pytest

from xpcs_live_denoise.numerics import compiled


def kernels_of(name):
    module = importlib.import_module(f"xpcs_live_denoise.numerics.{name}")
    return [one for one in vars(module).values() if hasattr(one, "nopython_signatures")]


@pytest.mark.parametrize(
    "name", ["fit_kernels", "estimator.grid_kernels", "estimator.path_kernels"]
)
def test_after_prepare_every_kernel_is_compiled_without_the_lock(name):
    compiled.prepare()
    found = kernels_of(name)
    assert found
    for kernel in found:
        assert kernel.targetoptions["nogil"]
        assert not kernel.targetoptions.get("parallel")
    assert any(kernel.nopython_signatures for kernel in found)


def test_a_kernel_keeps_what_is_no_number():
    @compiled.kernel("float64(float64[::1])")
    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    assert np.isnan(total(np.array([1.0, np.nan])))
    assert total(np.arange(10.0)) == 45.0


def test_the_estimator_is_imported_without_the_compiler():
    code = (
        "import sys, xpcs_live_denoise.numerics.estimator.ages, xpcs_live_denoise.numerics.fits;"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
