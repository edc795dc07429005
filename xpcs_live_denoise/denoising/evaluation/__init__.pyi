"""Compares every method with known truth."""

from .metrics import errors as errors
from .metrics import summary as summary
