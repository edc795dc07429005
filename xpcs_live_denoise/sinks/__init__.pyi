"""Where the results of a run go: Tiled, the spool on disk, a line in the terminal, memory."""

from .run import TiledSinkFactory as TiledSinkFactory
from .spool import RunSpool as RunSpool
from .spool import SpooledRun as SpooledRun
from .spool import default_folder as default_folder
from .spool import spooled_folders as spooled_folders
from .terminal import TerminalSink as TerminalSink
