"""Compares every method with known truth."""

from .fitted import triangle_noise as triangle_noise
from .metrics import errors as errors
from .metrics import summary as summary
