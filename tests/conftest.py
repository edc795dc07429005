"""Fixtures for all tests: a real Tiled server, and a synthetic analysis to write to it."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from dataclasses import dataclass, field
from typing import Any

# Threads of a numerical library would fight with the server for the two cores of a CI machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each client reads all certificates of the machine, 20 ms, unless they lie in a folder: then it
# reads those that it needs, here none.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = "/etc/ssl/certs"
# In memory where there is room: a server's SQLite waits for the disk at every change.
if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 4e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")
# How often, and for how many seconds, Tiled's client asks a server again that is away.
os.environ |= {"TILED_RETRY_ATTEMPTS": "3", "TILED_RETRY_TIMEOUT": "3"}

# A shell that starts tests in the background lets them ignore Ctrl-C, and what they start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest

from xpcs_live_denoise.numerics.two_time import band_of_c2
from xpcs_live_denoise.records.results import (
    BandRows,
    C2Rows,
    DenoisedTwoTime,
    GammaTable,
    Intensity,
    OneTime,
    Publication,
    Result,
)
from xpcs_live_denoise.records.run import RoiHeterogeneity, RunInfo, Status

# Files that workers should begin with: started last, they would be what the others wait for.
LONG = (
    "tests/system/test_tiled_outages.py",
    "tests/commands/test_replay.py",
    "tests/system/test_serve.py",
    "tests/system/test_view.py",
    "tests/sinks/test_tiled_sink.py",
    "tests/sinks/test_tiled_faults.py",
    "tests/system/",
    "tests/window/test_qt_window.py",
    "tests/catalog/",
    "tests/readers/",
    "tests/page/",
    "tests/commands/",
    "tests/sinks/",
    "tests/sources/stored/",
    "tests/live/",
    "tests/",
)


def pytest_collection_modifyitems(items):
    """Long files first; the order within a file stays."""
    items.sort(key=lambda item: next(k for k, name in enumerate(LONG) if name in item.nodeid))


@pytest.fixture(autouse=True)
def state_home(tmp_path_factory, monkeypatch):
    """The folder for states of programs: what a test spools must not land in the user's home."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory):
    """The worker's embedded server: `.uri`, `.api_key`, `.client()`. Never stop it."""
    from tests.support.tiled_servers import Server

    readable = tmp_path_factory.getbasetemp()
    with Server(tmp_path_factory.mktemp("tiled"), readable=readable) as server:
        yield server


@pytest.fixture
def tiled_client(tiled_server):
    """A fresh client of the server's root."""
    client = tiled_server.client()
    yield client
    client.context.close()


@pytest.fixture(scope="module")
def module_client(tiled_server):
    """A module's client of the root of the server."""
    client = tiled_server.client()
    yield client
    client.context.close()


@pytest.fixture(scope="module")
def restartable(tmp_path_factory):
    """A module's server to stop, kill, freeze and start again."""
    from tests.support.tiled_servers import Server

    readable = tmp_path_factory.getbasetemp()
    with Server(tmp_path_factory.mktemp("restartable"), readable=readable) as server:
        yield server


@pytest.fixture
def outage_server(restartable):
    """The module's server, running at the start of each test whatever the one before did to it."""
    restartable.start()
    return restartable


