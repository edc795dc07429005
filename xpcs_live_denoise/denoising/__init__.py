"""The networks, for C2 and for images of few counts; the only importer of torch."""

import os

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Read by torch at its first tensor: memory comes in large pages, which halves the time of an image
# of four million pixels.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
