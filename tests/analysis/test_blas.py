"""one_thread: fewer BLAS threads, and as many as before afterwards."""

import numpy as np
from threadpoolctl import threadpool_info

from xpcs_live_denoise.analysis.c2 import one_thread


def blas_threads():
    assert np.ones((2, 2)) @ np.ones(2) is not None  # numpy's BLAS is loaded
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_inside_and_its_own_number_outside():
    before = blas_threads()
    assert before
    with one_thread():
        assert set(blas_threads()) == {1}
        with one_thread():
            assert set(blas_threads()) == {1}
    assert blas_threads() == before
