"""Live two-time XPCS with CNN denoising, from Bluesky documents to derived runs in Tiled."""

import lazy_loader

# The public names, see __init__.pyi. Imported on first use: the package itself loads nothing heavy.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
