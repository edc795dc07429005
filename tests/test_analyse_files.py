"""analyse: the same result from wherever the frames lie, and a sentence for what is wrong there."""

import dask.array
import fabio
import h5py
import numpy as np
import pytest
import tifffile

from xpcs_live_denoise import (
    FrameShapeError,
    InvalidInputError,
    MissingDependencyError,
    RoiMap,
    Settings,
    UnreadableFramesError,
    analyse,
    simulate_speckle,
)
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation.eiger import SeriesFiles

ROIS = RoiMap.from_labels(np.repeat([[1, 2]], 100, axis=1).reshape(10, 20))
FRAMES = np.concatenate(
    list(simulate_speckle(ROIS, 24, relaxation_rate=0.08, mean_counts=2.0, seed=4))
).astype(np.uint16)
SETTINGS = Settings(detector="d", denoise=False)
GEOMETRY = Geometry(
    beam_center=(4.0, 9.0),
    wavelength_angstrom=1.2,
    detector_distance_m=5.0,
    pixel_size_m=75e-6,
)
C2 = analyse(FRAMES, SETTINGS, rois=ROIS).c2


def computed(frames, settings=SETTINGS, **options):
    return analyse(frames, settings, rois=ROIS, **options)


def eiger(folder, name="gel_0012", frames=FRAMES, without=(), **more):
    """Write the files of a series, ten frames a file, and return its master file."""
    files = SeriesFiles(
        series=folder / name,
        n_frames=24,
        images_per_file=10,
        frame_shape=frames.shape[1:],
        dtype=frames.dtype,
        frame_time_s=0.02,
        **{"geometry": GEOMETRY, **more},
    )
    files.write_master()
    for number in {1, 2, 3} - {*without}:
        files.write_data(number, frames[10 * (number - 1) : 10 * number])
    return folder / f"{name}_master.h5"


def hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return path


def virtual(folder):
    """Return a file whose frames are those of two others."""
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    for k in (0, 12):
        hdf5(folder / f"part{k}.h5", frames=FRAMES[k : k + 12])
        layout[k : k + 12] = h5py.VirtualSource(f"part{k}.h5", "frames", (12, *FRAMES.shape[1:]))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("entry/data/data", layout)
    return folder / "all.h5"


def raw_storage(folder, frames=FRAMES):
    """Return a file whose numbers lie beside it."""
    frames.tofile(folder / "frames.raw")
    with h5py.File(folder / "head.h5", "w") as file:
        file.create_dataset(
            "frames",
            frames.shape,
            frames.dtype,
            external=[("frames.raw", 0, h5py.h5f.UNLIMITED)],
        )
    return folder / "head.h5"


def numpy_file(folder):
    np.save(folder / "f.npy", FRAMES)
    return folder / "f.npy"


def archive(folder):
    np.savez(folder / "f.npz", frames=FRAMES, dark=FRAMES[:2])
    return folder / "f.npz"


def tiffs(folder):
    """Return numbered images as a shell lists them: 10 before 9."""
    for number, frame in enumerate(FRAMES, 1):
        tifffile.imwrite(folder / f"s_{number}.tif", frame)
    return sorted(map(str, folder.iterdir()))


def stack(folder):
    tifffile.imwrite(folder / "stack.tiff", FRAMES)
    return folder / "stack.tiff"


def edfs(folder):
    for number, frame in enumerate(FRAMES):
        fabio.edfimage.EdfImage(data=frame).write(str(folder / f"s_{number:04d}.edf"))
    return folder


def numbered(folder):
    parts = {f"entry__scan_{k}": FRAMES[6 * k : 6 * k + 6] for k in range(4)}
    return hdf5(folder / "scan.nxs", **parts, entry__other=FRAMES[0])


def data_files(folder):
    eiger(folder)
    return [folder / f"gel_0012_data_{number:06d}.h5" for number in (3, 1, 2)]


