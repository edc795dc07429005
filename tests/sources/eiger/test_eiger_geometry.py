"""q of a followed Eiger from its master file, where nothing else tells the geometry."""

import dataclasses
import functools

import bluesky.plans as bp
import numpy as np
import pytest

from tests.support.eiger_series import series_files
from tests.support.file_roots import ANYWHERE
from tests.support.live_runs import ROIS, engine, series, subscribe  # noqa: F401 - two of them are fixtures
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.simulation.eiger import SeriesFiles
from xpcs_live_denoise.sources.eiger.files import read_master

KNOWN = Geometry(
    beam_center=(15.0, 20.5),
    wavelength_angstrom=1.28,
    detector_distance_m=10.0,
    pixel_size_m=75e-6,
)


@pytest.mark.parametrize(
    "geometry",
    [
        KNOWN,
        Geometry(),
        Geometry(beam_center=(3.0, 4.0)),
        dataclasses.replace(KNOWN, wavelength_angstrom=None),
    ],
)
def test_a_master_file_tells_the_geometry_and_nothing_where_nobody_set_it(tmp_path, geometry):
    files = series_files(tmp_path, geometry=geometry)
    files.write_master()
    assert read_master(str(files.series), ANYWHERE).geometry == geometry


def test_a_distance_in_millimetres_is_understood_as_in_documents(tmp_path):
    files = series_files(
        tmp_path, geometry=dataclasses.replace(KNOWN, detector_distance_m=10_000.0)
    )
    files.write_master()
    assert read_master(str(files.series), ANYWHERE).geometry == KNOWN


def test_what_is_known_is_not_replaced():
    mine = Geometry(wavelength_angstrom=1.0)
    assert mine.completed(KNOWN) == dataclasses.replace(KNOWN, wavelength_angstrom=1.0)
    assert KNOWN.completed(mine) == KNOWN


@pytest.mark.parametrize("set_wavelength", [None, 2.56])
def test_a_followed_folder_has_q_without_any_document(engine, subscribe, tmp_path, set_wavelength):
    detector = SimulatedClassicEiger(
        recorded(series(60)),
        tmp_path,
        name="cam",
        n_frames=60,
        images_per_file=20,
        geometry=Geometry(),
        make_files=functools.partial(SeriesFiles, geometry=KNOWN),
    )
    live, sinks = subscribe(
        follow={"folder": str(tmp_path)}, geometry={"wavelength_angstrom": set_wavelength}
    )
    engine(bp.count([detector]))
    assert live.wait(60)
    (sink,) = sinks
    used = Geometry(wavelength_angstrom=set_wavelength).completed(KNOWN)
    expected = ROIS.with_q(used).q_inv_angstrom
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(sink.info.q_inv_angstrom, expected)
    assert sink.info.geometry == used
