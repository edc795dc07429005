"""The embedded server's process: serves until the process that started it is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading


def main() -> None:
    """Run `tiled` with this process' arguments; end when standard input ends.

    Whoever starts this process holds the other end of its standard input. The system closes that
    end however the owner dies, so that no server outlives its owner.
    """
    owner = sys.stdin.fileno()

    def watch() -> None:
        while os.read(owner, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="owner").start()

    from tiled.commandline.main import main as tiled

    # Only with this option does the start-up banner keep quiet; otherwise it prints an address with
    # a random key that opens nothing. Set here, it never shows in the system's list of processes.
    sys.argv += ["--api-key", os.environ["XPCS_TILED_API_KEY"]]
    tiled()


if __name__ == "__main__":
    main()
