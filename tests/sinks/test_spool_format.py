"""Records on disk and back, bit for bit, and what is damaged is refused."""

import dataclasses
import errno
import json

import numpy as np
import pytest

from tests.support.identical import assert_identical
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import spool as spool_format

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


def picture(n_frames=3):
    mean = np.arange(12, dtype=np.float32).reshape(3, 4)
    labels = np.zeros((3, 4), np.int64)
    return Picture(mean=mean, labels=labels, binning=2, n_frames=n_frames)


def test_every_record_comes_back_bit_for_bit(tmp_path, synthetic):
    run = synthetic(start={"plan_args": {"num": (1, 2.5)}, "nan": float("nan")})
    run.c2[0, 3] = np.nan
    for record in (
        run.info,
        run.publication(10, 30, picture=picture()),
        dataclasses.replace(run.result(), picture=picture()),
        run.result(denoised=False),
        END,
    ):
        spool_format.write_record(tmp_path / "record.npz", record)
        assert_identical(spool_format.read_record(tmp_path / "record.npz"), record)


def test_a_table_of_before_schema_2_has_no_cautions(tmp_path, synthetic, monkeypatch):
    table = synthetic().gamma(range(3))
    all_fields = dataclasses.fields

    def fields_of_version_1(value):
        return [field for field in all_fields(value) if field.name != "caution"]

    monkeypatch.setattr(spool_format.dataclasses, "fields", fields_of_version_1)
    spool_format.write_record(tmp_path / "old.npz", table)
    monkeypatch.undo()
    again = spool_format.read_record(tmp_path / "old.npz")
    assert_identical(again.replace(caution=table.caution), table)
    assert set(again.caution) == {""}


@pytest.mark.parametrize(
    "value",
    [
        {"$array": "a0", "x": 1},
        {1: "a", ("b", 2): None},
        {"n": np.float64(0.1), "flag": np.bool_(True), "text": np.str_("a")},
        {"nested": [{"deep": (np.array([["x", "yz"]]), float("inf"), 10**30)}]},
        np.zeros((0, 5), np.float32),
    ],
)
def test_exotic_values_of_documents_come_back(tmp_path, value):
    spool_format.write_record(tmp_path / "value.npz", value)
    assert_identical(spool_format.read_record(tmp_path / "value.npz"), value)


def test_what_only_a_pickle_could_hold_becomes_plain_values_or_text(tmp_path):
    value = {"objects": np.array([{"a": 1}, None], dtype=object), "other": {1}, "path": tmp_path}
    spool_format.write_record(tmp_path / "value.npz", value)
    expected = {"objects": [{"a": 1}, None], "other": "{1}", "path": str(tmp_path)}
    assert spool_format.read_record(tmp_path / "value.npz") == expected
    with np.load(tmp_path / "value.npz", allow_pickle=False) as stored:
        assert json.loads(stored["json"].tobytes())["other"] == "{1}"


def test_a_damaged_record_is_refused_with_a_remedy(tmp_path, synthetic):
    path = tmp_path / "record.npz"
    spool_format.write_record(path, synthetic().publication(0, 30))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"Publication", b"Publicatiox")):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"record\.npz: cannot be read .* replay"):
            spool_format.read_record(path)


def test_a_write_that_fails_leaves_the_file_before_it_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "record.npz"
    spool_format.write_record(path, "first")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_format.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool_format.write_record(path, "second")
    assert spool_format.read_record(path) == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["record.npz"]
