"""The parts of a simulated classic Eiger, and ophyd, of which it is made: an optional library."""

from __future__ import annotations

import uuid
from typing import Any

from xpcs_live_denoise.errors import MissingDependencyError

try:
    from ophyd import Component, Device, DeviceStatus, Signal
    from ophyd.device import Staged
except ImportError as error:
    raise MissingDependencyError(
        "The simulated classic Eiger is an ophyd device and ophyd is not installed. "
        "Install it with: pip install 'xpcs-live-denoise[profile]'"
    ) from error

__all__ = [
    "Component",
    "Device",
    "SeriesStatus",
    "Signal",
    "SimulatedEigerCam",
    "SimulatedEigerFilePlugin",
    "Staged",
]


class SeriesStatus(DeviceStatus):
    """The status of one trigger; a progress bar sees its frames."""

    def __init__(self, device: Device, n_frames: int) -> None:
        self._n_frames = n_frames
        self._n_done = 0
        super().__init__(device)

    def watch(self, func: Any) -> None:
        """Tell `func` of every data file that is written."""
        self._watchers.append(func)
        self.advance(0)

    def advance(self, n_frames: int) -> None:
        """Count frames that were written."""
        self._n_done += n_frames
        for watcher in self._watchers:
            watcher(
                name=self.device.name,
                current=self._n_done,
                initial=0,
                target=self._n_frames,
                unit=" frames",
                precision=0,
            )


class SimulatedEigerCam(Device):
    """The signals of the detector's camera that plans set; times in s."""

    acquire_time: Any = Component(Signal, value=0.01, kind="config")
    acquire_period: Any = Component(Signal, value=0.01, kind="config")
    num_images: Any = Component(Signal, value=1, kind="config")
    acquire: Any = Component(Signal, value=0, kind="omitted")


class SimulatedEigerFilePlugin(Device):
    """The signals of NSLS-II's EigerSimulatedFilePlugin.

    Each staging makes a new prefix. `sequence_id` is that of the last series: the detector writes
    to the next one.
    """

    file_path: Any = Component(Signal, value="", kind="omitted")
    file_write_name_pattern: Any = Component(Signal, value="", kind="omitted")
    sequence_id: Any = Component(Signal, value=0, kind="omitted")
    file_write_images_per_file: Any = Component(Signal, value=100, kind="omitted")

    def stage(self) -> list[Any]:
        """Choose the name of the files to come."""
        self.file_write_name_pattern.put(f"{uuid.uuid4().hex[:12]}_$id")
        return super().stage()
