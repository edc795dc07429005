"""denoise-frames, train-frames, evaluate-frames: what a user types for images of few counts."""

import json

import bluesky.plans as bp
import h5py
import numpy as np
import pytest
import tifffile
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from typer.testing import CliRunner

from xpcs_live_denoise.commands import frame_input
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.mean_image import MeanImage
from xpcs_live_denoise.simulation import SimulatedCamera, recorded

SHAPE = (48, 60)
ROWS, COLS = np.indices(SHAPE)
RATE = 0.2 + np.exp(-((np.hypot(ROWS - 20, COLS - 30) - 12) ** 2) / 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve pairs in both layouts, and those of few counts as an array."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    low = rng.poisson(RATE, (12, *SHAPE)).astype(np.uint16)
    high = rng.poisson(20 * RATE, (12, *SHAPE)).astype(np.uint16)
    low[:, 5] = high[:, 5] = 2**16 - 1
    for name, images in (("LC", low), ("HC", high)):
        (folder / "pairs" / name).mkdir(parents=True)
        for k, image in enumerate(images):
            tifffile.imwrite(folder / "pairs" / name / f"image_{k:03d}.tif", image)
    with h5py.File(folder / "pairs.h5", "w") as file:
        file["low_count/data"], file["high_count/data"] = low, high
    np.save(folder / "frames.npy", low)
    np.save(folder / "one.npy", low[0])
    return folder


def run(*args):
    return CliRunner().invoke(app, [str(one) for one in args])


@pytest.mark.parametrize("name", ["pairs", "pairs.h5", "frames.npy"])
def test_every_kind_of_file_gives_the_same_images(data, tmp_path, name):
    out = tmp_path / "out.h5"
    result = run("denoise-frames", data / name, "--out", out, "--model", "small", "--sum", 4,
                 "--center", "20,30")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "3 images; 180 pixels kept as measured" in result.output
    assert "photons that took no part" in result.output
    frames = np.load(data / "frames.npy")
    with h5py.File(out) as file:
        entry = file["entry/denoised"]
        made, kept = entry["data"][()], entry["kept"][()] == 1
        np.testing.assert_array_equal(
            entry["measured"][0][~kept[0]], frames[:4].sum(axis=0)[~kept[0]]
        )
        assert kept[:, 5].all()
        assert not np.delete(kept, 5, axis=1).any()
        truth = np.broadcast_to(4 * RATE, made.shape)[~kept]
        assert np.abs(made[~kept] / truth - 1).mean() < 0.2
        assert file["entry/rings/denoised"].shape[0] == 3
        assert (entry["error"][()] > 0).all()


def test_a_sum_of_a_whole_series_is_made_as_blocks_come(tmp_path, monkeypatch):
    frames = np.random.default_rng(1).poisson(0.05, (600, *SHAPE)).astype(np.uint16)
    frames[:, 7, 8] = 2**16 - 1
    np.save(tmp_path / "long.npy", frames)
    monkeypatch.setattr(frame_input, "_BLOCK_BYTES", frames[:50].nbytes)
    stacked = []  # what anybody holds of the series at once
    add = MeanImage.add
    monkeypatch.setattr(
        MeanImage, "add", lambda self, block: (stacked.append(len(block)), add(self, block))[1]
    )
    out = tmp_path / "sum.h5"
    result = run("denoise-frames", tmp_path / "long.npy", "--out", out, "--model", "small",
                 "--sum", 0, "--no-trust")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert max(stacked) == 50
    with h5py.File(out) as file:
        (measured,), (kept,) = (file["entry/denoised"][name][()] for name in ("measured", "kept"))
    assert np.flatnonzero(kept).tolist() == [7 * SHAPE[1] + 8]
    expected = frames.sum(axis=0, dtype=float)
    np.testing.assert_array_equal(measured[kept == 0], expected[kept == 0])


@pytest.mark.parametrize("center", ["1050", "1,2,3", "nan,3", "a,b"])
def test_a_center_that_is_none_is_refused_by_every_command_alike(data, tmp_path, center):
    for command, *more in (
        ("denoise-frames", "--out", tmp_path / "o.h5"),
        ("train-frames", "--out", tmp_path / "own"),
        ("analyse", "--rings", "2-8"),
    ):
        result = run(command, data / "frames.npy", "--center", center, *more)
        assert f"--center: got {center!r}; expected ROW,COL" in str(result.exception)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["train-frames", "--simulated", "--center", "1,2"], "got --center beside --simulated"),
        (["evaluate-frames", "frames.npy", "--images", 3], "got --images beside data"),
        (["evaluate-frames", "--center", "1,2"], "got --center without data"),
        (["train-frames", "frames.npy", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["train-frames", "frames.npy", "--device", "meta"], "device 'meta' cannot be used"),
    ],
)
def test_options_that_mean_nothing_and_devices_that_are_not_there_are_refused(
    data, tmp_path, line, words, monkeypatch
):
    monkeypatch.chdir(data)
    out = ["--out", tmp_path / "own"] if line[0] == "train-frames" else []
    result = run(*line, *out)
    assert isinstance(result.exception, InvalidInputError)
    assert words in str(result.exception)