@pytest.mark.parametrize(
    "written",
    [
        *(eiger, virtual, raw_storage, numpy_file, archive, tiffs, stack, edfs),
        *(numbered, data_files),
        lambda folder: hdf5(folder / "any.h5", measurement__ccd=FRAMES),
        lambda folder: str(hdf5(folder / "data", deep__in__it=FRAMES[:, np.newaxis])),
        lambda folder: eiger(folder).parent,
        lambda folder: dask.array.from_array(FRAMES, chunks=(7, 10, 20)),
    ],
)
def test_frames_in_any_file_give_the_result_of_the_array(written, tmp_path):
    result = computed(written(tmp_path))
    np.testing.assert_allclose(result.c2, C2, rtol=1e-5)
    assert result.band.stop == len(FRAMES)
    assert "gap" not in result.status.message


def test_geometry_and_period_of_a_master_are_used_and_the_settings_come_first(tmp_path):
    master = eiger(tmp_path)
    result = computed(master)
    assert result.info.frame_time_s == 0.02
    assert result.info.geometry == GEOMETRY
    assert (result.gamma.q_inv_angstrom > 0).all()
    assert "per_frame" not in " ".join(result.gamma.caution)
    own = computed(master, SETTINGS.model_copy(update={"frame_time_s": 0.5}))
    assert own.info.frame_time_s == 0.5


def test_geometry_and_period_of_a_nexus_file_are_used_with_their_units(tmp_path):
    path = hdf5(tmp_path / "nx.h5", entry__data__data=FRAMES)
    numbers = {
        "instrument/detector_1/beam_center_x": (9.0, "pixel"),
        "instrument/detector_1/beam_center_y": (4.0, "pixel"),
        "instrument/detector_1/distance": (5000.0, "mm"),
        "instrument/detector_1/x_pixel_size": (75.0, "um"),
        "instrument/detector_1/frame_time": (20.0, "ms"),
        "instrument/beam/incident_wavelength": (0.12, "nm"),
    }
    with h5py.File(path, "a") as file:
        for name, (value, unit) in numbers.items():
            file[f"entry/{name}"] = value
            file[f"entry/{name}"].attrs["units"] = unit
    info = computed(path).info
    assert info.frame_time_s == pytest.approx(0.02)
    assert info.geometry.wavelength_angstrom == pytest.approx(1.2)
    assert info.geometry.pixel_size_m == pytest.approx(75e-6)
    assert (info.geometry.beam_center, info.geometry.detector_distance_m) == ((4.0, 9.0), 5.0)


def test_without_a_period_rates_are_per_frame_and_a_sentence_says_so(tmp_path):
    np.save(tmp_path / "f.npy", FRAMES)
    result = computed(tmp_path / "f.npy")
    assert "No file tells the frame period: rates are per frame" in result.status.message
    assert all("per_frame" in caution for caution in result.gamma.caution)
    assert result.info.time_unit == "frame"


def test_missing_and_broken_files_are_gaps_that_are_named(tmp_path):
    master = eiger(tmp_path, without=(2,))
    result = computed(master)
    assert result.status.skipped == ((10, 20),)
    assert "gel_0012_data_000002.h5 is missing" in result.status.message
    np.testing.assert_allclose(result.c2[:, :10, :10], C2[:, :10, :10], rtol=1e-5)
    last = tmp_path / "gel_0012_data_000003.h5"
    last.write_bytes(last.read_bytes()[:2000])
    (tmp_path / "gel_0012_data_000001.h5").unlink()
    with pytest.raises(
        InvalidInputError, match=r"none of its 3 data files.*copy the data files|000"
    ):
        computed(master)


def test_files_of_a_series_that_was_aborted_are_analysed_as_far_as_they_go(tmp_path):
    result = computed(eiger(tmp_path, without=(3,)))
    assert result.band.stop == 20
    assert "20 of 24 announced frames are there" in result.status.message


def test_a_renamed_series_is_found_by_the_names_of_its_files(tmp_path):
    eiger(tmp_path)
    for path in [*tmp_path.iterdir()]:
        path.rename(tmp_path / path.name.replace("gel_0012", "copy"))
    np.testing.assert_allclose(computed(tmp_path / "copy_master.h5").c2, C2, rtol=1e-5)


