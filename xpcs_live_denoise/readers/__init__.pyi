"""How results are found in Tiled and taken out again."""

from .client import XPCSResult as XPCSResult
from .client import results as results
