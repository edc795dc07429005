"""convert_rois: CHX's [roi_mask, qval_dict], and pickles that want something else."""

import collections
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from xpcs_live_denoise import InvalidInputError, load_rois
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.commands.convert_rois import convert

MASK = np.array([[0, 1, 1], [2, 2, 3]])
Q = {0: [0.01], 1: [0.02], 2: [0.03]}


class Runs:
    """A pickle that calls something."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def written(path, content, protocol=pickle.DEFAULT_PROTOCOL):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize(
    ("protocol", "dtype", "name"),
    [
        *((protocol, int, "new.npz") for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
        (0, np.float64, "new.json"),
        (2, np.uint8, "new.json"),
        (5, bool, "new.npz"),
    ],
)
def test_a_roi_set_is_converted_whatever_wrote_it(tmp_path, protocol, dtype, name):
    mask = (MASK > 0 if dtype is bool else MASK).astype(dtype)
    old = written(tmp_path / "old.pkl", [mask, Q], protocol)
    rois, notes = convert(old, tmp_path / name)
    assert notes == ()
    loaded = load_rois(tmp_path / name)
    np.testing.assert_array_equal(loaded.label_array, mask)
    assert rois.q_inv_angstrom.tolist() == [0.01, 0.02, 0.03][: rois.n_roi]
    np.testing.assert_array_equal(loaded.q_inv_angstrom, rois.q_inv_angstrom)


@pytest.mark.parametrize("wrap", [tuple, np.array, lambda pair: [np.float64(v) for v in pair]])
@pytest.mark.parametrize("name", ["new.npz", "new.json"])
def test_an_azimuth_is_kept_with_q(tmp_path, wrap, name):
    q_of = collections.OrderedDict((i, wrap([q[0], 30.0 * i])) for i, q in Q.items())
    old = written(tmp_path / "old.pkl", (MASK, q_of))
    rois, notes = convert(old, tmp_path / name)
    assert notes == ()
    assert rois.q_inv_angstrom.tolist() == [0.01, 0.02, 0.03]
    loaded = load_rois(tmp_path / name)
    assert loaded.phi_deg.tolist() == rois.phi_deg.tolist() == [0.0, 30.0, 60.0]
    assert loaded.with_mask(np.ones(MASK.shape)).phi_deg.tolist() == [0.0, 30.0, 60.0]


@pytest.mark.parametrize(
    ("labels", "keys", "position", "label"),
    [
        ((2, 3, 4), (0, 1, 2), (0, 1, 2), (2, None, None)),
        ((1, 3, 4), (0, 1, 2), (0, 1, 2), (1, None, None)),
        ((1, 2, 3), (1, 2), (None, 1, 2), (1, 2, None)),
        ((2, 3, 4), (2, 3), (None, None, 2), (2, 3, None)),
    ],
)
def test_keys_that_fit_in_two_ways_are_refused_with_both_readings(
    tmp_path, labels, keys, position, label
):
    mask = np.array([[0, *labels]])
    old = written(tmp_path / "old.pkl", [mask, {key: [0.01 + key / 1000] for key in keys}])
    with pytest.raises(InvalidInputError, match="not clear") as refused:
        convert(old, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()

    def q_of(key):
        return np.nan if key is None else 0.01 + key / 1000

    for k, of in enumerate(labels):
        words = ("no q" if key is None else f"q {q_of(key):.5g}" for key in (position[k], label[k]))
        assert f"  {of}         {'  '.join(words)}".split() in [
            line.split() for line in str(refused.value).splitlines()
        ]
    for choice, expected in (("position", position), ("label", label)):
        rois, _ = convert(old, tmp_path / "new.npz", keys=choice)
        np.testing.assert_allclose(rois.q_inv_angstrom, [q_of(key) for key in expected])


def test_keys_that_are_the_labels_are_taken_as_such(tmp_path):
    old = written(tmp_path / "old.pkl", [np.array([[0, 2, 4]]), {4: [0.04], np.int64(2): [0.02]}])
    assert convert(old, tmp_path / "new.npz")[0].q_inv_angstrom.tolist() == [0.02, 0.04]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("new.pkl", r"ending '\.pkl'; expected \.npz or \.json"),
        ("new", "ending ''"),
        ("none/new.npz", "folder does not exist"),
        ("there.npz", "is there already.* --overwrite"),
    ],
)
def test_an_output_that_will_not_do_is_refused_before_the_pickle_is_opened(tmp_path, name, message):
    (tmp_path / "there.npz").write_text("mine")
    arguments = ["convert-rois", "--yes", str(tmp_path / "missing.pkl"), str(tmp_path / name)]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, InvalidInputError)
    assert re.search(message, str(refused.exception))
    assert (tmp_path / "there.npz").read_text() == "mine"


def test_a_label_without_q_is_unknown_and_named(tmp_path):
    old = written(tmp_path / "old.pkl", [MASK, {0: [0.01], 2: 0.03}])
    rois, notes = convert(old, tmp_path / "new.npz")
    np.testing.assert_array_equal(rois.q_inv_angstrom, [0.01, np.nan, 0.03])
    assert notes == ("Labels [2] have no q in qval_dict: unknown in the new file.",)


CALLS = (
    (exec, "open('{trace}', 'w').close()"),
    (eval, "open('{trace}', 'w')"),
    (subprocess.check_call, ["touch", "{trace}"]),
    (getattr, "", "join"),
    (np.load, "{trace}"),
    (np.memmap, "{trace}", "uint8", "w+", 0, (4,)),
    (__import__, "os"),
    (pickle.loads, b"cos\nsystem\n(S'true'\ntR."),
)


@pytest.mark.parametrize(
    ("call", "place", "protocol"),
    [
        *((call, "alone", 5) for call in CALLS),
        *((CALLS[0], place, 2) for place in ("in the mask", "in q")),
        *((CALLS[2], place, 0) for place in ("alone", "in the mask", "in q")),
    ],
)
def test_a_pickle_that_calls_anything_is_refused_before_it_runs(tmp_path, call, place, protocol):
    trace = tmp_path / "trace"

    def filled(value):
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value.replace("{trace}", str(trace)) if isinstance(value, str) else value

    bad = Runs(call[0], *[filled(value) for value in call[1:]])
    content = {"alone": bad, "in the mask": [bad, Q], "in q": [MASK, {0: bad}]}[place]
    old = written(tmp_path / "old.pkl", content, protocol)
    with pytest.raises(InvalidInputError, match=r"refused \(it asks for .* nothing was run\)"):
        convert(old, tmp_path / "new.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["old.pkl"]


def test_objects_hidden_in_an_array_are_refused_too(tmp_path):
    hidden = np.array([[Runs(exec, "raise SystemExit")]], object)
    old = written(tmp_path / "old.pkl", [hidden, Q])
    with pytest.raises(InvalidInputError, match=r"it asks for builtins\.exec"):
        convert(old, tmp_path / "new.npz")


def test_only_latin1_may_be_asked_of_the_codecs(tmp_path):
    old = tmp_path / "old.pkl"
    old.write_bytes(b"c_codecs\nencode\n(Vabc\nVpunycode\ntR.")
    with pytest.raises(InvalidInputError, match="it asks for the encoding 'punycode'"):
        convert(old, tmp_path / "new.npz")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (7, "got a int; expected"),
        ([MASK], "got a list; expected"),
        ([MASK.tolist(), Q], r"got \[list, dict\]"),
        ([MASK, [0.1]], r"got \[ndarray, list\]"),
        ([MASK[0], Q], "expected .rows, cols."),
        ([MASK, {0: ["a"], 1: [0.2], 2: [0.3]}], "could not convert"),
        ([-MASK, {0: [0.1]}], "negative labels"),
        ([MASK.astype(object), Q], "dtype object"),
        ([np.array([["a", 1]], object), Q], "not supported between"),
        ([np.where(MASK, np.inf, 0), Q], "infinity"),
    ],
)
def test_what_is_no_roi_set_is_refused(tmp_path, content, what):
    old = written(tmp_path / "old.pkl", content)
    with pytest.raises(InvalidInputError, match=what):
        convert(old, tmp_path / "new.npz")
    assert not (tmp_path / "new.npz").exists()


@pytest.mark.parametrize("damaged", [b"", b"no pickle at all", b"\x80\x05\x95"])
def test_a_damaged_pickle_is_refused(tmp_path, damaged):
    (tmp_path / "old.pkl").write_bytes(damaged)
    with pytest.raises(InvalidInputError, match=r"old\.pkl: refused"):
        convert(tmp_path / "old.pkl", tmp_path / "new.npz")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"old\.pkl: cannot be read"):
        convert(tmp_path / "old.pkl", tmp_path / "new.npz")


def test_the_command_warns_and_asks(tmp_path):
    old = written(tmp_path / "old.pkl", [MASK, {0: [0.01], 1: [0.02, 5.0]}])
    arguments = ["convert-rois", str(old), str(tmp_path / "new.npz")]
    refused = CliRunner().invoke(app, arguments, input="n\n")
    assert refused.exit_code == 1
    assert "can run code" in refused.output
    assert not (tmp_path / "new.npz").exists()
    for options, answer in ((["--yes"], None), (["--overwrite"], "y\n")):
        done = CliRunner().invoke(app, [*arguments, *options], input=answer)
        assert done.exit_code == 0
        assert "3 ROIs are in" in done.output
        assert load_rois(tmp_path / "new.npz").n_roi == 3


def test_nothing_else_of_the_package_opens_pickles():
    code = (
        "import xpcs_live_denoise as x, sys; x.load_rois; x.LiveDenoise; x.analyse\n"
        "assert 'xpcs_live_denoise.commands.convert_rois' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