def test_numbers_missing_between_images_are_gaps(tmp_path):
    paths = tiffs(tmp_path)
    paths.remove(str(tmp_path / "s_5.tif"))
    (tmp_path / "s_9.tif").write_bytes(b"no image")
    result = computed(paths)
    assert result.status.skipped == ((4, 5), (8, 9))
    assert "s_9.tif: cannot be read as an image" in result.status.message


def test_one_of_several_datasets_is_chosen_by_name_and_a_list_shows_them(tmp_path):
    path = hdf5(tmp_path / "two.h5", entry__a__frames=FRAMES, entry__b__dark=FRAMES[:2])
    with pytest.raises(InvalidInputError, match=r"/entry/a/frames \(24, 10, 20\) uint16, /entry/b"):
        computed(path)
    np.testing.assert_allclose(computed(path, dataset="frames").c2, C2, rtol=1e-5)
    with pytest.raises(InvalidInputError, match=r"no datasets of frames 'white'; expected one of"):
        computed(path, dataset="white")
    with pytest.raises(InvalidInputError, match=r"got the arrays \['dark', 'frames'\]"):
        computed(archive(tmp_path), dataset="white")
    with h5py.File(path, "a") as file:
        file.attrs["default"], file["entry"].attrs["default"] = "entry", "a"
        file["entry/a"].attrs["signal"] = "frames"
    np.testing.assert_allclose(computed(path).c2, C2, rtol=1e-5)


def test_of_several_thresholds_the_first_is_analysed_unless_another_is_chosen(tmp_path):
    both = np.stack([FRAMES, FRAMES[::-1]], axis=1)
    for path in (hdf5(tmp_path / "two.h5", frames=both), raw_storage(tmp_path, both)):
        result = computed(path)
        assert "The frames have 2 thresholds: the first is analysed" in result.status.message
        np.testing.assert_allclose(result.c2, C2, rtol=1e-5)
        other = computed(path, SETTINGS.model_copy(update={"threshold": 2}))
        np.testing.assert_allclose(other.c2, C2[:, ::-1, ::-1], rtol=1e-5)


def test_pixels_that_the_master_marks_are_left_out(tmp_path):
    bad = np.zeros(FRAMES.shape[1:], bool)
    bad[3, 4:7] = True
    assert "3 pixels" in computed(eiger(tmp_path, bad_pixels=bad)).status.message


def two_series(folder):
    eiger(folder, "gel_1")
    return eiger(folder, "gel_2").parent


def of_another_shape(folder):
    eiger(folder, without=(2,))
    other = SeriesFiles(
        series=folder / "gel_0012",
        n_frames=24,
        images_per_file=10,
        frame_shape=(10, 10),
        dtype=FRAMES.dtype,
        frame_time_s=0.02,
    )
    other.write_data(2, FRAMES[:10, :, :10].copy())
    return folder / "gel_0012_master.h5"


def lost_source(folder):
    path = virtual(folder)
    (folder / "part12.h5").unlink()
    return path


def cut_off(folder, n=3000):
    path = hdf5(folder / "cut.h5", frames=FRAMES)
    path.write_bytes(path.read_bytes()[:n])
    return path


def objects(folder):
    np.save(folder / "o.npy", np.array([{}]), allow_pickle=True)
    return folder / "o.npy"


def text(folder):
    (folder / "notes.tif").write_text("gel")
    return folder / "notes.tif"


@pytest.mark.parametrize(
    ("written", "error", "match"),
    [
        (lambda f: f / "no_master.h5", InvalidInputError, r"cannot be read \(No such file"),
        (lambda f: eiger(f, without=(1, 2, 3)), InvalidInputError, "none of its 3 data files can"),
        (of_another_shape, InvalidInputError, r"of several shapes .*\(10, 10\).*another series"),
        (two_series, InvalidInputError, r"has 2 series, the last in it are gel_1, gel_2.*--series"),
        (lost_source, InvalidInputError, r"lie in other files that cannot be read .*part12.h5"),
        (cut_off, InvalidInputError, r"cut.h5: cannot be read .*copy it anew"),
        (objects, InvalidInputError, r"o.npy: cannot be read .*write it anew"),
        (text, InvalidInputError, r"notes.tif: cannot be read as an image"),
        (lambda f: hdf5(f / "x.h5", a=FRAMES[0]), InvalidInputError, "holds no dataset of frames"),
        (lambda f: [numpy_file(f)] * 2, InvalidInputError, "twice"),
        (lambda f: [numpy_file(f), stack(f)], InvalidInputError, "image and numpy files"),
        (lambda f: hdf5(f / "t.h5", a=FRAMES[:, :, 1:]), FrameShapeError, "of this detector"),
        (lambda f: hdf5(f / "t.h5", a=FRAMES.swapaxes(1, 2)), FrameShapeError, "rotate: 90"),
    ],
)
def test_files_that_cannot_be_used_are_a_sentence_with_the_remedy(written, error, match, tmp_path):
    with pytest.raises(error, match=match):
        computed(written(tmp_path))


