"""RunDocuments: events that name datums, as classic ophyd writes them."""

from __future__ import annotations

from typing import Any

import pytest

from xpcs_live_denoise.records.frames import AssetFrames, EigerFrames, HDF5Frames, MissingFrames
from xpcs_live_denoise.sources.events import MOST_WAITING

KEY = "eiger_image"


def image_key(*shape: Any) -> dict[str, Any]:
    return {"source": "SIM", "dtype": "array", "shape": list(shape), "external": "FILESTORE:"}


def configured(n_images: Any) -> dict[str, Any]:
    return {"eiger": {"data": {"eiger_cam_num_images": n_images}, "timestamps": {}}}


@pytest.mark.parametrize("spec", ["AD_EIGER2", "AD_EIGER"])
def test_one_event_of_an_eiger_holds_the_whole_series(Run, spec):
    run = Run()
    stream = run.describe(configuration=configured(400), **{KEY: image_key(400, 2167, 2070)})
    asset = run.asset(spec, path="nsls2/xf11id/data/abc_12", images_per_file=100)
    run.event_of(stream, asset, seq_id=7)
    assert run.references == [
        EigerFrames(
            prefix="/nsls2/xf11id/data/abc_12",
            sequence_id=7,
            start=0,
            stop=400,
            images_per_file=100,
            open_ended=True,
        )
    ]
    assert run.documents.n_frames == 400
    assert run.documents.n_expected == 400


@pytest.mark.parametrize(
    ("shape", "n_images", "stop", "frame_shape"),
    [
        ((500, 2167, 2070), None, 500, (2167, 2070)),
        ((500, 2167, 2070), 400, 400, (2167, 2070)),
        ((2167, 2070), 400, 400, (2167, 2070)),
        ((2167, 2070), None, None, (2167, 2070)),
        ((0, 2167, 2070), None, None, (2167, 2070)),
        ((2070, 2167, 0), None, None, (2167, 2070)),
        ((2070, 2167, 0), 400, 400, (2167, 2070)),
        ((2070, 2167, 400), 400, 400, (2167, 2070)),
        ((2167, 2070), "400", 400, (2167, 2070)),
        ((2167, 2070), 10**15, None, (2167, 2070)),
        ((2167, 2070), float("nan"), None, (2167, 2070)),
    ],
)
def test_every_order_of_axes_that_chx_has_used_is_understood(
    Run, shape, n_images, stop, frame_shape
):
    run = Run()
    stream = run.describe(configuration=configured(n_images), **{KEY: image_key(*shape)})
    run.event_of(stream, run.asset("AD_EIGER2", images_per_file=100), seq_id=1)
    (reference,) = run.references
    assert (reference.start, reference.stop) == (0, stop)
    assert run.documents.frame_shape == frame_shape
    assert run.documents.n_frames == (stop or 0)


def test_every_event_of_a_count_is_a_series_of_its_own(Run):
    run = Run(num_points=3)
    stream = run.describe(configuration=configured(50), **{KEY: image_key(4, 6)})
    asset = run.asset("AD_EIGER2", images_per_file=50)
    assert run.documents.n_expected == 150
    for seq_id in (4, 5, "6"):
        run.event_of(stream, asset, seq_id=seq_id)
    assert [(r.sequence_id, r.stop) for r in run.references] == [(4, 50), (5, 50), (6, 50)]


def test_a_datum_may_be_one_frame_of_a_series(Run):
    run = Run()
    stream = run.describe(configuration=configured(50), **{KEY: image_key(4, 6)})
    asset = run.asset("AD_EIGER_SLICE", frame_per_point=100)
    run.event_of(stream, asset, seq_id=4, frame_num=0)
    run.event_of(stream, asset, seq_id=4, frame_num=1)
    assert [(r.start, r.stop, r.images_per_file) for r in run.references] == [
        (0, 1, 100),
        (1, 2, 100),
    ]
    assert not any(r.open_ended for r in run.references)


def test_other_specs_are_left_to_their_handlers(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(4, 6)})
    asset = run.asset("AD_HDF5", path="d/a.h5", frame_per_point=5)
    datum = run.event_of(stream, asset, point_number=3)
    (reference,) = run.references
    assert isinstance(reference, AssetFrames)
    assert reference.n_frames == 5
    assert reference.resource["uid"] == asset.resource_doc["uid"]
    assert reference.datum == datum


