"""denoise-frames, train-frames, evaluate-frames: what a user types for images of few counts."""

import h5py
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from xpcs_live_denoise.commands.cli import app

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
