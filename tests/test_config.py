"""Settings: defaults, files, and errors that say what to do."""

from pathlib import Path

import pytest

from xpcs_live_denoise import InvalidInputError, Settings
from xpcs_live_denoise.numerics.windows import STEP, WINDOW


def test_only_the_detector_is_required_and_the_defaults_are_the_papers():
    settings = Settings(detector="eiger4m_single")
    assert settings.data_key == "eiger4m_single_image"
    assert (settings.window, settings.step, settings.mode) == (WINDOW, STEP, "nonequilibrium")
    assert settings.tiled.path == "processed"
    assert settings.publish_period_s == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "'detector' is missing"),
        ({"detector": "d", "widnow": 50}, r"'widnow' is unknown; did you mean 'window'\?$"),
        ({"detector": "d", "raw_path": "raw"}, "did you mean 'tiled.raw_path'"),
        ({"detector": "d", "tiled": {"rois": "a.npz"}}, "'tiled.rois' .*did you mean 'rois'"),
        ({"detector": "d", "frame_time_s": -1}, "'frame_time_s': got -1; .*greater than 0"),
        ({"detector": "d", "mode": "ageing"}, "'mode': got 'ageing'; .*nonequilibrium"),
        ({"detector": "d", "engine": "gpu"}, "'engine': got 'gpu'; .*dense"),
        (
            {"detector": "d", "window": 20, "step": 30},
            "^Setting 'step': got 30; expected at most 20",
        ),
        ({"detector": "d", "window": 3}, "^Setting 'step': got 5; expected at most 3"),
        (
            {"detector": "d", "tiled": {"api_key": "secret"}},
            "'tiled.api_key' is unknown; .*api_key_env",
        ),
        ({"detector": "d", "tiled": "http://u:pw@h"}, "'tiled': .*dictionary"),
        ({"detector": "d", "tiled": {"uri": "localhost:8000"}}, "expected http://host:port"),
        ({"detector": "d", "tiled": {"uri": "u:pw@h:8000"}}, "expected http://host:port"),
        ({"detector": "d", "tiled": {"uri": "http://"}}, "expected http://host:port"),
        ({"detector": "d", "tiled": {"path": "/"}}, "'tiled.path': got '/'; expected the name"),
        (
            {"detector": "d", "tiled": {"path": "chx/raw", "raw_path": "/chx/raw/"}},
            "'tiled.raw_path': got '/chx/raw/'; expected another container than tiled.path",
        ),
        (
            {"detector": "d", "baseline_lags": [300, 200]},
            "'baseline_lags': got .300, 200.; .*first",
        ),
        ({"detector": "d", "contrast_frames": [5, 5]}, "'contrast_frames': got .*larger one after"),
        ({"detector": "d", "outliers": True}, "'outliers': got True; .*'off'"),
        ({"detector": "d", "tiled": {"uri": "http://u:pw@h"}}, "'tiled.uri': .*key or a password"),
        ({"detector": "d", "tiled": {"uri": "http://h/?api_key=pw"}}, "'tiled.uri': .*password"),
        ({"detector": "d", "tiled": {"uri": "http://[h/?api_key=pw"}}, "'tiled.uri': .*Invalid"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(fields, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        Settings(**fields)
    assert "pw" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_names_are_listed_once_and_only_where_none_is_near():
    with pytest.raises(InvalidInputError, match="Unknown: colour, flavour; expected") as caught:
        Settings(detector="d", colour="red", flavour="sweet")
    assert str(caught.value).count("baseline_lags") == 1


def test_where_a_list_is_expected_one_thing_does(tmp_path):
    settings = Settings(detector="d", file_roots="/tmp", tiled={"access_tags": "chx_beamline"})
    assert settings.file_roots == (Path("/tmp"),)
    assert settings.tiled.access_tags == ("chx_beamline",)
    file = tmp_path / "xpcs.yml"
    file.write_text("detector: d\nfile_roots: frames\ntiled: {api_key_file: key}\n")
    settings = Settings.load(file)
    assert settings.file_roots == (tmp_path / "frames",)
    assert settings.tiled.api_key_file == tmp_path / "key"


def test_an_error_about_settings_is_a_value_error():
    with pytest.raises(ValueError, match="detector"):
        Settings()


def test_settings_come_from_yaml_with_paths_relative_to_the_file(tmp_path):
    file = tmp_path / "xpcs.yml"
    file.write_text(
        "detector: eiger500K_single\n"
        "rois: rois/saxs.npz\n"
        "mask: /masks/500K.npy\n"
        "file_roots: [frames, /nsls2/data]\n"
        "baseline_lags: [200, 250]\n"
        "geometry: {beam_center: [10.5, 20]}\n"
        "tiled: {uri: 'http://127.0.0.1:8020', access_tags: [chx_beamline]}\n"
    )
    settings = Settings.load(file)
    assert settings.rois == tmp_path / "rois/saxs.npz"
    assert str(settings.mask) == "/masks/500K.npy"
    assert settings.file_roots == (tmp_path / "frames", Path("/nsls2/data"))
    assert settings.baseline_lags == (200, 250)
    assert settings.geometry.beam_center == (10.5, 20.0)
    assert settings.tiled.access_tags == ("chx_beamline",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("detector: [", "not valid YAML"),
        ("- detector", "got list, expected a mapping"),
        ("", "got NoneType, expected a mapping"),
    ],
)
def test_a_settings_file_that_cannot_be_used_says_why(tmp_path, content, message):
    file = tmp_path / "xpcs.yml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        Settings.load(file)


def test_every_setting_is_documented():
    undocumented = [name for name, field in Settings.model_fields.items() if not field.description]
    assert not undocumented


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("wavelength_angstrom", 1.28e-10, "Angstrom, 0.05 to 100. It looks like m: write 1.28"),
        ("wavelength_angstrom", 9650, "Angstrom"),
        ("detector_distance_m", 16000, "in m, 0.01 to 100. It looks like mm: write 16"),
        ("pixel_size_m", 75, "It looks like um: write 7.5e-05"),
        ("pixel_size_m", 0.075, "It looks like mm: write 7.5e-05"),
        ("beam_center", [1e9, 2], "pixels"),
        ("beam_center", [float("nan"), 2], "pixels"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused_with_the_unit(name, value, meant):
    with pytest.raises(InvalidInputError, match=f"'geometry.{name}.*{meant}"):
        Settings(detector="d", geometry={name: value})


def test_a_geometry_that_can_be_is_taken():
    usual = {"wavelength_angstrom": 1.28, "detector_distance_m": 16.0, "pixel_size_m": 75e-6}
    for extreme in ({}, {"wavelength_angstrom": 17.7}, {"pixel_size_m": 13e-6}):
        Settings(detector="d", geometry={**usual, **extreme, "beam_center": [-300.5, 12]})


def test_the_words_that_yaml_takes_for_booleans_are_words_again(tmp_path):
    file = tmp_path / "xpcs.yml"
    file.write_text("detector: d\nprofile: off\noutliers: no\ndenoise: off\n")
    settings = Settings.load(file)
    assert (settings.profile, settings.outliers, settings.denoise) == ("off", "off", False)


def test_limits_of_memory_of_earlier_versions_are_named_once_and_do_nothing(tmp_path):
    path = tmp_path / "xpcs.yml"
    path.write_text("detector: d\nc2_bytes: 100\nhistory_bytes: 5\n")
    with pytest.warns(UserWarning, match="no longer needed: c2_bytes, history_bytes") as told:
        settings = Settings.load(path)
    assert len(told) == 1
    assert settings == Settings(detector="d")


@pytest.mark.parametrize("map_frames", [0, 1, 33, -2])
def test_a_map_has_an_even_number_of_bins(map_frames):
    with pytest.raises(InvalidInputError, match=f"'map_frames': got {map_frames}; "):
        Settings(detector="d", map_frames=map_frames)
