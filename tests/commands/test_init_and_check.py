"""The first settings of a new user: written by `init`, tested by `check`."""

import re

import event_model
import h5py
import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter
from typer.testing import CliRunner

from tests.support.eiger_series import write_series
from tests.support.tiled_servers import create_containers
from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, save_rois
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.denoising.ensemble import KINDS

SHAPE = (12, 16)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_init_writes_every_setting_and_the_file_loads_with_and_without_its_defaults(tmp_path):
    file = tmp_path / "xpcs.yml"
    assert run("init", "--detector", "eiger500K_single", "--out", file).exit_code == 0
    assert Settings.load(file) == Settings(detector="eiger500K_single")
    text = file.read_text()
    for name in Settings.model_fields:
        assert re.search(rf"^#?{name}:", text, re.MULTILINE), name
    assert "# Distance from sample to detector, m." in re.sub("  +", " ", text)
    shown = re.sub(r"^#(?=(  )?\w+:( |$))", "", text, flags=re.MULTILINE)
    shown = re.sub(r"^follow:.*?\n\n", "", shown, flags=re.MULTILINE | re.DOTALL)
    file.write_text(shown)
    assert Settings.load(file) == Settings(detector="eiger500K_single")


def test_init_replaces_nothing_unasked(tmp_path):
    file = tmp_path / "xpcs.yml"
    file.write_text("mine")
    assert "is there already" in str(run("init", "--out", file).exception)
    assert file.read_text() == "mine"
    assert run("init", "--out", file, "--overwrite").exit_code == 0


@pytest.fixture
def settings_file(tmp_path, tiled_server, monkeypatch):
    """Settings of a small detector whose files and server are there."""
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    save_rois(RoiMap.rings(SHAPE, (5.5, 7.5), [(1, 3), (3, 5)]), tmp_path / "rois.npz")
    file = tmp_path / "xpcs.yml"
    file.write_text(
        f"detector: eiger\nrois: rois.npz\nfile_roots: .\n"
        f"tiled: {{uri: '{tiled_server.uri}', raw_path: raw}}\n"
    )
    return file


def test_check_tells_what_is_there_and_draws_a_frame_with_its_rois(settings_file, tmp_path):
    write_series(tmp_path)
    picture = tmp_path / "check.png"
    done = run("check", settings_file, tmp_path / "gel_3_master.h5", "--out", picture)
    assert done.exit_code == 0, done.output
    for line in (
        r"ok +ROIs: 2 in .*rois\.npz",
        r"note +ROI 1: \d+ pixels after the mask, few",
        r"ok +Tiled: http",
        r"ok +frame: \(12, 16\)",
        r"ok +frame time: 0\.01 s",
        r"note +geometry: unknown: ",
        r"ok +orientation",
        r"ok +picture",
        "No problems",
    ):
        assert re.search(line, done.output), line
    assert picture.read_bytes()[:4] == b"\x89PNG"
    again = run("check", settings_file, tmp_path / "gel_3_master.h5", "--out", picture)
    assert "is there already" in str(again.exception)


def test_check_of_a_stored_run_finds_what_a_live_run_finds(settings_file, tmp_path, tiled_server):
    client = tiled_server.client()
    create_containers(client)
    write = TiledWriter(client["raw"])
    start = event_model.compose_run(metadata={"detectors": ["eiger"]})
    write("start", start.start_doc)
    key = {"source": "test", "dtype": "array", "shape": list(SHAPE)}
    period = {"source": "test", "dtype": "number", "shape": []}
    for name, n in (("dark", 1), ("primary", 8)):
        stream = start.compose_descriptor(
            name=name,
            data_keys={"eiger_image": key},
            configuration={
                "eiger-driver": {
                    "data": {"acquire_period": 0.1},
                    "timestamps": {"acquire_period": 0.0},
                    "data_keys": {"acquire_period": period},
                }
            },
        )
        write("descriptor", stream.descriptor_doc)
        for number in range(n):
            frame, stamp = np.full(SHAPE, n), 1.7e9 + 0.2 * number
            write(
                "event",
                stream.compose_event(
                    data={"eiger_image": frame}, timestamps={"eiger_image": stamp}
                ),
            )
    write("stop", start.compose_stop())
    found = run("check", settings_file, start.start_doc["uid"], "--out", tmp_path / "a.png")
    client.context.close()
    assert re.search(r"ok +frame time: 0\.2 s", found.output), found.output
    assert "The documents tell a frame period of 0.1 s, but the frames came every" in found.output
    assert "left out: 'dark' (1 frame)" in found.output


