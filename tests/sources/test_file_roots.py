"""FileRoots: which files documents may name."""

from __future__ import annotations

import os

import pytest

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.sources.file_roots import FileRoots


@pytest.fixture
def tree(tmp_path):
    for folder in ("data", "data/sub", "secret"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.h5").write_text("x")
    (tmp_path / "data/out.h5").symlink_to(tmp_path / "secret/a.h5")
    (tmp_path / "data/way").symlink_to(tmp_path / "secret")
    (tmp_path / "data/within.h5").symlink_to(tmp_path / "data/sub/a.h5")
    (tmp_path / "alias").symlink_to(tmp_path / "data")
    os.mkfifo(tmp_path / "data/pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("data/a.h5", "data/a.h5"),
        ("data/sub/../a.h5", "data/a.h5"),
        ("data/within.h5", "data/sub/a.h5"),
        ("alias/sub/a.h5", "data/sub/a.h5"),
    ],
)
def test_a_file_below_a_root_may_be_read_where_it_really_is(tree, name, real):
    assert FileRoots([tree / "nowhere", tree / "data"]).check(tree / name) == tree / real


@pytest.mark.parametrize(
    "name",
    ["secret/a.h5", "data/../secret/a.h5", "data/out.h5", "data/way/a.h5", "data2/a.h5", "data"],
)
def test_a_file_elsewhere_is_refused_with_what_to_do(tree, name):
    with pytest.raises(UnreadableFramesError, match=r"not below a folder .*data/sub.*file_roots"):
        FileRoots([tree / "data/sub"]).check(tree / name)


def test_a_root_may_be_a_symlink_itself(tree):
    assert FileRoots([tree / "alias"]).check(tree / "data/a.h5") == tree / "data/a.h5"


def test_a_root_that_is_not_there_is_told_once(tree, caplog):
    for _ in range(2):
        FileRoots([tree / "data", tree / "typo"])
    (record,) = caplog.records
    assert "typo' is no folder on this machine; nothing will be read" in record.getMessage()


def test_no_root_means_no_file(tree):
    with pytest.raises(UnreadableFramesError, match="there is none"):
        FileRoots([]).check(tree / "data/a.h5")


@pytest.mark.parametrize("name", ["data", "data/pipe", "/dev/zero"])
@pytest.mark.parametrize("anywhere", [True, False])
def test_only_regular_files_are_read(tree, name, anywhere):
    roots = FileRoots(None if anywhere else [tree / "data", "/dev"])
    with pytest.raises(UnreadableFramesError, match="expected a regular file"):
        roots.check(tree / name)


def test_without_roots_every_regular_file_may_be_read(tree):
    assert not FileRoots(None).restricted
    assert FileRoots(None).check(tree / "data/out.h5") == tree / "secret/a.h5"


def test_a_file_that_is_not_there_yet_is_told_apart(tree):
    with pytest.raises(FileNotFoundError):
        FileRoots([tree / "data"]).check(tree / "data/later.h5")
    with pytest.raises(UnreadableFramesError):
        FileRoots([tree / "data"]).check(tree / "secret/later.h5")


@pytest.mark.parametrize("name", ["a\0b", 5, None, ["a"]])
def test_what_is_no_path_is_refused(tree, name):
    with pytest.raises(UnreadableFramesError, match="no path of a file"):
        FileRoots([tree]).check(name)


def test_a_long_name_is_cut_in_the_message(tree):
    with pytest.raises(UnreadableFramesError) as caught:
        FileRoots([tree]).check("/" + "a" * 100_000)
    assert len(str(caught.value)) < 1000
