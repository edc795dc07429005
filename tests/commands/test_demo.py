"""The demo, where it cannot even begin; tests/system runs the whole of it."""

import pytest
from rich.console import Console

from xpcs_live_denoise import InvalidInputError
from xpcs_live_denoise.commands.demo import DemoOptions, run_demo


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/none"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_starts(tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    console = Console(record=True, quiet=True)
    with pytest.raises(InvalidInputError, match=r"cannot be made, .*expected a folder .*--out"):
        run_demo(DemoOptions(frames=60, out=tmp_path / name), console)
    assert console.export_text() == ""