def test_check_reads_a_file_whose_name_ends_like_a_master_and_has_no_number(
    settings_file, tmp_path
):
    with h5py.File(tmp_path / "gel_master.h5", "w") as file:
        file["frames"] = np.ones((3, 2, *SHAPE), np.uint16)
    settings_file.write_text(settings_file.read_text() + "threshold: 2\nframe_time_s: 0.1\n")
    found = run("check", settings_file, tmp_path / "gel_master.h5", "--out", tmp_path / "a.png")
    assert found.exit_code == 0, found.output
    assert re.search(r"ok +frame: \(12, 16\)", found.output)


def test_check_says_every_problem_and_exits_with_1(settings_file, tmp_path, monkeypatch):
    np.save(tmp_path / "mask.npy", np.ones((16, 12)))
    more = f"file_roots: none\nmask: mask.npy\nweights: '{KINDS['any_size']}'"
    text = settings_file.read_text().replace("file_roots: .", more)
    settings_file.write_text(text)
    monkeypatch.delenv("TILED_API_KEY")
    found = run("check", settings_file)
    assert found.exit_code == 1
    assert re.search(
        r"problem +ROIs: Mask: got shape \(16, 12\), expected \(12, 16\)", found.output
    )
    assert re.search(r"problem +file_roots: .*none is no folder", found.output)
    assert re.search(r"problem +Tiled: ", found.output)
    assert re.search(r"problem +weights: .*for the denoiser 'any_size'; expected", found.output)
    assert "4 problem(s)" in found.output


def test_check_names_the_orientation_in_which_a_frame_fits(settings_file, tmp_path):
    np.save(tmp_path / "frames.npy", np.ones((3, 16, 12), np.uint16))
    found = run("check", settings_file, tmp_path / "frames.npy", "--out", tmp_path / "a.png")
    assert found.exit_code == 1
    assert "It fits with orientation {flip_rows: false, rotate: 90} or" in found.output
    assert not (tmp_path / "a.png").exists()


def test_check_compares_the_mask_with_the_pixels_that_the_detector_marks(settings_file, tmp_path):
    bad = np.zeros(SHAPE, bool)
    bad[:2] = True
    frames = np.ones((3, *SHAPE), np.uint32)
    frames[:, bad] = 2**32 - 1
    np.save(tmp_path / "frames.npy", frames)
    np.save(tmp_path / "mask.npy", ~bad[::-1])
    settings_file.write_text(settings_file.read_text() + "mask: mask.npy\n")
    found = run("check", settings_file, tmp_path / "frames.npy", "--out", tmp_path / "a.png")
    assert "the mask covers 0% of the pixels" in found.output
    assert "100% with orientation {flip_rows: false, rotate: 180} or {flip" in found.output


def test_the_version_is_told():
    assert re.fullmatch(r"xpcs-live-denoise \d+\.\S+\n", run("--version").output)


@pytest.mark.parametrize("command", [["demo"], ["serve", "--tiled", "--config", "none.yml"]])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_starts(command):
    refused = run(*command, "--plot", "x.jpg")
    assert isinstance(refused.exception, InvalidInputError)
    assert "got the ending '.jpg'; expected .png" in str(refused.exception)
    assert "Starting" not in refused.output
