"""Shows that two versions of the package give the same results: the demo's, and those of `analyse`.

    python tests/benchmarks/equal_results.py dump before      # in a checkout of each version
    python tests/benchmarks/equal_results.py compare before after

Only public names and commands are used, so that the script runs on any version. Numbers are
compared to 1e-9 (relative or absolute), texts must be equal, except `in_range` and `reason` of
denoised rows where `--except-denoised-verdicts` is given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 1e-9
VERDICTS = ("in_range", "reason")
DEMO = ["--frames", "300", "--rate", "100", "--rois", "3"]


def dump(folder: Path) -> None:
    """Compute and save all results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in offline_results():
        save(folder / name, result.gamma.to_pandas(), offline_arrays(result))
    demo = folder / "demo-catalog"
    run("demo", "--out", str(demo), *DEMO)
    save(folder / "demo", *stored(demo))


def offline_results():
    from xpcs_live_denoise import RoiMap, Settings, analyse, analyse_c2, simulate_speckle

    shape, edges = (96, 96), [(14, 20), (24, 30), (34, 42)]
    rois = RoiMap.rings(shape, (48.0, 47.0), edges, q_inv_angstrom=[0.002, 0.003, 0.004])
    ages = np.geomspace(0.15, 0.02, 300)
    cases = {"equilibrium": (0.05, 1.0), "nonequilibrium": (ages, 1.3)}
    for mode, (rate, alpha) in cases.items():
        name = mode
        blocks = simulate_speckle(
            shape, 300, relaxation_rate=rate, alpha=alpha, mean_counts=0.5, contrast=0.4, seed=7
        )
        frames = np.concatenate(list(blocks))
        frames[120] = 0  # a beam dump
        frames[:, 30, 48] = 65535  # a saturated pixel
        settings = Settings(detector="d", mode=mode, frame_time_s=0.05)
        yield f"analyse-{name}", analyse(frames, settings, rois=rois)
        plain = analyse(frames[:250], settings.model_copy(update={"denoise": False}), rois=rois)
        yield f"analyse-{name}-plain", plain
        yield f"analyse_c2-{name}", analyse_c2(plain.c2, frame_time_s=0.05)


def offline_arrays(result) -> dict[str, np.ndarray]:
    arrays = {
        "c2": result.c2,
        "g2": result.g2.g2,
        "g2_error": result.g2.g2_error,
        "contrast": np.array(result.status.contrast),
        "baseline": np.array(result.status.baseline),
        "message": np.array(result.status.message),
    }
    if result.denoised is not None:
        arrays |= {"denoised": result.denoised.c2, "spread": result.denoised.spread}
    return arrays


def stored(demo: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Read what the demo stored, through the command that serves it."""
    from tiled.client import from_uri

    command = [sys.executable, "-m", "xpcs_live_denoise", "catalog", str(demo)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        uri = next(
            w.rstrip(";") for line in server.stdout for w in line.split() if w.startswith("http")
        )
        client = from_uri(uri, api_key=(demo / "api_key").read_text())
        result = next(iter(client["processed"].values()))
        arrays = {f"{name}": node.read() for name, node in result["two_time"].base.items()}
        g2 = result.g2_table().reset_index()
        arrays |= {f"g2_{name}": g2[name].to_numpy() for name in g2 if g2[name].dtype.kind in "fiu"}
        return result.gamma_table(), arrays
    finally:
        server.terminate()
        server.wait(20)


def run(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "xpcs_live_denoise", *words], check=True, env=environment()
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.getcwd()}


def save(stem: Path, table: pd.DataFrame, arrays: dict[str, np.ndarray]) -> None:
    volatile = [name for name in table if name in ("seq_num", "time") or name.startswith("ts_")]
    table.drop(columns=volatile).to_csv(stem.with_suffix(".csv"), index=False, float_format="%.17g")
    np.savez(stem.with_suffix(".npz"), **arrays)


def compare(before: Path, after: Path, *, skip_verdicts: bool) -> int:
    """Print the largest difference of each table and array; return how many differ."""
    wrong = 0
    for path in sorted(before.glob("*.npz")):
        old, new = np.load(path), np.load(after / path.name)
        for name in old.files:
            wrong += report(f"{path.stem}: {name}", old[name], new[name])
        columns = pd.read_csv(
            path.with_suffix(".csv"), keep_default_na=False, na_values=["nan", ""]
        )
        others = pd.read_csv(
            (after / path.name).with_suffix(".csv"), keep_default_na=False, na_values=["nan", ""]
        )
        keys = [key for key in ("source", "roi", "age_frame", "width") if key in columns]
        columns, others = (t.sort_values(keys, ignore_index=True) for t in (columns, others))
        denoised = columns["source"].str.contains("denoised")
        for name in columns:
            rows = ~denoised if skip_verdicts and name in VERDICTS else slice(None)
            wrong += report(
                f"{path.stem}: rows, {name}",
                columns.loc[rows, name].to_numpy(),
                others.loc[rows, name].to_numpy() if len(others) == len(columns) else others[name],
            )
    print(f"{wrong} differences" if wrong else "equal")
    return wrong


def report(name: str, old: np.ndarray, new: np.ndarray) -> int:
    old, new = np.asarray(old), np.asarray(new)
    if old.shape != new.shape:
        print(f"{name}: shape {old.shape} -> {new.shape}")
        return 1
    if old.dtype.kind not in "fiu":
        same = old.astype(str) == new.astype(str)
        if not np.all(same):
            first = np.argmin(np.atleast_1d(same))
            print(
                f"{name}: {np.sum(~same)} texts differ, {np.atleast_1d(old)[first]!r} -> "
                f"{np.atleast_1d(new)[first]!r}"
            )
        return int(not np.all(same))
    gap = np.abs(old.astype(float) - new.astype(float)) / np.maximum(1, np.abs(old.astype(float)))
    holes = np.isnan(old.astype(float)) != np.isnan(new.astype(float))
    largest = np.nanmax(gap) if np.isfinite(gap).any() else 0.0
    if holes.any() or largest > TOLERANCE:
        print(f"{name}: largest difference {largest:.2e}, {holes.sum()} more or fewer NaN")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["dump", "compare"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--except-denoised-verdicts", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    if options.what == "dump":
        dump(options.folders[0])
        print(f"{options.folders[0]}: {time.monotonic() - began:.0f} s")
        return 0
    before, after = options.folders
    return min(1, compare(before, after, skip_verdicts=options.except_denoised_verdicts))


if __name__ == "__main__":
    sys.exit(main())