def test_the_swmr_spec_is_read_without_its_broken_handler(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(4, 6)})
    asset = run.asset("AD_HDF5_SWMR", root="/data", path="a.h5", frame_per_point=5)
    run.event_of(stream, asset, point_number=3)
    assert run.references == [
        HDF5Frames(path="/data/a.h5", dataset="/entry/data/data", start=15, stop=20, swmr=True)
    ]


def test_an_event_waits_for_its_datum_and_keeps_its_turn(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(4, 6)})
    asset = run.asset("AD_EIGER2", images_per_file=10)
    late = run.event_of(stream, asset, datum_first=False, seq_id=1)
    run.event_of(stream, asset, seq_id=2)
    assert run.references == []
    run.router("datum", late)
    assert [r.sequence_id for r in run.references] == [1, 2]


def test_a_datum_that_never_comes_is_given_up_when_many_wait_or_at_the_stop(Run):
    run = Run()
    stream = run.describe(**{KEY: image_key(3, 4, 6)})
    asset = run.asset("AD_EIGER2", images_per_file=10)
    run.event_of(stream, asset, datum_first=False, seq_id=0)
    for seq_id in range(1, MOST_WAITING + 1):
        run.event_of(stream, asset, seq_id=seq_id)
    first, *others = run.references
    assert isinstance(first, MissingFrames)
    assert first.n_frames == 3
    assert "datums that never came" in first.reason
    assert [r.sequence_id for r in others] == list(range(1, MOST_WAITING + 1))

    run.event_of(stream, asset, datum_first=False, seq_id=99)
    run.router("stop", run.bundle.compose_stop())
    assert isinstance(run.references[-1], MissingFrames)
    assert run.documents.n_frames == 3 * (MOST_WAITING + 2)


def test_resources_without_a_run_and_of_other_keys_do_no_harm(Run):
    run = Run()
    stream = run.describe(
        **{KEY: image_key(4, 6), "other_image": image_key(9, 9)}, configuration=configured(10)
    )
    mine, other = (run.bundle.compose_resource(
        spec="AD_EIGER2", root="/", resource_path=f"data/{name}", resource_kwargs={}
    ) for name in ("mine", "other"))  # fmt: skip
    datums = {}
    for key, asset in (("other_image", other), (KEY, mine)):
        doc = {k: v for k, v in asset.resource_doc.items() if k != "run_start"}
        run.router("resource", doc)
        datums[key] = asset.compose_datum(datum_kwargs={"seq_id": 5})
        run.router("datum", datums[key])
    data = {key: datum["datum_id"] for key, datum in datums.items()}
    run.router(
        "event",
        stream.compose_event(
            data=data,
            timestamps=dict.fromkeys(data, 0.0),
            filled=dict.fromkeys(data, False),
            validate=False,
        ),
    )
    assert [r.prefix for r in run.references] == ["/data/mine"]


@pytest.mark.parametrize(
    ("spec", "options", "where"),
    [
        ("AD_EIGER2", {"images_per_file": 10}, {}),
        ("AD_EIGER2", {"images_per_file": 10}, {"seq_id": "../../etc"}),
        ("AD_EIGER2", {"images_per_file": 10}, {"seq_id": 1, "frame_num": -4}),
        ("AD_EIGER2", {"images_per_file": 10}, {"seq_id": float("nan")}),
        ("AD_HDF5_SWMR", {"frame_per_point": 10}, {"point_number": 2.5}),
        ("AD_HDF5", {"frame_per_point": 10**15}, {"point_number": 0}),
    ],
)
def test_what_a_datum_says_wrong_keeps_its_place(Run, spec, options, where):
    run = Run()
    stream = run.describe(**{KEY: image_key(10, 4, 6)})
    run.event_of(stream, run.asset(spec, **options), **where)
    (reference,) = run.references
    assert isinstance(reference, MissingFrames)
    assert reference.n_frames == 10
    assert "its frames cannot be found" in reference.reason
