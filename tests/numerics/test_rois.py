import dataclasses

import numpy as np
import pytest
from skbeam.core import roi as skbeam_roi
from skbeam.core.utils import angle_grid

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.numerics.gathering import gather
from xpcs_live_denoise.numerics.rois import RoiMap, radii_of_q
from xpcs_live_denoise.records.frames import Geometry

LABELS = np.array([[0, 3, 3], [1, 1, 0], [3, 0, 1]])


def test_pixels_stand_roi_by_roi_in_the_order_of_the_labels():
    rois = RoiMap.from_labels(LABELS)
    assert rois.n_roi == 2
    assert rois.shape == (3, 3)
    np.testing.assert_array_equal(rois.labels, [1, 3])
    np.testing.assert_array_equal(rois.n_pixels, [3, 3])
    np.testing.assert_array_equal(rois.pixels, [3, 4, 8, 1, 2, 6])
    assert rois.slices == (slice(0, 3), slice(3, 6))
    np.testing.assert_array_equal(rois.label_array, LABELS)


def test_q_is_unknown_unless_given():
    assert np.isnan(RoiMap.from_labels(LABELS).q_inv_angstrom).all()
    rois = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.01, np.nan])
    np.testing.assert_array_equal(rois.q_inv_angstrom, [0.01, np.nan])


def test_labels_of_whole_floats_and_of_booleans_are_accepted():
    np.testing.assert_array_equal(RoiMap.from_labels(LABELS * 1.0).labels, [1, 3])
    np.testing.assert_array_equal(RoiMap.from_labels(LABELS > 0).labels, [1])


def test_a_map_cannot_be_changed():
    rois = RoiMap.from_labels(LABELS)
    for name in ("labels", "q_inv_angstrom", "n_pixels", "pixels"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(rois, name)[0] = 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        rois.shape = (1, 1)


def test_later_changes_of_the_label_array_do_not_reach_the_map():
    labels, q = LABELS.copy(), np.array([0.1, 0.2])
    rois = RoiMap.from_labels(labels, q_inv_angstrom=q)
    labels[:], q[:] = 0, 0
    np.testing.assert_array_equal(rois.label_array, LABELS)
    np.testing.assert_array_equal(rois.q_inv_angstrom, [0.1, 0.2])


def test_a_mask_removes_pixels_at_once_and_later():
    mask = np.ones((3, 3), bool)
    mask[0, 1] = mask[1, 0] = False
    expected = np.where(mask, LABELS, 0)
    q = [0.1, 0.3]
    for rois in (
        RoiMap.from_labels(LABELS, mask=mask, q_inv_angstrom=q),
        RoiMap.from_labels(LABELS, q_inv_angstrom=q).with_mask(mask.astype(np.uint8)),
    ):
        np.testing.assert_array_equal(rois.label_array, expected)
        np.testing.assert_array_equal(rois.n_pixels, [2, 2])
        np.testing.assert_array_equal(rois.q_inv_angstrom, q)


def test_rings_are_those_of_scikit_beam():
    edges = [(3, 7), (7, 9.5), (12, 15)]
    rois = RoiMap.rings((40, 50), (18.3, 22.7), edges, q_inv_angstrom=[0.1, 0.2, 0.3])
    np.testing.assert_array_equal(rois.label_array, skbeam_roi.rings(edges, (18.3, 22.7), (40, 50)))
    np.testing.assert_array_equal(rois.q_inv_angstrom, [0.1, 0.2, 0.3])


def test_rings_may_be_cut_by_the_frame_and_the_mask():
    mask = np.zeros((20, 30), bool)
    mask[:, 15:] = True
    rois = RoiMap.rings((20, 30), (-2, 10), [(5, 15)], mask=mask)
    row, col = np.divmod(rois.pixels, 30)
    radius = np.hypot(row + 2, col - 10)
    assert radius.min() >= 5
    assert radius.max() < 15
    assert col.min() == 15


def test_gather_copies_the_pixels_of_every_frame():
    rois = RoiMap.from_labels(LABELS)
    frames = np.arange(18, dtype=np.uint16).reshape(2, 3, 3)
    gathered = rois.gather(frames)
    assert gathered.dtype == np.uint16
    np.testing.assert_array_equal(gathered, frames.reshape(2, 9)[:, rois.pixels])
    np.testing.assert_array_equal(rois.gather(frames[1]), gathered[1:])
    frames[:] = 0
    assert gathered.sum() > 0


@pytest.mark.parametrize("seed", range(40))
def test_pixels_that_stand_side_by_side_are_copied_in_pieces_to_their_own_places(seed):
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(2, 60, 2)
    stripes = np.add.outer(np.arange(rows) // rng.integers(1, 9), np.arange(cols) // 7) % 5
    labels = stripes if seed % 2 else rng.integers(0, 4, (rows, cols))
    labels[0, -1] = 1
    rois = RoiMap.from_labels(labels)
    frames = rng.integers(1, 60000, (3, rows, cols)).astype(np.uint16)
    np.testing.assert_array_equal(gather(rois, frames), frames.reshape(3, -1)[:, rois.pixels])


def test_gather_of_the_whole_frame_is_no_view():
    rois = RoiMap.from_labels(np.ones((3, 3), int))
    frames = np.ones((1, 3, 3))
    assert not np.shares_memory(rois.gather(frames), frames)


def test_gather_follows_flipped_and_transposed_views():
    rois = RoiMap.from_labels(LABELS)
    frames = np.random.default_rng(0).normal(size=(4, 3, 3))
    for view in (
        frames[:, ::-1],
        frames.transpose(0, 2, 1),
        frames[::2],
        np.asfortranarray(frames),
    ):
        np.testing.assert_array_equal(
            rois.gather(view), np.ascontiguousarray(view).reshape(len(view), 9)[:, rois.pixels]
        )


def test_gather_of_no_frames_has_no_rows():
    assert RoiMap.from_labels(LABELS).gather(np.empty((0, 3, 3))).shape == (0, 6)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((3, 4), "(k, 3, 4)"),
        ((2, 4, 3), "(k, 4, 3)"),  # whatever the block: a run tells the same sentence once
        ((9,), "(9,)"),
        ((1, 1, 3, 3), "(1, 1, 3, 3)"),
    ],
)
def test_frames_of_another_shape_are_refused(shape, told):
    with pytest.raises(FrameShapeError) as caught:
        RoiMap.from_labels(LABELS).gather(np.zeros(shape))
    assert f"got shape {told}, expected (k, 3, 3) or (3, 3)" in str(caught.value)


