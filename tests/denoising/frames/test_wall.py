"""Denoised frames cannot reach the correlator."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from xpcs_live_denoise import RoiMap, TwoTimeAccumulator, analyse, denoise_frames, simulate_speckle
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.errors import FrameShapeError, XpcsError

SHAPE = (32, 32)
ROIS = RoiMap.from_labels(np.ones(SHAPE, int))


@pytest.fixture(scope="module")
def frames():
    return np.concatenate(list(simulate_speckle(SHAPE, 40, relaxation_rate=0.1, mean_counts=0.5)))


def test_a_file_of_denoised_frames_is_not_analysed_but_its_measured_frames_are(frames, tmp_path):
    np.save(tmp_path / "frames.npy", frames)
    out = tmp_path / "denoised.h5"
    line = [
        "denoise-frames",
        tmp_path / "frames.npy",
        "--out",
        out,
        "--model",
        "small",
        "--no-trust",
    ]
    result = CliRunner().invoke(app, [str(one) for one in line])
    assert result.exit_code == 0, result.output
    with pytest.raises(XpcsError, match="holds denoised images; expected frames as they were"):
        analyse(out, rois=ROIS)
    with pytest.raises(XpcsError, match="holds denoised images"):
        analyse(out, rois=ROIS, dataset="data")
    own = analyse(out, rois=ROIS, dataset="measured")
    np.testing.assert_allclose(own.c2, analyse(frames, rois=ROIS).c2, rtol=1e-5)
    with h5py.File(out) as file:
        assert file["entry/denoised/data"].shape == frames.shape


def test_records_of_denoised_frames_are_no_frames(frames):
    made = denoise_frames(frames[:3], model="small", trust=False)
    assert np.asarray(made).dtype == object, "a record is no array: its field has to be named"
    with pytest.raises(FrameShapeError, match=r"got shape \(3,\), expected \(k, 32, 32\)"):
        TwoTimeAccumulator(ROIS).append(made)
    with pytest.raises(FrameShapeError, match=r"expected \(k, 32, 32\)"):
        analyse(made, rois=ROIS)


def test_what_analyses_frames_never_loads_what_denoises_them():
    code = """
        import sys
        import numpy as np
        from xpcs_live_denoise import RoiMap, Settings, analyse
        frames = np.random.default_rng(0).poisson(1.0, (60, 32, 32))
        rois = RoiMap.from_labels(np.ones((32, 32), int))
        settings = Settings(detector="d", denoise=False)
        assert len(analyse(frames, settings, rois=rois).gamma)
        print([name for name in sys.modules if name.startswith("xpcs_live_denoise.denoising.f")])
    """
    line = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_filter_of_frames_changes_the_contrast():
    """Why there is a wall."""
    frames = np.concatenate(
        list(simulate_speckle((64, 64), 60, relaxation_rate=0.3, mean_counts=0.5, seed=1))
    ).astype(np.float32)
    rois = RoiMap.from_labels(np.ones((64, 64), int))

    def contrast_and_baseline(series):
        accumulator = TwoTimeAccumulator(rois)
        accumulator.append(series)
        c2 = accumulator.c2[0]
        return np.diagonal(c2, 1).mean() - 1, np.diagonal(c2, 40).mean() - 1

    true, base = contrast_and_baseline(frames)
    assert true == pytest.approx(np.exp(-0.6), abs=0.05)
    assert base == pytest.approx(0, abs=0.02)
    smooth, _ = contrast_and_baseline(ndimage.gaussian_filter(frames, (0, 1, 1)))
    assert smooth < 0.4 * true
    _, pulled = contrast_and_baseline(0.5 * frames + 0.5 * frames.mean(axis=0))
    assert pulled > 0.005
