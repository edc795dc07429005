"""A result as a file: HDF5 for both worlds, read by their own programs; CSV and PNG."""

import contextlib
import dataclasses
import io
import resource
import signal

import h5py
import httpx
import numpy as np
import pandas as pd
import pytest
from nexusformat.nexus.validate import validate_application, validate_file
from pyxpcsviewer.core.xpcs_file import XpcsFile

from tests.support import written
from xpcs_live_denoise import RoiMap, Settings, analyse, simulate_speckle
from xpcs_live_denoise.errors import (
    InvalidInputError,
    ResultNotFoundError,
    UnwritableFileError,
)
from xpcs_live_denoise.readers import results
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

Q = np.array([0.004, 0.006, 0.008])
RINGS = RoiMap.rings((64, 60), (32, 28), [(5, 12), (13, 20), (21, 28)], q_inv_angstrom=Q)
RATES = 1500 * Q**2  # per frame
FRAME_TIME_S = 0.02
# What NXxpcs allows, which nxvalidate does not look at.
ENUMERATIONS = {
    ("data/g2", "storage_mode"): ("one_array", "data_exchange_keys", "other"),
    ("data/g2_derr", "storage_mode"): ("one_array", "data_exchange_keys", "other"),
    ("data/delay_difference", "storage_mode"): ("one_array", "data_exchange_keys", "other"),
    **{
        (f"twotime/{name}", attribute): allowed
        for name, attribute, allowed in (
            ("two_time_corr_func", "storage_mode", ("one_array_q_first", "one_array_q_last")),
            ("two_time_corr_func", "baseline_reference", (0, 1)),
            ("two_time_corr_func", "time_origin_location", ("upper_left", "lower_left")),
            ("two_time_corr_func", "populated_elements", ("all", "upper_half", "lower_half")),
            ("g2_from_two_time_corr_func", "storage_mode", ("one_array_q_last",)),
            ("g2_from_two_time_corr_func", "baseline_reference", (0, 1)),
            ("g2_from_two_time_corr_func", "first_point_for_fit", (0, 1)),
            ("g2_from_two_time_corr_func_partials", "storage_mode", ("one_array", "other")),
            ("g2_from_two_time_corr_func_partials", "baseline_reference", (0, 1)),
        )
    },
}


@pytest.fixture(scope="module")
def gel(module_client, synthetic):
    """A simulated gel as it was analysed, and its result in Tiled."""
    frames = np.concatenate(
        list(
            simulate_speckle(
                RINGS, 120, relaxation_rate=RATES, contrast=0.5, mean_counts=2.0, seed=6
            )
        )
    )
    geometry = Geometry(
        beam_center=(31.0, 28.0),
        wavelength_angstrom=1.28,
        detector_distance_m=10,
        pixel_size_m=75e-6,
    )
    settings = Settings(
        detector="eiger",
        frame_time_s=FRAME_TIME_S,
        orientation={"flip_rows": True},
        geometry=dataclasses.asdict(geometry),
    )
    made = analyse(frames, settings, rois=RINGS)
    info = dataclasses.replace(
        synthetic(n_roi=3, start={"T_sample": "295", "exposure time": "0.015"}).info,
        frame_shape=RINGS.shape,
        frame_time_s=FRAME_TIME_S,
        q_inv_angstrom=tuple(Q),
        n_pixels=tuple(RINGS.n_pixels.tolist()),
        geometry=geometry,
        settings=settings.model_dump(mode="json"),
        model={"name": "ensemble", "members": 5},
    )
    sink = TiledSink(info, client=module_client)
    written.end(sink, made)
    return made, results(module_client, sink.uid)


