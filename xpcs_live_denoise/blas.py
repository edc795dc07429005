"""One BLAS thread for many small products: more of them wait for each other than they compute."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which numpy's BLAS uses one thread.

    The fits multiply thousands of small matrices. On a machine whose cores are busy (the detector,
    the server, the scan) two threads took ten times as long for them as one.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
