"""Short names for the types of arrays and documents that signatures use again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # of any dtype: counts as a detector writes them, labels, numbers
FloatArray: TypeAlias = NDArray[np.floating[Any]]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]

# A document of bluesky, or a part of one: what it holds is checked where it is read.
Document: TypeAlias = dict[str, Any]
# The same where it is only read: metadata, configuration, keyword arguments.
Fields: TypeAlias = Mapping[str, Any]
