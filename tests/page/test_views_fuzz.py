"""Whatever is missing of a run, and whatever was read only in part, can be drawn."""

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest

from tests.conftest import SyntheticRun
from xpcs_live_denoise.page import page as texts
from xpcs_live_denoise.page import views
from xpcs_live_denoise.page.figures import (
    C2Figures,
    DetectorFigure,
    DispersionFigure,
    G2Figure,
    GammaFigure,
)
from xpcs_live_denoise.page.run_state import C2Map, RunState

N, N_ROI, CASES = 24, 3, 40


@pytest.fixture(scope="module")
def figures():
    """Those of a page: what they refuse cannot be drawn."""
    return C2Figures(), G2Figure(), GammaFigure(), DispersionFigure(), DetectorFigure()


def rows(run, **columns):
    frame = run.gamma(range(N)).to_pandas().assign(**columns)
    return frame.assign(seq_num=np.arange(1, len(frame) + 1))


@pytest.fixture(scope="module")
def complete():
    """The state of a run of which everything is known; to be copied."""
    run, rng = SyntheticRun(n_roi=N_ROI, n_frames=N), np.random.default_rng(0)
    made = RunState("u")
    xpcs = {"roi": [1, 2, 3], "q_inv_angstrom": [0.01, 0.02, 0.04]}
    xpcs |= {"frame_time_s": 0.5, "n_expected": N, "detector": "eiger"}
    start = {"xpcs": xpcs, "scan_id": 7, "sample": "gel", "time": 5.0}
    made.set_metadata({"start": start, "n_frames": N, "stop": {"exit_status": "success"}})
    for index in range(N_ROI):
        for kind in ("c2", "c2_denoised"):
            made.map_of(index, kind).patch(run.c2[index], (0, 0))
    late = {"seq_num": np.arange(500, 500 + N_ROI * N)}
    made.append("gamma", rows(run))
    made.append("gamma", rows(run, source="bayes", final=True).assign(**late))
    for name in ("series_raw", "series_denoised"):
        made.append("gamma", rows(run, source=name, age_frame=np.nan, age_s=np.nan))
    status = {"seq_num": 3, "time": 9.0, "n_processed": N, "n_skipped": 1, "lag_s": 0.5}
    lists = {"contrast": "[0.1, null, 0.3]", "baseline": "[]", "skipped": "[]", "message": "well"}
    made.append("status", pd.DataFrame([status | lists]))
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), np.int64))
    made.picture = {"image": rng.poisson(2.0, (8, 8)).astype(float), "roi_labels": labels}
    made.picture_facts = {"binning": 2, "n_frames": N}
    values = rng.normal(1.1, 0.01, (4, N_ROI, N - 1))
    made.g2 = dict(zip(("g2", "g2_error", "g2_denoised"), values, strict=False))
    made.g2["delay_s"] = np.arange(1, N) * 0.5
    made.loaded = made.complete = True
    return made


def lose_facts(state, rng):
    start = state.metadata["start"]
    change = rng.integers(8)
    if change == 0:
        state.metadata["start"] = None
    elif change == 1:
        start["xpcs"] = None
    elif change == 2:
        start["xpcs"]["roi"] = start["xpcs"]["roi"][: rng.integers(3)]
    elif change == 3:
        start["xpcs"]["q_inv_angstrom"] = [None, None, 0.02][: rng.integers(4)]
    else:
        name = ("q_inv_angstrom", "frame_time_s", "n_expected", "roi")[change - 4]
        start["xpcs"].pop(name) if rng.integers(2) else start["xpcs"].update({name: None})


def change_frames(state, rng):
    state.metadata["n_frames"] = [None, 0, 1, 2, 5, N - 1, N + 1, 3 * N][rng.integers(8)]


def reopen(state, rng):
    state.complete = False
    if rng.integers(2):
        del state.metadata["stop"]


def be_gone(state, rng):
    state.lose("nothing there")


def lose_maps(state, rng):
    for key in list(state.maps):
        change = rng.integers(6)
        if change == 0:
            del state.maps[key]
        elif change < 3:  # made, not read yet, or in part
            state.maps[key] = C2Map(N)
            n = rng.integers(N) * (change - 1)
            state.maps[key].patch(np.ones((n, n), np.float32), (0, 0))
        elif change == 3:  # gaps
            state.maps[key].full(N)[rng.integers(N, size=5)] = np.nan
    if not rng.integers(3):
        state.maps.clear()
        state.map_of(0, "c2").patch(np.ones((N, N), np.float32), (0, 0))
        state.metadata["n_frames"] = 2500  # of unknown length, and grown before the other map
        state.map_of(0, "c2_denoised").patch(np.ones((9, 9), np.float32), (4, 4))


