"""A training for images of few counts learns, keeps its best state, and writes its card."""

import json

import numpy as np
import pytest
import torch

from xpcs_live_denoise.denoising.frames.denoiser import SHIPPED
from xpcs_live_denoise.denoising.training.frames import FrameRecipe, train_frames
from xpcs_live_denoise.denoising.training.image_pairs import MeasuredImages, SimulatedImages
from xpcs_live_denoise.denoising.training.images import COUNTS

SHAPE = (64, 64)
FEW = {"steps": 12, "batch": 4, "minutes": 60.0, "learning_rate": 0.1}


def pairs_of_stripes(n, seed=0):
    """Stripes as wide as a pixel, which no smooth estimate has."""
    rng = np.random.default_rng(seed)
    rate = np.where(np.arange(SHAPE[1]) % 2, 0.2, 2.0) * np.ones(SHAPE)
    return list(
        zip(rng.poisson(rate, (n, *SHAPE)), rng.poisson(20 * rate, (n, *SHAPE)), strict=True)
    )


def images():
    return MeasuredImages.of_pairs(pairs_of_stripes(10), description={"pairs": 10})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("frames")
    scores = []
    made = train_frames(
        images(), folder, recipe=FrameRecipe(**FEW), start=None,
        progress=lambda now: scores.append(now.score),
    )  # fmt: skip
    return made, json.loads((folder / "model_card.json").read_text()), scores


def test_what_it_has_learned_predicts_photons_that_nobody_learned_from(trained):
    made, card, scores = trained
    metrics = card["metrics"]
    assert metrics["score"] == min(scores) < metrics["at_first"] - 0.02
    (low, high), *_ = pairs_of_stripes(1, seed=5)
    known = np.ones(SHAPE, bool)

    def deviance(expected):
        return float((20 * expected - high * np.log(20 * expected)).mean())

    made_of = deviance(made.expected(low.astype(float), known))
    smooth = deviance(load_start().expected(low.astype(float), known))
    assert made_of < smooth - 0.2


def load_start():
    """The network before it learns: the smooth estimate."""
    from xpcs_live_denoise.denoising.frames.denoiser import FrameDenoiser
    from xpcs_live_denoise.denoising.frames.networks import NETWORKS

    return FrameDenoiser({"new": NETWORKS["light"]().eval()}, {"new": {"network": "light"}})


def test_the_card_says_what_a_training_used_and_the_shipped_cards_say_the_same(trained):
    _, card, _ = trained
    assert card["recipe"]["steps"] == FEW["steps"]
    assert card["device"] == "cpu"
    simulated = SimulatedImages(n_images=5, n_choosing=5)
    defaults = FrameRecipe()
    for name in ("large", "small"):
        shipped = json.loads((SHIPPED / name / "model_card.json").read_text())
        assert card.keys() <= shipped.keys()
        assert shipped["recipe"].keys() == card["recipe"].keys()
        assert shipped["trained_on"].keys() == simulated.description.keys()
        assert shipped["trained_on"]["counts"] == list(COUNTS)
        for field in ("loss", "batch", "learning_rate", "share_center"):
            assert shipped["recipe"][field] == getattr(defaults, field)
        more = simulated.by_class(torch.zeros(5))
        assert more["ln_excess"].keys() == shipped["metrics"]["ln_excess"].keys()