def test_a_series_of_a_folder_is_chosen_by_its_number(tmp_path):
    two_series(tmp_path)
    np.testing.assert_allclose(computed(tmp_path, series=2).c2, C2, rtol=1e-5)
    with pytest.raises(InvalidInputError, match="series: got 2 beside files"):
        computed(tmp_path / "gel_1_master.h5", series=2)


def test_frames_none_of_which_can_be_read_are_an_error_with_its_reason(tmp_path):
    path = eiger(tmp_path)
    for number in (1, 2, 3):
        data = tmp_path / f"gel_0012_data_{number:06d}.h5"
        with h5py.File(data) as file:
            dataset = file["entry/data/data"]
            where = [dataset.id.get_chunk_info(k) for k in range(dataset.id.get_num_chunks())]
        raw = bytearray(data.read_bytes())
        for chunk in where:
            raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
        data.write_bytes(raw)
    with pytest.raises(UnreadableFramesError, match=r"no frame could be read.*decompressed"):
        computed(path)


def test_without_fabio_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    edfs(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "fabio", None)
    with pytest.raises(MissingDependencyError, match=r"fabio, which is not installed.*images"):
        computed(tmp_path)


def test_the_summary_has_a_row_a_roi_and_the_figure_its_panels(tmp_path):
    seen = []
    result = computed(eiger(tmp_path), progress=lambda n, of: seen.append((n, of)))
    summary = result.summary()
    assert summary["roi"].tolist() == [1, 2]
    assert (summary["n_frames"] == 24).all()
    np.testing.assert_allclose(summary["contrast"], result.status.contrast)
    trusted = summary["n_ages"] > 0
    assert summary["relaxation_rate"].notna().equals(trusted)
    assert seen[-1] == (24, 24)
    titles = [axis.get_title(loc="left") for axis in result.plot(2).axes]
    assert "Γ(t)" in titles
    with pytest.raises(InvalidInputError, match=r"got ROI 9, expected one of \[1, 2\]"):
        result.plot(9)


def test_an_array_in_tiled_is_a_series_with_what_its_run_tells(tiled_server):
    client = tiled_server.client()
    try:
        start = {"uid": "a", "time": 1.0, "wavelength": 1.2}
        data = {"cam_cam_acquire_period": 0.05, "cam_beam_center_x": 9.0, "cam_beam_center_y": 4.0}
        configuration = {"cam": {"data": data, "timestamps": {}, "data_keys": {}}}
        run = client.create_container("analyse-node", metadata={"start": start})
        stream = run.create_container("primary", metadata={"configuration": configuration})
        node = stream.write_array(FRAMES.reshape(4, 6, 10, 20), key="cam_image")
        result = computed(node, SETTINGS.model_copy(update={"block_bytes": 3000}))
        np.testing.assert_allclose(result.c2, C2, rtol=1e-5)
        assert result.info.frame_time_s == 0.05
        assert result.info.geometry.beam_center == (4.0, 9.0)
        assert result.info.geometry.wavelength_angstrom == 1.2
        with pytest.raises(InvalidInputError, match=r"got container of shape \(\); expected an"):
            computed(stream)
        mask = np.ones(FRAMES.shape[1:], bool)
        mask[:2] = False
        kept = ROIS.with_mask(run.write_array(mask, key="mask"))
        assert kept.n_pixels.tolist() == [60, 100]
    finally:
        client.context.close()
