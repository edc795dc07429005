"""Draws runs for a browser: access, the list of runs, one run followed live."""

from .access import checked_key as checked_key
from .access import is_loopback as is_loopback
from .monitor import PageMonitor as PageMonitor
from .server import serve_page as serve_page
from .tiled_http import TiledHttp as TiledHttp
