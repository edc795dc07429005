"""Keys from files."""

import os

import pytest

from xpcs_live_denoise.catalog.connection import MOST_KEY_BYTES, key_in_file
from xpcs_live_denoise.errors import InvalidInputError

KEY = "only visitors know this"


def written(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_the_key_is_the_one_line_of_the_file(tmp_path, end):
    assert key_in_file(written(tmp_path / "key", f"{KEY}{end}".encode()), "--key-file") == KEY


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_use_is_refused(tmp_path, mode):
    file = written(tmp_path / "key", KEY.encode(), mode)
    with pytest.raises(InvalidInputError, match=rf"\(--key-file\).*mode {mode:o}.*chmod 600"):
        key_in_file(file, "--key-file")


@pytest.mark.parametrize(
    "data",
    [b"", b" \n", KEY.encode() + b"\nmore", b"\xff\xfe secret", b"x" * (MOST_KEY_BYTES + 1)],
)
def test_what_is_not_one_line_is_refused_without_being_told(tmp_path, data):
    with pytest.raises(InvalidInputError, match=f"got {len(data)} bytes") as error:
        key_in_file(written(tmp_path / "key", data), "--key-file")
    assert "visitors" not in str(error.value)
    assert "secret" not in str(error.value)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read \\(No such file"):
        key_in_file(tmp_path / "none", "--key-file")
    with pytest.raises(InvalidInputError, match="Is a directory"):
        key_in_file(tmp_path, "--key-file")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InvalidInputError, match="no regular file"):
        key_in_file(tmp_path / "pipe", "--key-file")
