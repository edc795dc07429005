"""The profile as NSLS-II's CI starts one: IPython, all startup files in order, no display."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROFILE = Path(__file__).parents[2] / "profile_collection"

# What a user types; the answers go to a file, because IPython prints much else.
SESSION = """
import contextlib
import io
import json
from xpcs_live_denoise import results
from xpcs_live_denoise.commands import main

def refused(**arguments):
    try:
        return series(**arguments)
    except ValueError as error:
        return str(error)


uids = series(det="eiger500K", expt=0.01, imnum=80, comment="a test")
live = live_denoise["eiger500K_single"]
published = live.wait(120)
result = results(catalog, uids[0])
gamma = result.gamma_table(source="bayes")
raw = result.raw()
sys.argv = ["", "replay", uids[0], "--config", str(data_folder / "eiger500K_single.yml")]
replayed = io.StringIO()
with contextlib.redirect_stdout(replayed):
    try:
        status = main()
    except SystemExit as end:
        status = end.code
key_file = data_folder / "api_key"
answer = {
    "published": published,
    "faults": live.n_faults,
    "status": {"n": live.status[uids[0]].n_processed, "skipped": live.status[uids[0]].n_skipped},
    "rois": sorted(int(roi) for roi in gamma.roi.unique()),
    "recommended": int(gamma.recommended.sum()),
    "replayed": [status or 0, replayed.getvalue()],
    "key_mode": key_file.stat().st_mode & 0o777,
    "raw_uid": raw.metadata["start"]["uid"],
    "images": raw.metadata["start"]["number of images"],
    "n_frames": result.c2(roi=1, denoised=False).shape[0],
    "asked": [refused(det="eiger9m"), refused(expt="abc"), refused(imnum=0)],
    "names": [name in globals() for name in ("RE", "bec", "eiger4m_single", "count", "series")],
}
open(ANSWER, "w").write(json.dumps(answer))
"""


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_profile_takes_a_series_and_reads_gamma_back(tmp_path):
    shutil.copytree(
        PROFILE,
        tmp_path / "profile",
        ignore=shutil.ignore_patterns("__pycache__", "db", "history*"),
    )
    plot = tmp_path / "plot.png"
    session, answer = tmp_path / "session.py", tmp_path / "answer.json"
    session.write_text(f"ANSWER = {str(answer)!r}\n{SESSION}")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "IPython",
            f"--profile-dir={tmp_path / 'profile'}",
            "--no-banner",
            "--colors=nocolor",
            "-c",
            f"exec(open({str(session)!r}).read())",
        ],
        env={
            **os.environ,
            "XPCS_PROFILE_DATA": str(tmp_path / "data"),
            "XPCS_PLOT": str(plot),
            "MPLBACKEND": "agg",
            "COLUMNS": "200",  # of the table that `replay` prints
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=360,
        check=False,
    )
    output = ran.stdout + ran.stderr
    assert answer.exists(), output[-4000:]
    said = json.loads(answer.read_text())
    assert said["published"]
    assert said["faults"] == 0
    assert said["status"] == {"n": 80, "skipped": 0}
    assert said["rois"] == [1, 2, 3, 4, 5]
    assert said["recommended"] > 60
    assert said["images"] == "80"
    assert said["n_frames"] == 80
    assert said["replayed"][0] == 0, said["replayed"][1]
    assert "max |dC2| over 80 frames" in said["replayed"][1]
    assert said["key_mode"] == 0o600
    assert "'eiger4m', 'eiger1m', 'eiger500K'" in said["asked"][0]
    assert "expt='abc'" in said["asked"][1]
    assert "imnum=0" in said["asked"][2]
    assert all(said["names"])
    assert plot.stat().st_size > 10_000
    assert "Traceback" not in output, output[-4000:]


def test_startup_files_are_few_and_short():
    lines = {
        file.name: len(file.read_text().splitlines())
        for file in sorted((PROFILE / "startup").glob("*.py"))
    }
    assert 3 <= len(lines) <= 8
    assert lines["99-xpcs-live-denoise.py"] < 30
    assert max(lines.values()) < 50
