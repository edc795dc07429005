"""RunEngine, its subscriptions and metadata: what nslsii.configure_base does at the beamline."""

import os
import sys
from pathlib import Path

from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.run_engine import RunEngine
from bluesky.utils import ProgressBarManager
from platformdirs import user_data_path

# The simulated beamline, chx_simulation.py, lies beside the startup files' folder.
sys.path.append(str(Path(get_ipython().profile_dir.location).resolve()))

# A window needs a display; without one, XPCS_PLOT=live.png is drawn instead.
if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
    get_ipython().run_line_magic("matplotlib", "qt")

# Off the beamline everything lies here: detector files, the catalog, settings.
data_folder = Path(
    os.environ.get("XPCS_PROFILE_DATA") or user_data_path("xpcs-live-denoise") / "profile"
)
data_folder.mkdir(parents=True, exist_ok=True)

RE = RunEngine(
    {
        "beamline_id": "CHX",
        "facility": "off-beamline",
        "cycle": "2026_3",
        "data_session": "pass-000000",
        "sample": "ageing gel",
        "transmission": "1",
        "T_sample": "21",
    }
)
bec = BestEffortCallback()
RE.subscribe(bec)
RE.waiting_hook = ProgressBarManager()
