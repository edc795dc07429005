"""What the tests of `reprocess` let workers do: functions that other processes can import."""

import os
import signal
import time
from pathlib import Path

from xpcs_live_denoise.commands.reprocess_run import reprocess_run


def die_before_the_stop_once(task, marker):
    """Reprocess a run; the first time ever die when all is stored but the stop document."""
    from xpcs_live_denoise.sinks import ClaimedSink

    if not Path(marker).exists():
        Path(marker).touch()
        ClaimedSink.finish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    return reprocess_run(task)


def sleep(seconds):
    """Do nothing, and say how long."""
    time.sleep(seconds)
    return seconds