@pytest.fixture(scope="module")
def gel_file(gel, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "gel.h5"
    gel[1].export(path)
    return path


@pytest.fixture(scope="module")
def bare(module_client, synthetic, tmp_path_factory):
    """The file of a long series of which nothing but its frames was known."""
    run = synthetic(n_frames=200, map_frames=60)
    run.start = {"scan_id": None, "time": None}
    info = dataclasses.replace(run.info, frame_time_s=1.0, time_unit="frame")
    sink = TiledSink(info, client=module_client)
    for start in range(0, 200, 100):
        written.publish(sink, run.publication(start, start + 100))
    result = run.result()
    g2 = dataclasses.replace(result.g2, delay_s=result.g2.delay_s * 2)  # in frames
    written.end(sink, dataclasses.replace(result, g2=g2))
    path = tmp_path_factory.mktemp("bare") / "bare.nxs"
    results(module_client, sink.uid).export(path)
    return run, path


def test_pyxpcsviewer_reads_q_g2_with_errors_image_and_geometry(gel, gel_file):
    made, _ = gel
    seen = XpcsFile(str(gel_file))
    assert seen.atype == ("Twotime", "Multitau")
    np.testing.assert_allclose(seen.dqlist, Q)
    assert [seen.get_qbin_label(k) for k in (1, 3)] == ["q=0.00400 1/A", "q=0.00800 1/A"]
    np.testing.assert_allclose(seen.t_el, made.g2.delay_s)
    np.testing.assert_allclose(seen.g2, made.g2.g2.T)
    np.testing.assert_allclose(seen.g2_err, made.g2.g2_error.T)
    np.testing.assert_array_equal(seen.saxs_2d, made.picture.mean)
    # The image is turned as the ROIs are, and the beam with it.
    assert (seen.bcy, seen.bcx) == (63 - 31, 28)
    rows, cols = np.nonzero(seen.dqmap == 1)
    np.testing.assert_allclose((rows.mean(), cols.mean()), (32, 28), atol=1e-6)
    assert (seen.t0, seen.t1, seen.X_energy) == (0.02, 0.015, pytest.approx(9.686, abs=1e-3))
    assert seen.start_time == "1970-01-01T00:00:01+00:00"
    q, intensity, *_ = seen.get_saxs1d_data()
    np.testing.assert_allclose(q, Q)
    np.testing.assert_allclose(intensity[0], 2.0, atol=0.2)
    assert seen.Int_t.shape == (2, 120)
    np.testing.assert_allclose(seen.Int_t[1], 2.0, atol=0.2)
    with h5py.File(gel_file) as file:
        entry = file["entry"]
        assert entry["intensity/total"].shape == (120,)
        np.testing.assert_allclose(entry["intensity/roi_mean"][()], 2.0, atol=0.4)
        assert entry["saxs"].attrs["axes"].tolist() == ["q"]
        np.testing.assert_allclose(np.nanmean(entry["saxs/saxs"]), 2.0, atol=0.2)


def test_pyxpcsviewer_reads_c2_and_fits_the_rates_of_the_sample(gel, gel_file):
    made, _ = gel
    seen = XpcsFile(str(gel_file))
    off_diagonal = ~np.eye(120, dtype=bool)
    for roi in range(3):
        shown = seen.get_twotime_c2(roi)
        np.testing.assert_array_equal(shown["c2_mat"][off_diagonal], made.c2[roi][off_diagonal])
        np.testing.assert_allclose(
            shown["g2_full"][1], np.diagonal(made.c2[roi], 1).mean(), rtol=1e-6
        )
        assert shown["g2_partial"].shape == (10, 12)
    assert seen.get_twotime_qbin_labels()[1] == "qbin=2, q=0.00600 1/A"
    fits = seen.fit_g2(bounds=[[0, 1e-3, 0.5, 0.9], [1, 10, 1.5, 1.1]], fit_flag=[True] * 4)
    tau = fits["fit_val"][:, 0, 1]  # of exp(-2 t / tau)
    np.testing.assert_allclose(tau, FRAME_TIME_S / RATES, rtol=0.2)
    (_, exponent), (_, error) = seen.fit_tauq((0, 1), [[1e-12, -4], [1, 0]], [True, True])[
        "tauq_fit_val"
    ]
    assert abs(exponent + 2) < 0.3
    assert error < 0.3


@pytest.mark.parametrize("name", ["gel_file", "bare"])
def test_nxvalidate_finds_no_error(name, request):
    made = request.getfixturevalue(name)
    path = made if name == "gel_file" else made[1]
    for validate in (validate_application, validate_file)[: 2 if name == "gel_file" else 1]:
        messages = io.StringIO()
        with contextlib.redirect_stdout(messages), contextlib.redirect_stderr(messages):
            _, n_errors = validate(str(path))
        assert n_errors == 0, messages.getvalue()
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry["definition"][()] == b"NXxpcs"
        for (field, attribute), allowed in ENUMERATIONS.items():
            assert entry[field].attrs[attribute] in allowed, (field, attribute)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # nobody has looked at the detector
def test_a_long_series_without_geometry_opens_with_its_map_and_its_band(bare):
    run, path = bare
    values, frames_per_bin = run.map(200)
    seen = XpcsFile(str(path))
    assert seen.map_names == ["roi", "phi"]
    assert seen.get_qbin_label(2) == "roi=2.000 "
    assert np.isnan(seen.X_energy)
    assert seen.c2_t0 == frames_per_bin == 4
    upper = np.triu_indices(50, 1)
    np.testing.assert_array_equal(seen.get_twotime_c2(1)["c2_mat"][upper], values[1][upper])
    assert seen.fit_g2(bounds=[[0, 1e-3, 0.5, 0.9], [1, 10, 1.5, 1.1]])["fit_val"].shape[0] == 2
    with h5py.File(path) as file:
        entry = file["entry"]
        band = run.band(0, 200)
        np.testing.assert_array_equal(entry["band/c2"], band.c2)
        np.testing.assert_array_equal(entry["band_denoised/c2"], band.denoised)
        np.testing.assert_array_equal(entry["band_denoised/c2_errors"], band.spread)
        assert entry["twotime/two_time_corr_func"].attrs["frames_per_bin"] == 4
        assert "mean over 4 x 4" in entry["twotime/two_time_corr_func"].attrs["long_name"]
        np.testing.assert_allclose(entry["twotime/t1"][[0, -1]], [1.5, 197.5])
        assert entry["twotime/t1"].attrs["units"] == "frame"
        assert entry["gamma/relaxation_rate"].attrs["units"] == "1/frame"
        assert "twotime_denoised" not in entry
        assert "of the analysis: nobody told" in entry["start_time"].attrs["note"]


def test_what_one_network_denoised_has_no_spread_and_no_error_of_0(
    module_client, synthetic, tmp_path
):
    run = synthetic(start={"T_sample": "295"})
    info = dataclasses.replace(run.info, model={"name": "one", "n_members": 1})
    made = run.result()
    alone = {
        name: dataclasses.replace(getattr(made, name), spread=None) for name in ("band", "denoised")
    }
    sink = TiledSink(info, client=module_client)
    written.end(sink, dataclasses.replace(made, **alone))
    found = results(module_client, sink.uid)
    np.testing.assert_array_equal(found.band(), made.band.denoised)
    stored = set(found.base["two_time"].base)
    assert {"c2_denoised", "c2_band_denoised"} <= stored
    assert not stored & {"c2_spread", "c2_band_spread"}
    with pytest.raises(ResultNotFoundError, match="no spread of denoised C2; one network"):
        found.band(spread=True)
    found.export(path := tmp_path / "one.h5")
    with h5py.File(path) as file:
        for group in ("twotime_denoised", "band_denoised"):
            assert "c2" in file["entry"][group]
            assert "c2_errors" not in file["entry"][group]


def test_the_file_holds_the_denoised_c2_the_rows_and_how_they_were_made(gel, gel_file):
    made, result = gel
    with h5py.File(gel_file) as file:
        entry = file["entry"]
        np.testing.assert_array_equal(entry["twotime_denoised/c2"], made.denoised.c2)
        np.testing.assert_array_equal(entry["twotime_denoised/c2_errors"], made.denoised.spread)
        np.testing.assert_array_equal(
            entry["twotime/two_time_corr_func"], np.triu(made.c2.astype(np.float32))
        )
        rows = result.gamma_table(recommended=True)
        gamma = entry["gamma"]
        for column in ("age_s", "relaxation_rate", "roi"):
            np.testing.assert_array_equal(gamma[column], rows[column])
        np.testing.assert_array_equal(
            gamma["relaxation_rate_errors"], rows["relaxation_rate_error"]
        )
        assert gamma["relaxation_rate"].attrs["units"] == "1/s"
        every = result.gamma_table()
        assert entry["gamma_all_rows/source"][:].astype(str).tolist() == every["source"].tolist()
        for process, note, text in (
            ("analysis", "settings", '"flip_rows": true'),
            ("analysis", "versions", '"numpy": "2"'),
            ("analysis", "status", '"raw_exit_status": "success"'),
            ("denoising", "model_card", '"members": 5'),
        ):
            assert entry[process].attrs["NX_class"] == "NXprocess"
            assert text in entry[process][note]["data"].asstr()[()]
        assert entry["entry_identifier_uuid"].asstr()[()] == result.start["original_run_uid"]
        assert (entry["scan_number"][()], entry["entry_identifier"][()]) == (7, b"7")
        assert entry["sample/name"][()] == b"gel"


def test_the_file_is_hardly_larger_than_its_arrays(gel, gel_file):
    made, _ = gel
    arrays = [made.c2, made.denoised.c2, made.denoised.spread]
    arrays += [made.band.c2, made.band.denoised, made.band.spread, made.picture.mean]
    assert gel_file.stat().st_size < 1.2 * sum(array.astype(np.float32).nbytes for array in arrays)


def test_tiled_downloads_the_same_file_and_documents_go_on(gel, gel_file, tiled_server):
    _, result = gel
    link = result.item["links"]["full"]
    headers = {"Authorization": f"Apikey {tiled_server.api_key}"}
    answer = httpx.get(link, params={"format": "h5"}, headers=headers, timeout=60)
    answer.raise_for_status()
    assert answer.headers["content-type"] == "application/x-hdf5"
    with h5py.File(io.BytesIO(answer.content)) as got, h5py.File(gel_file) as expected:
        names = []
        expected.visit(names.append)
        assert len(names) > 100
        for name in names:
            assert name in got
            if isinstance(expected[name], h5py.Dataset) and expected[name].dtype.kind == "f":
                np.testing.assert_array_equal(got[name], expected[name])
    assert [name for name, _ in result.documents()][::200] != []
    buffer = io.BytesIO()
    result.export(buffer, format="application/x-hdf5")
    assert buffer.getvalue().startswith(b"\x89HDF")


def test_csv_has_the_recommended_rows_and_png_the_figure(gel, tmp_path):
    _, result = gel
    rows = result.gamma_table(recommended=True)
    result.export(tmp_path / "gel.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "gel.csv", keep_default_na=False, na_values=[""])[["roi", "age_s"]],
        rows[["roi", "age_s"]],
    )
    result.export(tmp_path / "two.txt", ["age_s", "relaxation_rate"], format="text/csv")
    assert list(pd.read_csv(tmp_path / "two.txt")) == ["age_s", "relaxation_rate"]
    result.export(tmp_path / "gel.2026.PNG")
    assert (tmp_path / "gel.2026.PNG").read_bytes().startswith(b"\x89PNG")


def test_some_parts_only_make_a_smaller_file(gel, gel_file, tmp_path):
    gel[1].export(tmp_path / "small.h5", ["gamma", "g2"])
    assert (tmp_path / "small.h5").stat().st_size < gel_file.stat().st_size / 2
    with h5py.File(tmp_path / "small.h5") as file:
        assert "twotime" not in file["entry"]
        assert len(file["entry/gamma/age_s"]) > 100
    with pytest.raises(InvalidInputError, match=r"got \['c2'\]; expected some of .*'two_time'"):
        gel[1].export(tmp_path / "other.h5", ["c2"])
    with pytest.raises(InvalidInputError, match=r"got \['Gamma'\]; expected some of .*'alpha'"):
        gel[1].export(tmp_path / "other.csv", "Gamma")
    assert [path.name for path in tmp_path.iterdir()] == ["small.h5"]


def test_a_run_that_is_still_on_and_a_failed_one_are_refused(module_client, synthetic, tmp_path):
    run = synthetic(seed=3)
    sink = TiledSink(run.info, client=module_client)
    sink.write(run.publication(0, 30))
    path = tmp_path / "gel.h5"
    for target in (path, tmp_path / "gel.csv", tmp_path / "gel.png"):
        with pytest.raises(ResultNotFoundError, match=r"still on, 30 frames so far.*Wait for its"):
            results(module_client, sink.uid).export(target)
    end = RunEnd(
        raw_exit_status="success",
        analysis_exit_status="fail",
        reason="Only 3 of 60 frames could be used.",
        status=Status(),
    )
    sink.finish(end)
    failed = results(module_client, sink.uid)
    with pytest.raises(ResultNotFoundError, match=r"failed.*: Only 3 of 60 .*denoise replay`"):
        failed.export(path)
    link = failed.item["links"]["full"]
    answer = module_client.context.http_client.get(link, params={"format": "h5"})
    assert answer.status_code == 406
    assert "Only 3 of 60 frames" in answer.text
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_replaced_only_if_asked(gel, tmp_path):
    path = tmp_path / "gel.csv"
    path.write_text("mine")
    with pytest.raises(InvalidInputError, match=r"is there already.*overwrite=True"):
        gel[1].export(path)
    assert path.read_text() == "mine"
    gel[1].export(path, overwrite=True)
    assert path.read_text().startswith("roi,")
    with pytest.raises(InvalidInputError, match=r"its folder does not exist.*Create it"):
        gel[1].export(tmp_path / "no" / "gel.h5")
    with pytest.raises(InvalidInputError, match="is a folder"):
        gel[1].export(tmp_path, format="h5")


@contextlib.contextmanager
def disk_of(n_bytes):
    """No file may become larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize(
    ("name", "n_bytes"), [("gel.h5", 10_000), ("gel.h5", 301_234), ("gel.csv", 10_000)]
)
def test_a_full_disk_is_said_and_leaves_no_file_or_the_one_of_before(gel, name, n_bytes, tmp_path):
    path = tmp_path / name
    for before in (None, b"before"):
        if before is not None:
            path.write_bytes(before)
        with (
            disk_of(n_bytes),
            pytest.raises(UnwritableFileError, match=r"could not be written .* Make room on the"),
        ):
            gel[1].export(path, overwrite=True)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])
