"""Every command and every line of Python in the documentation, run as it stands there."""

import functools
import shutil

import matplotlib as mpl
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter

from tests.support.snippets import REPOSITORY, WHY_NOT, Reader, snippets_of
from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, save_rois, simulate_speckle
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded
from xpcs_live_denoise.simulation.eiger import SeriesFiles

PAGES = sorted(
    str(page.relative_to(REPOSITORY))
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md"))
    if snippets_of(page)
)
TYPED = [page for page in PAGES if any(not s.why_not for s in snippets_of(REPOSITORY / page))]
CENTER = (127.5, 127.5)
N_FRAMES = 120


@pytest.fixture(scope="module")
def beamline(tmp_path_factory):
    """What a beamline has: a detector, its files, ROIs and mask, and two analysed runs in Tiled."""
    import bluesky.plans as bp

    from tests.support.tiled_servers import Server

    folder = tmp_path_factory.mktemp("beamline")
    rings = RoiMap.rings((256, 256), CENTER, [(20, 30), (30, 40)])
    frames = np.concatenate(
        [*simulate_speckle(rings, N_FRAMES, relaxation_rate=0.05, mean_counts=0.5, seed=3)]
    )
    save_rois(rings, folder / "saxs_rings.npz")
    np.save(folder / "eiger4m_mask.npy", np.ones((256, 256), bool))
    geometry = Geometry(
        beam_center=CENTER, wavelength_angstrom=1.28, detector_distance_m=16.0, pixel_size_m=75e-6
    )
    device = SimulatedClassicEiger(
        recorded(frames),
        folder,
        name="eiger4m_single",
        prefix="gel",
        n_frames=N_FRAMES,
        geometry=geometry,
        make_files=functools.partial(SeriesFiles, geometry=geometry),
    )
    device.file.sequence_id.put(11)  # the next series is gel_12
    with Server(folder / "server", readable=folder) as server:
        client = server.client()
        for name in ("raw", "processed"):
            client.create_container("chx") if "chx" not in client else None
            client["chx"].create_container(name)
        engine = RunEngine()
        engine.md["scan_id"] = 76
        uids = []
        engine.subscribe(lambda _, doc: uids.append(doc["uid"]), "start")
        engine.subscribe(TiledWriter(client["chx/raw"]))
        settings = Settings(
            detector="eiger4m_single",
            tiled={"uri": server.uri, "path": "chx/processed", "raw_path": "chx/raw"},
        )
        live = LiveDenoise(settings, rois=rings, catalog=client, device=device)
        engine.subscribe(live)
        for temperature in (20, 30):
            engine(bp.count([device], md={"sample": "gel", "T_sample": temperature}))
        assert live.wait(120)
        live.close()
        yield folder, server, device, uids
        client.context.close()


@pytest.fixture
def reader(beamline, tmp_path, monkeypatch, request):
    """A reader in an empty folder with the beamline's files, who has a session like its profile."""
    folder, server, device, uids = beamline
    if "tutorial" in request.node.name:  # begins with nothing but the package
        reader = Reader(tmp_path, {}, {})
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        yield reader
        reader.names["catalog"].context.close()
        reader.close()
        return
    for file in (*folder.glob("gel_12_*"), folder / "saxs_rings.npz", folder / "eiger4m_mask.npy"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    mpl.use("Agg")
    tiled = f"{{uri: '{server.uri}', path: chx/processed, raw_path: chx/raw}}"
    (tmp_path / "xpcs.yml").write_text(
        "detector: eiger4m_single\nrois: saxs_rings.npz\n"
        f"file_roots: ['{folder}']\ntiled: {tiled}\n"
    )
    catalog = server.client()["chx"]
    engine = RunEngine()
    engine.subscribe(TiledWriter(catalog["raw"]))
    names = {"RE": engine, "eiger4m_single": device, "catalog": catalog}
    reader = Reader(
        tmp_path,
        names,
        {
            "ff4a9785": uids[1][:8],
            "https://tiled.nsls2.bnl.gov": server.uri,
            "https://tiled.example.org": server.uri,
            "export TILED_API_KEY=secret": f"export TILED_API_KEY={server.api_key}",
            "/nsls2/data/chx": str(folder),
            "[/data]": f"[{folder}]",
            "plot=True": 'plot="live.png"',
        },
    )
    yield reader
    reader.close()
    names["catalog"].context.close()
    for name in ("live_denoise", "publisher"):
        if name in names:
            names[name].close()


@pytest.mark.deployment
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", TYPED)
def test_a_reader_can_type_what_a_page_shows(reader, page):
    path = REPOSITORY / page
    for snippet in snippets_of(path):
        if not snippet.why_not:
            reader.type(path, snippet)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page):
    reasons = {s.why_not for s in snippets_of(REPOSITORY / page) if s.why_not}

    assert reasons <= WHY_NOT
