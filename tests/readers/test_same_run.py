"""Which of several results of a run stands for it, and what each is called."""

import datetime

import numpy as np
import pytest

from xpcs_live_denoise.readers import labels_of, standing


def start(time, by="reprocess", uid="", settings=None, **xpcs):
    return {
        "uid": uid or f"{time:08d}-uid",
        "time": float(time),
        "xpcs": {"analysed_by": by, "settings": settings or {}, **xpcs},
    }


def at(seconds):
    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}"


def test_a_good_result_stands_before_a_live_one_and_that_before_a_failed_one():
    good = {"exit_status": "success"}
    cut_short = {"exit_status": "abort", "analysis_exit_status": "success"}
    failed = {"exit_status": "fail", "analysis_exit_status": "fail"}
    old = {"exit_status": "fail", "analysis_exit_status": None}  # of version 1
    assert [standing(stop) for stop in (good, cut_short, None, failed, old)] == [2, 2, 1, 0, 0]


def test_a_label_names_who_analysed_and_the_settings_that_differ_from_the_oldest():
    plain = {"outliers": "mask", "window": 50, "denoise": True, "mask": None, "seed": 0}
    plain |= {"geometry": {"beam_center": [1, 2]}, "tiled": {"uri": "a"}, "queue_bytes": 1}
    other = plain | {"outliers": "off", "denoise": False, "mask": "/a/b/mask.npy"}
    moved = plain | {"geometry": {"beam_center": [3, 2]}, "tiled": {"uri": "b"}, "queue_bytes": 2}
    many = other | {"seed": 1, "window": 60}
    assert labels_of(
        [
            start(300, settings=other),
            start(200, "replay", settings=moved),
            start(100, "live", settings=plain),
            start(400, settings=many),
        ]
    ) == [
        "reprocess, outliers off, denoise off, mask mask.npy",
        "replay, geometry.beam_center [3, 2]",
        "live",
        "reprocess, outliers off, window 60, denoise off, 2 more settings",
    ]


def test_labels_that_would_be_alike_have_times_and_then_uids():
    assert labels_of([start(1, "live"), start(7), start(5)]) == [
        "live",
        f"reprocess, {at(7)}",
        f"reprocess, {at(5)}",
    ]
    same = [start(7, uid="aaaaaaaaaa"), start(7, uid="bbbbbbbbbb")]
    assert labels_of(same) == [f"reprocess, {at(7)}, {uid}" for uid in ("aaaaaaaa", "bbbbbbbb")]
    assert labels_of([]) == []


def test_files_of_the_same_names_that_hold_something_else_are_said():
    first, second = start(1, settings_hash="a"), start(2, settings_hash="b")
    assert labels_of([first, second]) == ["reprocess", "reprocess, other files"]


@pytest.mark.parametrize("broken", [{}, {"xpcs": None}, {"time": "now", "xpcs": {"settings": 5}}])
def test_whatever_a_start_document_holds_it_has_a_label(broken):
    assert len(set(labels_of([broken, start(1), {"uid": np.str_("x")}]))) == 3
