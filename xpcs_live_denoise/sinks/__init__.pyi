"""Where the results of a run go: Tiled, the spool on disk, a file, the terminal, memory."""

from .band_file import BandFile as BandFile
from .band_file import stored_band as stored_band
from .claim import Claim as Claim
from .claim import ClaimedSink as ClaimedSink
from .claim import ClaimTimes as ClaimTimes
from .destination import TiledDestination as TiledDestination
from .memory import MemorySink as MemorySink
from .run import TiledSink as TiledSink
from .spool import LEAST_FREE_BYTES as LEAST_FREE_BYTES
from .spool import Spool as Spool
from .spool import default_folder as default_folder
from .spool import read_record as read_record
from .spool import spooled_folders as spooled_folders
from .summary import Summary as Summary
from .terminal import TerminalSink as TerminalSink
