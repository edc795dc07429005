"""Whatever is missing of a run, and whatever was read only in part, can be drawn."""

import copy
import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from tests.conftest import SyntheticRun
from xpcs_live_denoise.page.figures import Figures
from xpcs_live_denoise.page.page import rois_of, run_texts
from xpcs_live_denoise.page.run_state import RunState
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.views import C2Band, C2Map

N, N_ROI, ALONE, TOGETHER = 24, 3, 12, 60


@pytest.fixture(scope="module")
def figures():
    """Those of a page: what they refuse cannot be drawn."""
    return Figures()


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
    band = run.band(0, N)
    for index in range(N_ROI):
        made.map_of(index).patch(run.c2[index], (0, 0))
        own = slice(index, index + 1)
        made.band_of(index, 50).add(0, band.c2[own], band.denoised[own])
    late = {"seq_num": np.arange(500, 500 + N_ROI * N)}
    made.append("gamma", rows(run))
    made.append("gamma", rows(run, source="bayes", final=True).assign(**late))
    for name in ("series_raw", "series_denoised"):
        made.append("gamma", rows(run, source=name, age_frame=np.nan, age_s=np.nan))
    found = json.dumps([dataclasses.asdict(roi) for roi in run.heterogeneity])
    status = {
        "seq_num": 3,
        "heterogeneity": found,
        "time": 9.0,
        "n_processed": N,
        "n_skipped": 1,
        "lag_s": 0.5,
    }
    lists = {"contrast": "[0.1, null, 0.3]", "baseline": "[]", "skipped": "[]", "message": "well"}
    made.append("status", pd.DataFrame([status | lists]))
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4), np.int64))
    made.data.picture = {"image": rng.poisson(2.0, (8, 8)).astype(float), "roi_labels": labels}
    made.data.picture_facts = {"binning": 2, "n_frames": N}
    values = rng.normal(1.1, 0.01, (4, N_ROI, N - 1))
    made.data.g2 = dict(zip(("g2", "g2_error", "g2_denoised"), values, strict=False))
    made.data.g2["delay_s"] = np.arange(1, N) * 0.5
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
    for index in list(state.data.maps):
        change = rng.integers(6)
        if change == 0:
            del state.data.maps[index]
        elif change < 3:  # made, not read yet, or in part
            state.data.maps[index] = C2Map(N)
            n = rng.integers(N) * (change - 1)
            state.data.maps[index].patch(np.ones((n, n), np.float32), (0, 0))
        elif change == 3:  # gaps
            state.data.maps[index].full(N)[rng.integers(N, size=5)] = np.nan
        change = rng.integers(5)
        if change == 0:
            del state.data.bands[index]
        elif change == 1:
            state.data.bands[index] = C2Band(1, 50)
        elif change == 2:  # another window
            state.band_of(index, 7).add(3, np.ones((1, 4, 7), np.float32))
        elif change == 3:  # as of an earlier version
            del state.data.bands[index]
            state.square_of(index).patch(np.ones((9, 9), np.float32), (4, 4))
    change = rng.integers(6)
    if change < 2:
        state.data.maps.clear()
        state.map_of(0).patch(np.ones((N, N), np.float32), (0, 0))
        state.metadata["n_frames"] = 2500  # of unknown length, and grown before its band
    if change == 1:
        state.data.set_bins(4)
    elif change == 2:
        state.band_of(0, 50).add(0, np.ones((1, 9, 50), np.float32), step=100)


def change_gamma(state, rng):
    change, gamma = rng.integers(8), state.data.gamma
    if change == 0:
        state.data.gamma = None
    elif change < 3:
        state.data.gamma = gamma.select(np.arange(rng.integers(2)))
    elif change == 3:
        state.data.gamma = gamma.select(rng.random(len(gamma)) < 0.2)
    else:
        name = ("converged", "recommended", "relaxation_rate", "age_frame")[change - 4]
        value = False if change < 6 else rng.choice([np.nan, -1.0, 0.0], len(gamma))
        state.data.gamma = gamma.replace(**{name: value})


