"""Geometry and frame time: who is believed."""

from __future__ import annotations

import pytest

from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.sources.metadata import find_frame_time, find_geometry, geometry_conflicts

config = pytest.importorskip("xpcs_live_denoise.config")
NOTHING = config.GeometrySettings()
EIGER = "eiger4m_single"


def device(**values):
    return {key: {"value": value, "timestamp": 0.0} for key, value in values.items()}


def descriptor(**values):
    return {EIGER: {"data": values, "timestamps": {}, "data_keys": {}}}


def chx(**values):
    return {f"{EIGER}_{key}": value for key, value in values.items()}


def test_the_configuration_of_a_chx_descriptor_is_understood():
    data = chx(
        beam_center_x="1143.0", beam_center_y="1229.5", wavelength="1.2848", det_distance="16033.5"
    )
    assert find_geometry(NOTHING, {}, None, descriptor(**data), EIGER) == Geometry(
        beam_center=(1229.5, 1143.0),
        wavelength_angstrom=1.2848,
        detector_distance_m=16.0335,
        pixel_size_m=75e-6,
    )


SOURCES = {
    "settings": (1.1, {}, None, None),
    "start": (None, {"wavelength": "1.2"}, None, None),
    "device": (None, {}, device(**chx(wavelength=1.3)), None),
    "descriptor": (None, {}, None, descriptor(**chx(wavelength=1.4))),
}
WAVELENGTHS = {"settings": 1.1, "start": 1.2, "device": 1.3, "descriptor": 1.4}


@pytest.mark.parametrize("missing", range(4))
def test_the_first_source_that_has_a_quantity_is_used(missing):
    """Sources are taken away from the top; the next one below is used."""
    names = list(SOURCES)[missing:]
    setting = next((SOURCES[name][0] for name in names if SOURCES[name][0]), None)
    start = next((SOURCES[name][1] for name in names if SOURCES[name][1]), {})
    device_ = next((SOURCES[name][2] for name in names if SOURCES[name][2]), None)
    descriptor_ = next((SOURCES[name][3] for name in names if SOURCES[name][3]), None)
    settings = config.GeometrySettings(wavelength_angstrom=setting)
    found = find_geometry(settings, start, device_, descriptor_, EIGER)
    assert found.wavelength_angstrom == WAVELENGTHS[names[0]]


def test_the_quantities_may_come_from_different_sources():
    settings = config.GeometrySettings(beam_center=(10.0, 20.0))
    found = find_geometry(
        settings,
        {"detector_distance": 5.0},
        device(incident_wavelength=1.0),
        descriptor(**chx(cam_x_pixel_size=55e-6, beam_center_x=1, beam_center_y=2)),
        EIGER,
    )
    assert found == Geometry(
        beam_center=(10.0, 20.0),
        wavelength_angstrom=1.0,
        detector_distance_m=5.0,
        pixel_size_m=55e-6,
    )


def test_half_a_beam_centre_is_not_completed_from_another_source():
    found = find_geometry(
        NOTHING,
        chx(beam_center_x=7),
        None,
        descriptor(**chx(beam_center_x=3, beam_center_y=4)),
        EIGER,
    )
    assert found.beam_center == (4.0, 3.0)


@pytest.mark.parametrize(
    ("stored", "metres"), [(4.8, 4.8), ("16.03", 16.03), (4800, 4.8), (100, 100)]
)
def test_a_distance_above_a_hundred_is_in_millimetres(stored, metres):
    found = find_geometry(NOTHING, {"det_distance": stored}, None, None, EIGER)
    assert found.detector_distance_m == pytest.approx(metres)


def test_only_an_eiger_has_the_pixels_of_an_eiger():
    assert find_geometry(NOTHING, {}, None, None, "pilatus").pixel_size_m is None
    assert find_geometry(NOTHING, {}, None, None, "Eiger_1M").pixel_size_m == 75e-6


def test_the_beam_may_miss_the_detector_but_not_be_unset():
    missed = descriptor(**chx(beam_center_x=-30, beam_center_y=4))
    assert find_geometry(NOTHING, {}, None, missed, EIGER).beam_center == (4.0, -30.0)
    unset = descriptor(**chx(beam_center_x=0, beam_center_y=0))
    assert find_geometry(NOTHING, {}, None, unset, EIGER).beam_center is None


