"""Masks and flat fields that lie in Tiled, as a beamline's registry has them."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings
from xpcs_live_denoise.config import settings_hash
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.sources import open_flat_field, open_mask, open_rois

LABELS = np.ones((6, 8), int)
KEEP = np.ones((6, 8), bool)
KEEP[2, 3:5] = False


@pytest.fixture(scope="module")
def masks(tiled_server):
    client = tiled_server.client()
    folder = client.create_container("sandbox")
    folder.write_array(KEEP, key="eiger_mask", metadata={"spec": "mask", "version": 1})
    folder.write_array(np.where(KEEP, 2.0, np.nan), key="flat")
    folder.write_array(~KEEP, key="inverted")
    folder.write_array(np.arange(48).reshape(6, 8), key="numbers")
    client.context.close()


@pytest.fixture
def settings(tiled_server, masks, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)

    def settings(**fields):
        return Settings(detector="d", tiled={"uri": tiled_server.uri}, **fields)

    return settings


@pytest.mark.parametrize("name", ["tiled:sandbox/eiger_mask", "tiled:/sandbox/eiger_mask"])
def test_a_mask_in_tiled_leaves_out_the_pixels_that_are_false(settings, name):
    rois = open_rois(settings(mask=name), RoiMap.from_labels(LABELS))
    np.testing.assert_array_equal(rois.label_array > 0, KEEP)


def test_a_mask_in_tiled_is_turned_as_one_in_a_file(settings):
    given = settings(mask="tiled:sandbox/eiger_mask", orientation={"flip_rows": True})
    rois = open_rois(given, RoiMap.from_labels(LABELS))
    np.testing.assert_array_equal(rois.label_array > 0, KEEP[::-1])


def test_i_of_q_leaves_out_what_a_mask_in_tiled_does(settings):
    keep = open_mask(settings(mask="tiled:sandbox/eiger_mask"), LABELS.shape)
    np.testing.assert_array_equal(keep, KEEP)


def test_a_flat_field_may_lie_in_tiled_too(settings):
    given = settings(flat_field="tiled:sandbox/flat")
    rois, flat, _ = open_flat_field(given, RoiMap.from_labels(LABELS))
    assert rois.n_pixels.tolist() == [46]
    assert set(flat[KEEP]) == {2.0}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sandbox/nowhere", r"is not on http.*expected the path of an array from the root"),
        ("sandbox", r"is a container of .*eiger_mask.*Name the array in it"),
        ("sandbox/inverted", r"It looks inverted"),
        ("sandbox/numbers", r"with values other than 0 and 1"),
    ],
)
def test_what_is_no_mask_in_tiled_is_refused_with_its_name(settings, name, words):
    with pytest.raises(InvalidInputError, match=rf"Mask file tiled:{name}: .*{words}"):
        open_rois(settings(mask=f"tiled:{name}"), RoiMap.from_labels(LABELS))


def test_a_server_that_is_away_is_said(settings, monkeypatch):
    given = settings(mask="tiled:sandbox/eiger_mask")
    given = given.model_copy(
        update={"tiled": given.tiled.model_copy(update={"uri": "http://127.0.0.1:9"})}
    )
    with pytest.raises(InvalidInputError, match=r"Mask file tiled:.*cannot be read .*no answer"):
        open_rois(given, RoiMap.from_labels(LABELS))


def test_a_settings_file_keeps_the_name_of_a_node_and_another_one_gives_another_hash(tmp_path):
    (tmp_path / "xpcs.yml").write_text("{detector: d, mask: tiled:sandbox/a, flat_field: f.npy}")
    given = Settings.load(tmp_path / "xpcs.yml")
    assert str(given.mask) == "tiled:sandbox/a"
    assert given.flat_field == tmp_path / "f.npy"
    other = given.model_copy(update={"mask": type(given.mask)("tiled:sandbox/b")})
    assert settings_hash(given) != settings_hash(other)
