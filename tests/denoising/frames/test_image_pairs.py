"""Pairs to learn from: what is input and target, what is compared, and how sure that is."""

import numpy as np
import pytest
import torch

from xpcs_live_denoise.denoising.evaluation import frames as evaluation
from xpcs_live_denoise.denoising.training.image_pairs import SIZE, MeasuredImages


def series(n_views, *, shape=(SIZE, SIZE), each=1.0):
    """View k holds 2^k everywhere: which views a sum holds can be read from it."""
    views = np.broadcast_to(2.0 ** np.arange(n_views)[:, None, None], (n_views, *shape))
    numbers = np.full(n_views, each, np.int64)
    return MeasuredImages.of_series(views, numbers, np.ones(shape, bool), description={})


def views_in(number):
    return {k for k in range(64) if (round(float(number)) >> k) & 1}


def test_views_that_are_next_to_the_input_in_time_are_no_target():
    images, generator = series(20), torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(20):
        batch = images.batch(4, generator)
        for few, many in zip(batch.counts[:, 0, 0], batch.target[:, 0, 0], strict=True):
            some = views_in(few)
            # Of 20 views the last four choose.
            others = [k for k in range(16) if min(abs(k - one) for one in some) > 2]
            expected = sum(2.0**k for k in others) * len(some) / len(others)
            assert float(many) == pytest.approx(expected, rel=1e-5)
            drawn.append(min(some))
    assert len(set(drawn)) > 8


def test_a_target_of_more_frames_is_on_the_scale_of_the_input():
    rng, rate = np.random.default_rng(0), 3.0
    numbers = rng.integers(1, 30, 24)
    views = rng.poisson(rate * numbers[:, None, None], (24, SIZE, SIZE)).astype(np.float32)
    images = MeasuredImages.of_series(views, numbers, np.ones((SIZE, SIZE), bool), description={})
    batch = images.batch(12, torch.Generator().manual_seed(1))
    ratio = batch.target.mean(dim=(1, 2)) / batch.counts.mean(dim=(1, 2))
    np.testing.assert_allclose(ratio, 1, atol=0.02)
    assert batch.counts.mean(dim=(1, 2)).max() > 4 * batch.counts.mean(dim=(1, 2)).min()


def test_what_is_compared_covers_each_pixel_at_most_once():
    shape = (SIZE + 40, 2 * SIZE + 8)
    names = np.arange(shape[0] * shape[1], dtype=np.float64).reshape(shape) + 1
    pairs = [(np.ones(shape, np.float32), names)] * 6
    images = MeasuredImages.of_pairs(pairs, description={})
    cuts = list(images.held_out(torch.Generator().manual_seed(0)))
    assert len(cuts) == 2 * 3  # one pair of six is set apart
    scale = names.mean()
    seen = torch.cat([batch.target[batch.valid > 0] for _, batch in cuts]).double() * scale
    assert len(np.unique(np.rint(seen.numpy()))) == len(seen) == names.size


def test_the_error_of_a_comparison_is_how_much_it_scatters(monkeypatch):
    """Of two methods that differ by noise alone the difference scatters by its error."""
    rng = np.random.default_rng(4)

    def noisy(counts, valid, center, rng_of_method):
        return np.full(counts.shape, 2.0) * np.exp(0.3 * rng.standard_normal(counts.shape))

    flat = {"model": lambda counts, *_: np.full(counts.shape, 2.0), "noisy": noisy}
    monkeypatch.setattr(evaluation, "methods_with", lambda _: flat)
    found = []
    for _ in range(25):
        pairs = rng.poisson(2.0, (5, 2, SIZE, SIZE)).astype(np.uint16)
        images = MeasuredImages.of_pairs(list(pairs), description={})
        found.append(evaluation.compare_measured(None, images).rows["noisy"])
    difference, error = np.array(found).T
    assert np.median(error) == pytest.approx(difference.std(ddof=1), rel=0.4)
    table = evaluation.compare_measured(None, images)
    assert "1 cuts, 16 blocks" in table.title
