"""analyse: what a user types for files, and what is printed and drawn."""

import re

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from xpcs_live_denoise import RoiMap, save_rois, simulate_speckle
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation.eiger import SeriesFiles

SHAPE = (24, 30)
FRAMES = np.concatenate(
    list(
        simulate_speckle(
            RoiMap.from_labels(np.ones(SHAPE, int)),
            60,
            relaxation_rate=0.05,
            mean_counts=2.0,
            seed=3,
        )
    )
).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of an Eiger, the same frames without anything beside them, and a settings file."""
    folder = tmp_path_factory.mktemp("files")
    files = SeriesFiles(
        series=folder / "gel_12",
        n_frames=60,
        images_per_file=30,
        frame_shape=SHAPE,
        dtype=FRAMES.dtype,
        frame_time_s=0.01,
        geometry=Geometry(
            beam_center=(11.0, 14.0),
            wavelength_angstrom=1.2,
            detector_distance_m=5.0,
            pixel_size_m=75e-6,
        ),
    )
    files.write_master()
    for number in (1, 2):
        files.write_data(number, FRAMES[30 * (number - 1) : 30 * number])
    np.save(folder / "bare.npy", FRAMES)
    save_rois(RoiMap.rings(SHAPE, (11, 14), [(4, 7), (7, 10)]), folder / "rois.npz")
    (folder / "xpcs.yml").write_text("detector: eiger\ndenoise: false\nrois: rois.npz\n")
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def run(*arguments):
    result = CliRunner().invoke(app, ["analyse", *arguments], env={"COLUMNS": "140"})
    if result.exception and not isinstance(result.exception, SystemExit):
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.output


def test_rings_around_the_beam_of_the_master_become_a_table_and_a_figure(folder):
    output = run(
        "gel_12_master.h5", "--config", "xpcs.yml", "--rings", "4-7,8-11", "--plot", "g.png"
    )
    assert "gel_12_master.h5: 60 frames" in output
    assert "Gamma (1/s)" in output
    assert (folder / "g.png").read_bytes().startswith(b"\x89PNG")
    again = run("gel_12_master.h5", "--rings", "4-7", "--plot", "g.png")
    assert "is there already, and is not replaced unasked" in again


def test_q_ranges_and_azimuths_become_sectors_with_q_and_phi():
    rows = run(
        "gel_12_master.h5", "--config", "xpcs.yml",
        "--q", "0.0004-0.0006", "--phi=-45-45,135-225",
    )  # fmt: skip
    assert "phi (°)" in rows
    assert "0.0005" in rows
    assert "180" in rows


def test_the_rois_of_the_settings_and_a_period_that_was_typed_are_used():
    output = run("bare.npy", "--config", "xpcs.yml")
    assert "Gamma (1/frame)" in output
    assert "No file tells the frame period" in output
    timed = run("bare.npy", "--config", "xpcs.yml", "--frame-time", "0.01")
    assert "Gamma (1/s)" in timed


def test_the_result_is_saved_where_out_says(folder):
    output = run("gel_12_master.h5", "--config", "xpcs.yml", "--out", "gel.h5")
    assert "Result:" in output
    assert h5py.is_hdf5(folder / "gel.h5")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bare.npy",), "ROIs: got none; expected --rings 80-90"),
        (("bare.npy", "--rings", "4-7"), "tells no beam center.*Add --center"),
        (("bare.npy", "--rings", "4-7", "--q", "1-2"), "got --rings and --q"),
        (("bare.npy", "--phi", "0-90"), "got --phi; expected --rings"),
        (("bare.npy", "--q", "0.1-0.2", "--center", "3,4"), "geometry lacks wavelength_angstrom"),
        (("bare.npy", "--rings", "4.0.1-7", "--center", "3,4"), "expected ranges such as 80-90"),
        (("gel_12_master.h5", "--q", "9-12"), "what a flat detector sees"),
        (("bare.npy", "--rings", "4-7", "--plot", "g.jpg"), "expected .png"),
    ],
)
def test_what_cannot_be_is_a_sentence_with_what_to_type(arguments, sentence):
    assert re.search(sentence, run(*arguments))