@pytest.mark.parametrize("bad", ["", "unknown", None, "nan", float("inf"), 0, -1.0, [1.0, 2.0], []])
def test_what_is_no_positive_number_is_passed_over_and_told(bad):
    start = {"acquire period": bad}
    configuration = descriptor(**chx(cam_acquire_period="0.01"))
    assert find_frame_time(None, start, None, configuration, EIGER) == 0.01
    (sentence,) = geometry_conflicts(
        config.Settings(detector=EIGER), start, None, configuration, EIGER
    )
    assert sentence == (
        f"The start document's 'acquire period' (frame time) is {bad!r}, no usable number; "
        "it was ignored."
    )


def test_the_frame_time_is_the_acquire_period_and_never_the_exposure():
    start = {"exposure time": "0.001", "acquire period": "0.00134"}
    only_exposure = descriptor(**chx(cam_acquire_time=0.001))
    assert find_frame_time(None, start, None, None, EIGER) == 0.00134
    assert find_frame_time(None, {"exposure time": "0.001"}, None, only_exposure, EIGER) is None


@pytest.mark.parametrize("missing", range(4))
def test_the_frame_time_follows_the_same_precedence(missing):
    value = 0.1 if missing < 1 else None
    start = {"acquire period": "0.2"} if missing < 2 else {}
    staged = device(**chx(cam_acquire_period=0.3)) if missing < 3 else None
    described = descriptor(**chx(cam_acquire_period=0.4))
    assert find_frame_time(value, start, staged, described, EIGER) == [0.1, 0.2, 0.3, 0.4][missing]


def test_another_detector_in_the_descriptor_is_not_listened_to():
    described = {"pilatus": {"data": {"wavelength": 1.0, "acquire_period": 0.5}}}
    assert find_geometry(NOTHING, {}, None, described, EIGER).wavelength_angstrom is None
    assert find_frame_time(None, {}, None, described, EIGER) is None


def test_a_source_that_says_otherwise_is_told():
    settings = config.Settings(
        detector=EIGER, geometry={"beam_center": (100.0, 200.0)}, frame_time_s=0.01
    )
    start = {"wavelength": "1.2848", "acquire period": "0.0100001"}
    staged = device(**chx(wavelength=1.2850, det_distance=16000.0))
    described = descriptor(
        **chx(wavelength=1.1, det_distance=16.0, beam_center_x=200, beam_center_y=90)
    )
    assert geometry_conflicts(settings, start, staged, described, EIGER) == (
        f"The descriptor's '{EIGER}_beam_center_y' (beam centre y (row)) is 90 pixels; "
        "100 pixels is used.",
        f"The descriptor's '{EIGER}_wavelength' (wavelength) is 1.1 Angstrom; "
        "1.2848 Angstrom is used.",
    )


def test_documents_that_agree_or_say_nothing_give_no_sentence():
    settings = config.Settings(detector=EIGER)
    same = chx(wavelength=1.2, cam_acquire_period=0.1)
    assert geometry_conflicts(settings, {}, None, None, EIGER) == ()
    assert geometry_conflicts(settings, same, device(**same), descriptor(**same), EIGER) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("wavelength", 1.28e-10),
        ("wavelength", 9650),
        ("x_pixel_size", 75.0),
        ("x_pixel_size", "0.075"),
        ("det_distance", 16e6),
    ],
)
def test_a_number_that_cannot_be_in_its_unit_is_ignored_with_a_sentence(key, value):
    start = {key: value}
    settings = config.Settings(detector="cam")
    geometry = find_geometry(settings.geometry, start, None, None, "cam")
    assert geometry.wavelength_angstrom is None
    assert geometry.pixel_size_m is None
    assert geometry.detector_distance_m is None
    (sentence,) = geometry_conflicts(settings, start, None, None, "cam")
    assert f"{key!r}" in sentence
    assert "no usable number; it was ignored" in sentence