@pytest.mark.parametrize("dtype", [complex, object, "U3", "M8[s]"])
def test_frames_that_hold_no_real_numbers_are_refused(dtype):
    with pytest.raises(FrameShapeError, match=r"got dtype .*expected integers or floating point"):
        RoiMap.from_labels(LABELS).gather(np.zeros((3, 3), dtype))


def test_q_comes_from_the_geometry_where_it_is_unknown():
    rois = RoiMap.from_labels(LABELS, q_inv_angstrom=[np.nan, 0.5])
    geometry = Geometry(
        beam_center=(0.5, 1.0), wavelength_angstrom=1.2, detector_distance_m=2.0, pixel_size_m=0.01
    )
    expected = []
    for row, col in [(1, 0), (1, 1), (2, 2)]:
        radius = 0.01 * np.hypot(row - 0.5, col - 1.0)
        two_theta = np.arctan2(radius, 2.0)
        expected.append(4 * np.pi / 1.2 * np.sin(two_theta / 2))
    filled = rois.with_q(geometry)
    np.testing.assert_allclose(filled.q_inv_angstrom, [np.mean(expected), 0.5], rtol=1e-13)
    np.testing.assert_array_equal(filled.pixels, rois.pixels)


@pytest.mark.parametrize(
    "missing", ["beam_center", "wavelength_angstrom", "detector_distance_m", "pixel_size_m"]
)
def test_an_incomplete_geometry_tells_no_q_but_the_center_where_it_has_that(missing):
    complete = {
        "beam_center": (0.0, 0.0),
        "wavelength_angstrom": 1.0,
        "detector_distance_m": 1.0,
        "pixel_size_m": 1e-4,
    }
    known = RoiMap.from_labels(LABELS).with_q(Geometry(**{**complete, missing: None}))
    assert np.isnan(known.q_inv_angstrom).all()
    assert known.center == (None if missing == "beam_center" else (0.0, 0.0))


def test_rings_know_their_center_and_a_mask_leaves_it():
    rois = RoiMap.rings((9, 9), (4.0, 3.5), [(1, 3)])
    assert rois.center == (4.0, 3.5)
    mask = np.ones((9, 9), bool)
    mask[4] = False
    assert rois.with_mask(mask).center == (4.0, 3.5)