def test_one_image_is_enough_and_a_figure_is_drawn(data, tmp_path):
    plot = tmp_path / "out.png"
    result = run("denoise-frames", data / "one.npy", "--out", tmp_path / "one.h5", "--plot", plot,
                 "--model", "small")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = run("denoise-frames", data / "one.npy", "--out", tmp_path / "one.h5")
    assert "is there already" in str(again.exception)


def test_nothing_is_left_behind_where_images_cannot_be_used(data, tmp_path):
    np.save(tmp_path / "row.npy", np.ones((3, 1, 400), np.uint16))
    result = run("denoise-frames", tmp_path / "row.npy", "--out", tmp_path / "out.h5")
    assert "expected at least 16 x 16 pixels" in str(result.exception)
    (tmp_path / "empty" / "LC").mkdir(parents=True)
    result = run("denoise-frames", tmp_path / "empty", "--out", tmp_path / "out.h5")
    assert "holds 0 files" in str(result.exception)
    assert not list(tmp_path.glob("*out.h5*"))


@pytest.mark.parametrize(
    ("name", "loss"), [("pairs", "poisson"), ("pairs.h5", "published"), ("frames.npy", "poisson")]
)
def test_a_model_trained_on_own_data_is_used_by_name(data, tmp_path, name, loss):
    result = run("train-frames", data / name, "--out", tmp_path / "own", "--minutes", 0.01,
                 "--loss", loss)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "at first" in result.output
    result = run("denoise-frames", data / "one.npy", "--out", tmp_path / "o.h5", "--model",
                 tmp_path / "own", "--no-trust")  # fmt: skip
    assert result.exit_code == 0, result.output
    if name != "pairs":
        return
    result = run("evaluate-frames", data / name, "--model", tmp_path / "own", "--json",
                 tmp_path / "t.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "| Gamma-Poisson |" in result.output
    assert (tmp_path / "t.json").exists()


@pytest.fixture
def run_in_tiled(data, tiled_server, tmp_path, monkeypatch):
    """The uid of a raw run of the frames, and settings that find it."""
    frames = np.repeat(np.load(data / "frames.npy"), 3, axis=0)
    client = tiled_server.client()
    engine = RunEngine({}, context_managers=[])
    engine.subscribe(TiledWriter(client["raw"], batch_size=20))
    (uid,) = engine(bp.count([SimulatedCamera(recorded(frames), name="camera")], num=len(frames)))
    client.context.close()
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    (tmp_path / "xpcs.yml").write_text(
        f"detector: camera\ntiled: {{uri: '{tiled_server.uri}', raw_path: raw}}\n"
    )
    return uid, tmp_path / "xpcs.yml"


def test_frames_of_a_run_in_tiled_learn_from_each_other(run_in_tiled, tmp_path):
    uid, config = run_in_tiled
    out = tmp_path / "own"
    result = run("train-frames", uid[:12], "--config", config, "--out", out, "--minutes", 0.01)
    assert result.exit_code == 0, result.output
    about = json.loads((out / "model_card.json").read_text())["trained_on"]
    assert about == {"runs": [uid[:12]], "frames": 36, "groups": 36}
    for words, message in (
        ([uid, uid], "got 2 runs; expected one"),
        (["0" * 8], "not in /raw"),
    ):
        result = run("train-frames", *words, "--config", config, "--out", out)
        assert message in str(result.exception)


def test_a_run_without_frames_of_the_detector_is_refused(run_in_tiled, tmp_path):
    uid, config = run_in_tiled
    config.write_text(config.read_text().replace("camera", "other"))
    result = run("train-frames", uid, "--config", config, "--out", tmp_path / "own")
    assert "no array primary/other_image in Tiled" in str(result.exception)


def test_pairs_that_do_not_belong_together_are_refused(data, tmp_path):
    with h5py.File(tmp_path / "shapes.h5", "w") as file:
        file["low_count/data"] = np.ones((4, 20, 20), np.uint16)
        file["high_count/data"] = np.ones((4, 20, 24), np.uint16)
    with h5py.File(tmp_path / "numbers.h5", "w") as file:
        file["low_count/data"] = np.ones((4, 20, 20), np.uint16)
        file["high_count/data"] = np.ones((5, 20, 20), np.uint16)
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file["low_count/data"] = np.ones((4, 20, 20), np.uint16)
    for name, words in (
        ("shapes.h5", "cut them alike"),
        ("numbers.h5", "expected as many of each"),
        ("half.h5", "only one of few and many counts is there"),
    ):
        result = run("train-frames", tmp_path / name, "--out", tmp_path / "own")
        assert words in str(result.exception)
    assert "neither data nor" in str(run("train-frames", "--out", tmp_path / "own").exception)
    result = run("train-frames", data / "pairs", data / "frames.npy", "--out", tmp_path / "own")
    assert "expected pairs alone" in str(result.exception)
