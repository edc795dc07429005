"""What `import xpcs_live_denoise` offers, and how little it loads."""

import subprocess
import sys

import pytest

import xpcs_live_denoise


def modules_after(code: str) -> set[str]:
    """Return the modules that are loaded after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    return set(run.stdout.split())


@pytest.mark.parametrize("name", sorted(xpcs_live_denoise.__all__))
def test_every_public_name_can_be_had_and_is_listed(name):
    assert getattr(xpcs_live_denoise, name) is not None
    assert name in dir(xpcs_live_denoise)


def test_the_names_that_others_rely_on_are_there():
    contract = {
        "LiveDenoise", "LivePlot", "RoiMap", "Settings", "TwoTimeAccumulator", "XPCSResult",
        "analyse", "denoise_two_time", "document_publisher", "fit_ages", "fit_g2", "fit_power_law",
        "load_ensemble", "load_rois", "results", "runs", "save_rois", "simulate_speckle",
    }  # fmt: skip
    assert contract <= set(xpcs_live_denoise.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LiveDenoize"):
        _ = xpcs_live_denoise.LiveDenoize


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"numpy", "torch", "matplotlib", "tiled", "bluesky", "pandas", "scipy"}
    assert not heavy & modules_after("import xpcs_live_denoise")


def test_constructing_the_callback_loads_no_torch_matplotlib_or_tiled():
    loaded = modules_after(
        "from xpcs_live_denoise import LiveDenoise, Settings\n"
        "LiveDenoise(Settings(detector='eiger4m_single'))"
    )
    assert not {"torch", "matplotlib", "tiled.client", "tiled"} & loaded


def test_training_and_evaluation_are_loaded_by_their_commands_alone():
    loaded = modules_after(
        "import xpcs_live_denoise.commands.cli, xpcs_live_denoise.offline\n"
        "import xpcs_live_denoise.live.callback\n"
        "from xpcs_live_denoise import load_ensemble\n"
    )
    assert "xpcs_live_denoise.denoising.ensemble" in loaded
    assert (
        not {
            "xpcs_live_denoise.denoising.training.train",
            "xpcs_live_denoise.denoising.evaluation.evaluate",
        }
        & loaded
    )