def change_gamma(state, rng):
    change, n = rng.integers(8), len(state.gamma)
    if change == 0:
        state.gamma = None
    elif change < 3:
        state.gamma = state.gamma.iloc[: rng.integers(2)]
    elif change == 3:
        state.gamma = state.gamma[rng.random(n) < 0.2]
    else:
        name = ("converged", "recommended", "relaxation_rate", "age_frame")[change - 4]
        state.gamma[name] = False if change < 6 else rng.choice([np.nan, -1.0, 0.0], n)


def change_status(state, rng):
    change = rng.integers(4)
    if change == 0:
        state.status = None
    elif change == 1:
        for name in rng.permutation(list(state.status))[: rng.integers(9)]:
            del state.status[name]
    elif change == 2:
        state.status |= {"lag_s": math.nan, "n_skipped": math.nan, "n_processed": math.nan}
    else:
        state.status |= {"contrast": ["x", math.nan], "message": None, "lag_s": None}


def change_picture(state, rng):
    change = rng.integers(8)
    if change < 2:
        del state.picture[("image", "roi_labels")[change]]
    elif change == 2:
        state.picture["roi_labels"] = state.picture["roi_labels"][:3]
    elif change == 3:
        state.picture["image"] = np.zeros((rng.integers(2), 5))
    elif change == 4:
        state.picture["image"] = np.full((8, 8), [np.nan, 0.0, 3.0][rng.integers(3)])
    elif change == 5:
        state.picture["image"] = np.ones(8)
    else:
        state.picture_facts = {} if change == 6 else {"binning": None, "n_frames": None}


def change_g2(state, rng):
    change = rng.integers(5)
    for name in rng.permutation(list(state.g2))[: 1 + rng.integers(3)]:
        if change == 0:
            del state.g2[name]
        elif change == 1:
            state.g2[name] = state.g2[name][..., : rng.integers(N)]
        elif change == 2:
            state.g2[name] = state.g2[name][: rng.integers(3)]
        elif change == 3:
            state.g2[name] = np.full_like(state.g2[name], np.nan if name != "delay_s" else 1.0)
    if change == 4:
        state.g2 = {name: values[..., :0] for name, values in state.g2.items()}


CHANGES = (lose_facts, change_frames, reopen, be_gone, lose_maps, change_gamma, change_status)
CHANGES += (change_picture, change_g2)


def draw(state, index, figures):
    """Draw as a page does; return the texts."""
    c2, g2, gamma, dispersion, detector = figures
    roi = f"ROI {state.labels[index]}"
    shown = views.two_time(state, index)
    assert shown["low"] < shown["high"]
    c2.show(shown, "both", roi)
    g2.show(views.one_time(state, index), roi, live=state.live)
    gamma.show(views.rates(state, index), roi)
    dispersion.show(views.dispersion(state))
    picture = views.detector(state, index)
    assert picture is None or 0 < picture["low"] < picture["high"]
    detector.show(picture, live=state.live)
    sources = [*c2.sources.values(), *g2.sources.values(), *gamma.sources.values()]
    for source in (*sources, dispersion.points, dispersion.line, detector.image, detector.outline):
        assert len({len(column) for column in source.data.values()}) == 1


def changed(state, rng):
    """Return a state of which something is lost, and what."""
    state = copy.deepcopy(state)
    chosen = rng.choice(CHANGES, 1 + rng.integers(4), replace=False)
    # The facts go last: without them the others would find nothing to change.
    for change in sorted(chosen, key=lambda change: change is lose_facts):
        change(state, rng)
    return state, [change.__name__ for change in chosen]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_missing_of_a_run_can_be_drawn(complete, figures, seed):
    for case in range(CASES):
        rng = np.random.default_rng((seed, case))
        state, told = changed(complete, rng)
        try:
            if state.labels:
                draw(state, int(rng.integers(len(state.labels))), figures)
            said = texts.run_texts(state, 0, detector="", silent_since=state.silent_since(1e9))
            json.dumps(said, allow_nan=False)
        except Exception as error:
            raise AssertionError(f"case {seed}, {case}: {told}") from error


def test_a_run_of_which_everything_is_known_has_something_in_every_figure(complete, figures):
    draw(copy.deepcopy(complete), 1, figures)
    c2, g2, gamma, dispersion, detector = figures
    sources = [*c2.sources.values(), *g2.sources.values(), gamma.sources["recommended"]]
    for source in (*sources, dispersion.points, dispersion.line, detector.image):
        assert len(next(iter(source.data.values())))
