"""What the name of a run can mean."""

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.readers import RawRun, choose, in_words, readings, uid_beginning

UID = "ff4a9785-1111-4222-8333-444444444444"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (UID, (UID,)),
        ("ff4a9785", ("ff4a9785",)),
        (" 'ff4a9785' ", ("ff4a9785",)),
        ("processed/ff4a9785", ("ff4a9785",)),
        ("ff4a9785…", ("ff4a9785",)),
        (77, (77,)),
        (np.int64(77), (77,)),
        (0, (0,)),
        (-1, (-1,)),
        ("-1", (-1,)),
        ("77", ("77", 77)),
        ("1234567", ("1234567", 1234567)),
        ("Scan 77", (77,)),
    ],
)
def test_a_text_is_a_uid_and_a_number_a_scan_id(name, meant):
    assert readings(name) == meant


def test_on_a_command_line_digits_are_a_scan_id_first():
    assert readings("1234567", scan_id_first=True) == (1234567, "1234567")
    assert readings("ff4a9785", scan_id_first=True) == ("ff4a9785",)


@pytest.mark.parametrize("name", ["", " ", "/", None, True, 7.5, [UID], b"ff4a9785"])
def test_what_names_no_run_is_refused_with_what_does(name):
    with pytest.raises(InvalidInputError, match=r"names no run\. Expected the uid of a run.* -1"):
        readings(name)


def test_six_letters_of_a_uid_are_enough_in_either_case_and_nothing_else_is_a_pattern():
    assert uid_beginning("FF4A97") == "ff4a97"
    assert uid_beginning(UID[:14]) == "ff4a9785-1111-"
    for text in ("ff4a9", "%%%%%%", "ff4a_785", "nowhere", "ff4a97%"):
        assert uid_beginning(text) == ""


def test_a_message_says_what_was_looked_for():
    assert in_words(77) == "scan_id 77"
    assert in_words(-1) == "the newest run"
    assert in_words("FF4A9785") == "a uid that begins with ff4a9785"
    few = "(6 or more letters of a uid are needed)"
    assert in_words("ff4a") == f"the uid ff4a {few} or scan_id ff4a"
    assert in_words("404") == f"the uid 404 {few}"


def test_of_runs_with_one_scan_id_the_newest_is_chosen_and_the_others_are_named():
    old, new = RawRun(uid="a1", scan_id="7", time=1e9), RawRun(uid="b2", scan_id="7", time=2e9)
    run, note = choose([old, new, old], 7, "/raw")
    assert run is new
    assert "2 runs have this scan_id: b2 (scan 7, 2033-" in note
    assert "a1 (scan 7, 2001-" in note
    assert choose([old, old], 7, "/raw") == (old, "")


def test_letters_of_several_runs_are_an_error_that_lists_them():
    runs = [RawRun(uid=f"ff4a97{index:02d}", scan_id=str(index)) for index in range(10)]
    with pytest.raises(ResultNotFoundError) as caught:
        choose(runs, "ff4a97", "/raw")
    text = str(caught.value)
    assert "the uids of 10 runs in /raw begin so: ff4a9700 (scan 0), ff4a9701 (scan 1)," in text
    assert text.endswith("ff4a9707 (scan 7), .... Give more letters.")