def test_an_impossible_geometry_is_refused():
    geometry = Geometry(
        beam_center=(0, 0), wavelength_angstrom=0.0, detector_distance_m=1.0, pixel_size_m=1e-4
    )
    with pytest.raises(InvalidInputError, match=r"wavelength 0\.0 Angstrom.*expected positive"):
        RoiMap.from_labels(LABELS).with_q(geometry)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((3, 3), int), "no ROI"),
        (np.zeros((0, 3), int), "no ROI"),
        (np.array([[0, -1], [1, 1]]), r"negative labels \(lowest -1\)"),
        (np.array([[0, 1.5], [1, 1]]), "no whole numbers"),
        (np.array([[0, np.nan], [1, 1]]), "no whole numbers"),
        (np.array([["a", "b"]]), "got dtype"),
        (np.ones(4, int), r"got shape \(4,\), expected \(rows, cols\)"),
        (np.ones((1, 4, 4), int), r"got shape \(1, 4, 4\)"),
    ],
)
def test_label_arrays_that_cannot_be_used_are_refused(labels, message):
    with pytest.raises(InvalidInputError, match=message):
        RoiMap.from_labels(labels)


def test_labels_without_pixels_after_masking_are_named():
    mask = LABELS != 3
    with pytest.raises(InvalidInputError, match=r"labels \[3\] keep no pixel after masking"):
        RoiMap.from_labels(LABELS, mask=mask)
    with pytest.raises(InvalidInputError, match=r"labels \[3\] keep no pixel after masking"):
        RoiMap.from_labels(LABELS).with_mask(mask)
    with pytest.raises(InvalidInputError, match=r"labels \[1, 3\] keep no pixel"):
        RoiMap.from_labels(LABELS).with_mask(np.zeros((3, 3)))


def test_masks_of_another_shape_or_with_other_values_are_refused():
    with pytest.raises(InvalidInputError, match=r"Mask: got shape \(2, 3\), expected \(3, 3\)"):
        RoiMap.from_labels(LABELS, mask=np.ones((2, 3)))
    with pytest.raises(InvalidInputError, match="values other than 0 and 1"):
        RoiMap.from_labels(LABELS).with_mask(np.full((3, 3), 255))


@pytest.mark.parametrize(
    ("q", "message"),
    [
        ([0.1], r"got shape \(1,\), expected \(2,\)"),
        ([0.1, 0.2, 0.3], r"got shape \(3,\), expected \(2,\)"),
        ([0.1, -0.2], "finite values >= 0"),
        ([0.1, np.inf], "finite values >= 0"),
    ],
)
def test_q_lists_that_do_not_fit_are_refused(q, message):
    with pytest.raises(InvalidInputError, match=message):
        RoiMap.from_labels(LABELS, q_inv_angstrom=q)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([3, 5], r"got shape \(2,\), expected \(n_roi, 2\)"),
        ([[3, 5], [7]], r"got \[\[3, 5\], \[7\]\], expected an array of numbers"),
        ([[3, 5, 7]], r"got shape \(1, 3\)"),
        (np.empty((0, 2)), r"got shape \(0, 2\)"),
        ([[5, 3]], "ascend"),
        ([[3, 6], [5, 8]], "without overlap"),
        ([[-1, 3]], ">= 0"),
        ([[1, np.nan]], "finite"),
        ([[1, 5], [100, 110]], r"Rings \[2\]: no pixel of the 20 x 20 frame"),
        ([[4, 4]], r"Rings \[1\]: no pixel"),
    ],
)
def test_ring_edges_that_cannot_be_used_are_refused(edges, message):
    with pytest.raises(InvalidInputError, match=message):
        RoiMap.rings((20, 20), (10, 10), edges)


@pytest.mark.parametrize("center", [(10,), (10, np.nan), 10, ("a", "b")])
def test_rings_need_a_center(center):
    with pytest.raises(InvalidInputError, match="Ring center: got"):
        RoiMap.rings((20, 20), center, [[1, 5]])


def test_rings_need_a_frame_shape():
    with pytest.raises(InvalidInputError, match=r"got \(20,\), expected two positive"):
        RoiMap.rings((20,), (10, 10), [[1, 5]])
    with pytest.raises(InvalidInputError, match="expected two positive"):
        RoiMap.rings((20, 0), (10, 10), [[1, 5]])