@dataclass
class SyntheticRun:
    """An analysis of random numbers, cut into the records that a sink is given."""

    n_frames: int = 60
    n_roi: int = 2
    n_expected: int | None = 60
    seed: int = 0
    start: dict[str, Any] = field(default_factory=dict)
    phi_deg: tuple[float, ...] = ()
    map_frames: int = 1024  # a longer series has a map of several frames a bin

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shape = (self.n_roi, self.n_frames, self.n_frames)
        noise = rng.normal(1.0, 0.1, shape).astype(np.float32)
        self.c2 = (noise + noise.swapaxes(1, 2)) / 2
        self.denoised = self.c2 + np.float32(0.01)
        self.spread = np.abs(rng.normal(0.1, 0.01, shape)).astype(np.float32)
        self.roi_mean = rng.poisson(50, (self.n_frames, self.n_roi)).astype(np.float32) / 50
        self.roi = tuple(range(1, self.n_roi + 1))
        self.raw_uid = str(uuid.uuid4())  # the server is shared: no two tests may meet in it

    @property
    def info(self) -> RunInfo:
        return RunInfo(
            start={"uid": self.raw_uid, "time": 1.0, "scan_id": 7, "sample": "gel", **self.start},
            detector="eiger",
            image_key="eiger_image",
            frame_shape=(4, 5),
            frame_time_s=0.5,
            n_expected=self.n_expected,
            roi=self.roi,
            q_inv_angstrom=(0.01, *[float("nan")] * (self.n_roi - 1)),
            phi_deg=self.phi_deg,
            n_pixels=(10,) * self.n_roi,
            window=50,
            step=5,
            mode="nonequilibrium",
            engine="dense",
            settings={"detector": "eiger"},
            versions={"numpy": "2"},
        )

    def gamma(
        self, ages: range, *, source: str = "raw", final: bool = False, rate: float = 1.0
    ) -> GammaTable:
        """One row per ROI and age; width 0 stands for nothing but itself."""
        n = self.n_roi * len(ages)
        age = np.tile(np.array(ages, dtype=float), self.n_roi)
        values = {name: np.full(n, 0.5) for name in GammaTable.__slots__}
        values |= {
            "roi": np.repeat(np.array(self.roi), len(ages)),
            "age_frame": age,
            "age_s": age * 0.5,
            "q_inv_angstrom": np.full(n, np.nan),
            "phi_deg": np.full(n, np.nan),
            "relaxation_rate": np.full(n, rate),
            "width": np.ones(n, dtype=np.int64),
            "n_lags": np.full(n, 9),
            "reduced_chi_square": np.full(n, np.nan),
        }
        texts = {"source": source, "error_kind": "fit", "reason": "", "caution": ""}
        for name, text in texts.items():
            values[name] = np.full(n, text)
        for name in ("converged", "in_range", "recommended"):
            values[name] = np.full(n, True)
        values["final"] = np.full(n, final)
        return GammaTable(**values)

    def map(self, n_frames: int) -> tuple[np.ndarray, int]:
        """The map of the first frames, and how many of them a bin holds; the last may hold less."""
        each = 1
        while n_frames > each * self.map_frames:
            each *= 2
        values, bins = self.c2[:, :n_frames, :n_frames].astype(float), range(0, n_frames, each)
        for axis in (1, 2):
            counts = np.diff([*bins, n_frames]).reshape([-1, 1] if axis == 1 else [-1])
            values = np.add.reduceat(values, bins, axis=axis) / counts
        return values.astype(np.float32), each

    def map_rows(self, start: int, stop: int) -> C2Rows:
        """The rows of the map that frames [start, stop) change."""
        values, each = self.map(stop)
        first = start // each if each == self.map(max(start, 1))[1] else 0
        return C2Rows(
            start=first,
            stop=values.shape[1],
            values=values[:, first:],
            frames_per_bin=each,
        )

    def publication(self, start: int, stop: int, **fields: Any) -> Publication:
        """The rows [start, stop), those of the band that windows change, and one age a frame."""
        first = max(0, start - 10)
        news = {
            "n_frames": stop,
            "c2": self.map_rows(start, stop),
            "band": self.band(first, stop),
            "gamma": self.gamma(range(start, stop)),
            "status": Status(n_seen=stop, n_processed=stop, contrast=(0.1, float("nan"))),
            "intensity": self.intensity(start, stop),
        }
        return Publication(**{**news, **fields})

    def intensity(self, start: int, stop: int) -> Intensity:
        """I(t) of the frames [start, stop), of ROIs of ten pixels."""
        roi_mean = self.roi_mean[start:stop]
        total = 10 * roi_mean.sum(axis=1, dtype=np.float64)
        return Intensity(start=start, stop=stop, total=total, roi_mean=roi_mean)

    @property
    def heterogeneity(self) -> tuple[RoiHeterogeneity, ...]:
        """That of every ROI: found in the first, in the last nothing is known of its spread."""
        bins = {"lag": (2.0, 3.5, 6.0), "chi": (0.1, 0.3, -0.05), "chi_error": (0.02, 0.05, 0.1)}
        first = RoiHeterogeneity(**bins, spread=0.55, spread_error=0.08, found=True)
        others = (RoiHeterogeneity(**bins, spread_error=0.1),) * (self.n_roi - 1)
        return (first, *others)

    def band(self, start: int, stop: int, *, denoised: bool = True) -> BandRows:
        """Rows of the band of the three arrays."""
        raw, mean, spread = (
            band_of_c2(square.swapaxes(1, 2), start, stop, 50)
            for square in (self.c2, self.denoised, self.spread)
        )
        if not denoised:
            return BandRows(start=start, stop=stop, c2=raw)
        return BandRows(start=start, stop=stop, c2=raw, denoised=mean, spread=spread)

    def result(self, *, denoised: bool = True, message: str = "") -> Result:
        """The final result of the whole series; of a long one the last rows of the band alone."""
        n, lags = self.n_frames, np.arange(1, self.n_frames)
        values, frames_per_bin = self.map(n)
        first = 0 if frames_per_bin == 1 else max(0, n - 30)
        g2 = np.empty((self.n_roi, n - 1))
        for lag in lags:
            g2[:, lag - 1] = np.diagonal(self.c2, lag, 1, 2).mean(-1)
        tables = [self.gamma(range(n), source="raw", final=True, rate=2.0)]
        if denoised:
            tables.append(self.gamma(range(n), source="denoised", final=True, rate=3.0))
        return Result(
            map_values=values,
            frames_per_bin=frames_per_bin,
            band=self.band(first, n, denoised=denoised),
            denoised=DenoisedTwoTime(
                c2=self.denoised, spread=self.spread, contrast=0.1, baseline=1.0
            )
            if denoised and frames_per_bin == 1
            else None,
            gamma=GammaTable.concatenate(tables),
            g2=OneTime(
                delay_s=lags * 0.5,
                g2=g2,
                g2_error=np.full_like(g2, 0.01),
                g2_denoised=g2 + 0.01 if denoised else None,
                heterogeneity=g2 - 1,
                heterogeneity_error=np.full_like(g2, 0.02),
            ),
            status=Status(
                n_seen=n, n_processed=n, heterogeneity=self.heterogeneity, message=message
            ),
            intensity=self.intensity(0, n),
        )


@pytest.fixture(scope="session")
def synthetic():
    """The class SyntheticRun: `synthetic(n_frames=..., n_roi=..., n_expected=...)`."""
    return SyntheticRun
