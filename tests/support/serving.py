"""What tests of `serve` share: the process, a series to measure, and the offline result."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from xpcs_live_denoise import RoiMap, Settings, analyse, save_rois
from xpcs_live_denoise.records.results import Result

KEYS = ["roi", "age_frame", "source", "width"]
FRAME_TIME_S = 0.01


class Serving:
    """`xpcs-live-denoise serve` in a process of its own; a context manager.

    Parameters
    ----------
    config
        The settings.
    api_key
        Of the Tiled server.
    options
        Of the command; default: listen at a free port of this machine.
    state
        Folder of the spool and whatever else it keeps.
    """

    def __init__(
        self,
        config: Path,
        api_key: str,
        state: Path,
        options: tuple[str, ...] = ("--bind", "--documents", "0"),
    ) -> None:
        self.address = ""
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xpcs_live_denoise", "serve", "--config", str(config), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "TILED_API_KEY": api_key,
                "XDG_STATE_HOME": str(state),
                "COLUMNS": "200",
            },
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Serving:
        try:
            self.wait_for("Ready")
        except BaseException:
            self.kill()
            raise
        for line in self.lines:
            if " at tcp://" in line:
                self.address = line.rsplit(" ", 1)[1].rstrip(".\n")
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._end()

    def wait_for(self, text: str, timeout: float = 120.0) -> str:
        """Return the next line that holds a text; raise with the output if none comes."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._queue.get(timeout=min(left, 0.2))
            except queue.Empty:
                if self._process.poll() is not None and self._queue.empty():
                    break
                continue
            if text in line:
                return line
        raise AssertionError(f"serve said no {text!r}, but:\n{self.output}")

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All it has said."""
        return "".join(self.lines)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._end()

    def terminate(self, timeout: float = 120.0) -> int:
        """End it as systemd would; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout)
        return self._end()

    def _end(self) -> int:
        status = self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines.append(line)
            self._queue.put(line)


def speckle(n_frames: int, shape: tuple[int, int], seed: int = 0) -> np.ndarray[Any, Any]:
    """Return Poisson frames (n, rows, cols) of a field that forgets itself, ever more slowly."""
    rng = np.random.default_rng(seed)
    field = rng.normal(size=(2, *shape)).astype(np.float32)
    frames = np.empty((n_frames, *shape), np.uint16)
    for k, frame in enumerate(frames):
        frame[:] = rng.poisson(0.5 * (field**2).sum(0))
        memory = np.float32(np.exp(-0.05 / (1 + k / 200)))
        noise = rng.normal(size=field.shape).astype(np.float32)
        field = memory * field + np.sqrt(1 - memory**2) * noise
    return frames


def stripes(shape: tuple[int, int], n_roi: int) -> RoiMap:
    """Return ROIs that share all pixels, with a q of their own so that no document changes it."""
    labels = np.repeat(1 + np.arange(shape[0]) * n_roi // shape[0], shape[1]).reshape(shape)
    return RoiMap.from_labels(labels, q_inv_angstrom=np.linspace(1e-3, 5e-3, n_roi))


def write_settings(folder: Path, rois: RoiMap, uri: str, **fields: Any) -> Settings:
    """Write xpcs.yml and the ROI file; return the settings as `serve` reads them."""
    save_rois(rois, folder / "rois.npz")
    (folder / "detector").mkdir(exist_ok=True)
    settings = {
        "detector": "eiger",
        "rois": "rois.npz",
        "frame_time_s": FRAME_TIME_S,
        "file_roots": [str(folder / "detector")],
        "tiled": {"uri": uri, "raw_path": "raw"},
        **fields,
    }
    (folder / "xpcs.yml").write_text(yaml.safe_dump(settings))
    return Settings.load(folder / "xpcs.yml")


def wait_for_result(client: Any, uid: str, timeout: float = 200.0) -> Any:
    """Return the finished result of a run, as soon as it is there."""
    from xpcs_live_denoise import results
    from xpcs_live_denoise.errors import ResultNotFoundError

    deadline = time.monotonic() + timeout
    while True:
        try:
            result = results(client, uid)
            if "stop" in result.metadata:
                return result
        except ResultNotFoundError:
            pass
        assert time.monotonic() < deadline, "no finished result came in time"
        time.sleep(0.2)


def differences(result: Any, frames: np.ndarray[Any, Any], settings: Settings) -> dict[str, float]:
    """Return how a stored result differs from the offline one of the same frames.

    `c2` and `c2_denoised`: largest absolute difference; `gamma`: largest relative one over rows
    that both recommend; `rows`: rows that only one of them recommends; `missing`: frames without
    a number.
    """
    expected: Result = analyse(frames, settings)
    c2 = result.c2(denoised=False).values
    found = {"missing": len(frames) - int(np.isfinite(np.diagonal(c2[0])).sum())}
    if c2.shape != expected.c2.shape:
        raise AssertionError(f"C2 has shape {c2.shape}, expected {expected.c2.shape}")
    found["c2"] = float(np.nanmax(np.abs(c2 - expected.c2)))
    if expected.denoised is not None:
        found["c2_denoised"] = float(np.nanmax(np.abs(result.c2().values - expected.denoised.c2)))
    theirs = expected.gamma.to_pandas()
    ours = result.gamma_table()
    chosen = [t.loc[t["recommended"], [*KEYS, "relaxation_rate"]] for t in (ours, theirs)]
    both = chosen[0].merge(chosen[1], on=KEYS, suffixes=("", "_offline"))
    found["rows"] = len(chosen[0]) + len(chosen[1]) - 2 * len(both)
    found["recommended"] = len(both)
    ratio = both["relaxation_rate"] / both["relaxation_rate_offline"]
    found["gamma"] = float((ratio - 1).abs().max()) if len(both) else float("nan")
    return found