@pytest.mark.parametrize("dtype", ["u1", "u2", "<u4", ">u2", "i2", "i4", "f2", "f4", "f8", "?"])
@pytest.mark.parametrize("flip", [1, -1])
def test_the_compiled_way_gathers_the_same_pixels(dtype, flip):
    labels = np.random.default_rng(0).integers(0, 4, (13, 17))
    labels[3:9, 2:15] = 2
    rois = RoiMap.from_labels(labels)
    frames = np.random.default_rng(1).integers(0, 100, (7, 13, 17)).astype(dtype)[:, ::flip]
    frames.flags.writeable = False
    np.testing.assert_array_equal(gather(rois, frames), rois.gather(frames))
    np.testing.assert_array_equal(gather(rois, frames[3]), rois.gather(frames[3]))
    assert gather(rois, frames[:0]).shape == (0, len(rois.pixels))
    with pytest.raises(FrameShapeError, match="Frames: got shape"):
        gather(rois, frames[:, 1:])


def test_sectors_are_parts_of_rings_between_azimuths():
    edges, azimuths = [(5, 9), (9, 14)], [(-30, 30), (60, 120), (170, 190)]
    rois = RoiMap.sectors((40, 40), (20, 19.5), edges, azimuths, q_inv_angstrom=[0.1, 0.2])
    assert rois.labels.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(rois.phi_deg, [0, 90, 180, 0, 90, 180])
    np.testing.assert_allclose(rois.q_inv_angstrom, [0.1] * 3 + [0.2] * 3)
    rings = RoiMap.rings((40, 40), (20, 19.5), edges).label_array
    inside = rois.label_array > 0
    np.testing.assert_array_equal((rois.label_array[inside] - 1) // 3 + 1, rings[inside])
    angles = np.rad2deg(angle_grid((20, 19.5), (40, 40)))
    np.testing.assert_array_equal(
        rois.label_array == 2, (rings == 1) & (angles >= 60) & (angles < 120)
    )
    across = np.abs(angles) >= 170
    np.testing.assert_array_equal(
        (rois.label_array == 3)[angles != 190], ((rings == 1) & across)[angles != 190]
    )


def test_sectors_of_a_whole_circle_are_the_rings():
    whole = RoiMap.sectors(
        (30, 30), (14, 15), [(3, 8)], [(0, 90), (90, 180), (180, 270), (270, 360)]
    )
    np.testing.assert_array_equal(
        whole.label_array > 0, RoiMap.rings((30, 30), (14, 15), [(3, 8)]).label_array > 0
    )
    assert whole.center == (14, 15)


def test_sectors_outside_of_the_frame_or_under_the_mask_are_left_out_and_others_keep_their_labels():
    azimuths = [(-45, 45), (45, 135), (135, 225), (225, 315)]
    mask = np.ones((20, 20), bool)
    mask[:, 3:] = False
    rois = RoiMap.sectors((20, 20), (0, 0), [(5, 15)], azimuths, mask=mask)
    assert rois.labels.tolist() == [2]
    assert rois.phi_deg.tolist() == [90]
    assert rois.with_mask(mask).phi_deg.tolist() == [90]
    with pytest.raises(InvalidInputError, match=r"Sectors: none of \[\[135.0, 225.0\]\]"):
        RoiMap.sectors((20, 20), (0, 0), [(5, 15)], azimuths[2:3])


@pytest.mark.parametrize("azimuths", [[(0, 0)], [(10, 5)], [(0, 200), (180, 300)], [(0, 361)], [1]])
def test_azimuths_that_overlap_or_go_back_are_refused(azimuths):
    with pytest.raises(InvalidInputError, match=r"Azimuths: got .*without overlap"):
        RoiMap.sectors((20, 20), (10, 10), [(3, 8)], azimuths)


def test_the_radius_of_q_is_where_the_map_says_that_q_is():
    geometry = Geometry(
        beam_center=(10, 10), wavelength_angstrom=1.2, detector_distance_m=0.5, pixel_size_m=1e-3
    )
    rings = RoiMap.rings((40, 400), (10, 10), [(299.5, 300.5)]).with_q(geometry)
    radius = radii_of_q(rings.q_inv_angstrom, geometry)
    np.testing.assert_allclose(radius, 300, atol=0.1)
