"""Draws runs for a browser: access, the list of runs, one run followed live."""

from .server import checked_key as checked_key
from .server import serve_page as serve_page
from .tiled_http import TiledHttp as TiledHttp
