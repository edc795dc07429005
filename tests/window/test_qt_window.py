"""The live plot in a real Qt window, on a virtual screen, with a RunEngine beside it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.xvfb import virtual_screen

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# matplotlib 3.11 asks PySide 6.12 for an attribute that has no effect any more.
WARNINGS = ["-W", "error", "-W", "ignore:Enum value 'Qt:DeprecationWarning"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the session in the window found, see window_session.py."""
    if importlib.util.find_spec("PySide6") is None:
        pytest.skip("Qt is missing: pip install 'xpcs-live-denoise[qt]'")
    folder = tmp_path_factory.mktemp("window")
    command = [sys.executable, *WARNINGS, "-m", "tests.support.window_session", str(folder)]
    with virtual_screen() as environment:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found | {"stderr": done.stderr, "screenshot": folder / "window.png"}


def test_the_window_is_drawn_again_and_again_while_a_plan_runs(found):
    assert found["closing"]["draws_in_next_run"] >= 3
    assert set(found["drawn_on_main_thread"]) == {True}


def test_the_window_shows_the_result_of_the_run(found):
    first = found["first"]
    assert first["c2_is_right"]
    assert first["points"] == first["rows"] > 0
    for fact in ("Scan 77", "silica", "frames 120 of 120", "finished", "(2 of 3)"):
        assert fact in first["words"]


def test_the_window_is_on_the_screen_in_its_colours(found):
    from matplotlib.image import imread

    pixels = imread(found["screenshot"])[..., :3]
    assert list(pixels.shape[1::-1]) == found["first"]["size"]
    assert pixels.shape[1] >= 1400
    # The chosen ROI and the recommended points are vermilion; the rest of C2's colours is viridis.
    vermilion = (abs(pixels - (0xD5 / 255, 0x5E / 255, 0)) < 0.02).all(axis=-1)
    viridis = (abs(pixels - (0.127568, 0.566949, 0.550556)) < 0.06).all(axis=-1)
    assert vermilion.sum() > 100
    assert viridis.sum() > 1000


def test_the_window_takes_no_focus(found):
    assert found["first"]["shown_without_activating"]
    assert found["first"]["raise_window"], "matplotlib's setting was not given back"


def test_the_roi_that_a_user_chose_survives_the_next_run(found):
    choice = found["choice"]
    assert choice["chosen"] == 3
    assert "ROI 3" in choice["after_key"]
    assert choice["in_next_run"] == choice["after_key"]
    assert choice["c2_is_right"]


def test_the_next_run_begins_with_axes_of_its_own(found):
    raw, denoised, gamma = found["choice"]["axes"]
    assert raw == denoised == [0, 3.0]
    assert gamma[0] < 0
    assert gamma[1] > 3.0


def test_a_window_that_was_resized_and_zoomed_keeps_both_in_the_next_updates(found):
    hands_on = found["hands_on"]
    before, after = hands_on["sizes"]
    assert before != after
    assert hands_on["zoom"] == [0.5, 1.5]
    assert hands_on["after_home"][1] > 3.0, "home shows all that there is now"
    assert all(hands_on["inside"]), "a line is wider than the window"
    assert "(2 of 3)" in hands_on["roi"]


def test_the_file_that_the_toolbar_saves_holds_everything(found):
    from matplotlib.image import imread

    pixels = imread(found["screenshot"].with_name("saved.png"))[..., :3]
    vermilion = (abs(pixels - (0xD5 / 255, 0x5E / 255, 0)) < 0.02).all(axis=-1)
    viridis = (abs(pixels - (0.127568, 0.566949, 0.550556)) < 0.06).all(axis=-1)
    assert vermilion.sum() > 100
    assert viridis.sum() > 1000
    title = pixels[: len(pixels) // 20, : pixels.shape[1] // 3]
    assert (title < 0.5).any()


def test_closing_the_window_harms_nothing_and_the_next_run_opens_it_again(found):
    closing = found["closing"]
    assert 0 < closing["closed_at"] < 120
    assert not closing["open_after"]
    assert (closing["status"], closing["n_frames"]) == ("success", 120)
    assert closing["open_in_next_run"]
    assert not closing["failed"]
    assert closing["picture_of_inline_frames"] >= 1
    assert found["n_faults"] == 0


def test_drawing_happens_on_the_main_thread_alone(found):
    assert found["drawn_on_main_thread"]
    assert all(found["drawn_on_main_thread"])
    assert "Traceback" not in found["stderr"]


def test_pyplot_and_the_best_effort_callback_know_nothing_of_our_arrays(found):
    assert found["figures_of_pyplot"] == []
    assert "cam_image" not in found["best_effort_output"]
    assert "Persistent Unique Scan ID" in found["best_effort_output"], "it has not listened"