def change_status(state, rng):
    change = rng.integers(4)
    if change == 0:
        state.data.status = None
    elif change == 1:
        state.data.status = Status(lag_s=math.nan)
    else:
        # A column that is missing, or holds something else than was meant.
        row = {"seq_num": 900, "contrast": "[0.2, null]", "message": None, "lag_s": None}
        row |= {"n_skipped": math.nan, "n_processed": "x"} if change == 2 else {"baseline": 3}
        state.append("status", pd.DataFrame([row]))


def change_picture(state, rng):
    change = rng.integers(8)
    if change < 2:
        del state.data.picture[("image", "roi_labels")[change]]
    elif change == 2:
        state.data.picture["roi_labels"] = state.data.picture["roi_labels"][:3]
    elif change == 3:
        state.data.picture["image"] = np.zeros((rng.integers(2), 5))
    elif change == 4:
        state.data.picture["image"] = np.full((8, 8), [np.nan, 0.0, 3.0][rng.integers(3)])
    elif change == 5:
        state.data.picture["image"] = np.ones(8)
    else:
        state.data.picture_facts = {} if change == 6 else {"binning": None, "n_frames": None}


def change_g2(state, rng):
    change = rng.integers(5)
    for name in rng.permutation(list(state.data.g2))[: 1 + rng.integers(3)]:
        if change == 0:
            del state.data.g2[name]
        elif change == 1:
            state.data.g2[name] = state.data.g2[name][..., : rng.integers(N)]
        elif change == 2:
            state.data.g2[name] = state.data.g2[name][: rng.integers(3)]
        elif change == 3:
            state.data.g2[name] = np.full_like(
                state.data.g2[name], np.nan if name != "delay_s" else 1.0
            )
    if change == 4:
        state.data.g2 = {name: values[..., :0] for name, values in state.data.g2.items()}


CHANGES = (lose_facts, change_frames, reopen, be_gone, lose_maps, change_gamma, change_status)
CHANGES += (change_picture, change_g2)


def draw(state, index, figures):
    """Draw as a page does."""
    roi = f"ROI {state.labels[index]}"
    shown = state.two_time(index)
    assert shown.low < shown.high
    rois = rois_of(state, index)
    figures.show_c2(shown, "both", roi)
    figures.show_g2(state.g2(index), roi)
    figures.show_gamma(state.gamma(index), roi)
    figures.show_heterogeneity(state.heterogeneity(index))
    figures.show_power_law(state.power_law(), rois)
    picture = state.detector(index)
    assert picture is None or 0 < picture.low < picture.high
    figures.show_detector(picture, rois)
    for source in figures.sources.values():
        assert len({len(column) for column in source.data.values()}) == 1


def check(complete, figures, changes, seed):
    rng, state = np.random.default_rng(seed), copy.deepcopy(complete)
    # The facts go last: without them the others would find nothing to change.
    for change in sorted(changes, key=lambda change: change is lose_facts):
        change(state, rng)
    try:
        if state.labels:
            draw(state, int(rng.integers(len(state.labels))), figures)
        json.dumps(run_texts(state, 0, runs=[], now=1e9), allow_nan=False)
    except Exception as error:
        told = [change.__name__ for change in changes]
        raise AssertionError(f"case {seed}: {told}") from error


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_missing_of_a_run_can_be_drawn(complete, figures, change):
    for case in range(ALONE):
        check(complete, figures, (change,), case)


def test_a_run_of_which_several_things_are_missing_can_be_drawn(complete, figures):
    for case in range(TOGETHER):
        rng = np.random.default_rng((1, case))
        chosen = rng.choice(len(CHANGES), 2 + rng.integers(3), replace=False)
        check(complete, figures, [CHANGES[index] for index in chosen], case)


def test_a_run_of_which_everything_is_known_has_something_in_every_figure(complete, figures):
    draw(copy.deepcopy(complete), 1, figures)
    empty = {name for name, s in figures.sources.items() if not len(next(iter(s.data.values())))}
    assert empty == {"cuts", "denoised", "doubtful"}
