"""ROI maps as JSON."""

import json

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap, load_rois, save_rois
from xpcs_live_denoise.sources.roi_files import rois_from_json, rois_to_json


def described(*entries, shape=(20, 30)):
    return json.dumps({"shape": list(shape), "rois": list(entries)})


RING = {"label": 2, "ring": {"center": [9.5, 14.0], "edges": [3, 6]}, "q_inv_angstrom": 0.02}
BOX = {"label": 5, "box": [0, 2, 28, 30]}


@pytest.mark.parametrize("q", [None, [0.01, np.nan, 0.3]])
def test_a_map_saved_as_json_comes_back(tmp_path, q):
    labels = np.random.default_rng(0).integers(0, 4, (9, 13)) * 3
    rois = RoiMap.from_labels(labels, q_inv_angstrom=q)
    save_rois(rois, tmp_path / "rois.json")
    again = load_rois(tmp_path / "rois.json")
    np.testing.assert_array_equal(again.label_array, labels)
    np.testing.assert_array_equal(again.q_inv_angstrom, rois.q_inv_angstrom)


def test_whole_rows_are_one_run():
    content = json.loads(rois_to_json(RoiMap.from_labels([[0, 0, 0], [1, 1, 1], [1, 1, 0]])))
    assert content["rois"][0]["runs"] == [[3, 8]]


def test_rings_and_boxes_can_be_written_by_hand():
    rois = rois_from_json(described(BOX, RING))
    assert rois.labels.tolist() == [2, 5]
    np.testing.assert_array_equal(rois.q_inv_angstrom, [0.02, np.nan])
    expected = RoiMap.rings((20, 30), (9.5, 14.0), [[3, 6]])
    np.testing.assert_array_equal(rois.label_array == 2, expected.label_array == 1)
    assert np.argwhere(rois.label_array == 5).tolist() == [[0, 28], [0, 29], [1, 28], [1, 29]]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        ("{}", "no 'shape'"),
        (described(shape=(0, 3)), r"shape \[0, 3\]"),
        (described(shape=(10**9, 10**9)), "shape"),
        (described(shape=(2.5, 3)), "2.5 is no whole number"),
        (described({"label": 1}), r"a ROI has only \['label'\]"),
        (described(RING, RING), "label 2 is below 1 or there twice"),
        (described(RING, {**RING, "label": 3}), "label 3 overlaps"),
        (described({"label": 1, "box": [0, 99, 0, 3]}), "leaves the frame"),
        (described({"label": 1, "runs": [[5, 601]]}), r"run \[5, 601\) leaves the frame"),
        (described({"label": 1, "runs": [[0, 10**30]]}), "leaves the frame"),
        (described({"label": True, "box": [0, 1, 0, 1]}), "True is no whole number"),
        ("[" * 100_000, "recursion"),
        (described({**RING, "q_inv_angstrom": 10**400}), "too large"),
        (described({**RING, "label": 10**30}), "too large"),
    ],
)
def test_what_describes_no_rois_is_refused_with_the_form_expected(text, what):
    with pytest.raises(InvalidInputError, match=what) as caught:
        rois_from_json(text)
    assert 'expected {"shape": [rows, cols]' in str(caught.value)


def test_a_roi_without_pixels_is_named():
    far = {"label": 9, "ring": {"center": [500, 500], "edges": [1, 2]}}
    with pytest.raises(InvalidInputError, match=r"labels \[9\] hold no pixel of the 20 x 30"):
        rois_from_json(described(far, RING))


def test_no_roi_at_all_is_refused():
    with pytest.raises(InvalidInputError, match="no ROI"):
        rois_from_json(described())


def test_a_json_file_that_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "rois.json"
    with pytest.raises(InvalidInputError, match=r"rois\.json: cannot be read"):
        load_rois(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match=r"ROI file .*rois\.json: 'utf-8'"):
        load_rois(path)
