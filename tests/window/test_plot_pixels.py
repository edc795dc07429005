"""Images without interpolation: the same pixels as matplotlib's own."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from xpcs_live_denoise.window.cells import Pixels, show_pixels


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


def values(shape=(25, 40)):
    data = np.random.default_rng(3).uniform(0.5, 20.0, shape)
    data[3, 4:9] = np.nan
    return data


def both(data, limits=None, extent=None, **options):
    """Draw with imshow and with show_pixels; return the two pictures and the latter's image."""
    pictures = []
    for ours in (False, True):
        figure = Figure(figsize=(5, 4), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        if ours:
            image = show_pixels(axes, data, **options)
        else:
            image = axes.imshow(data, interpolation="nearest", aspect="equal", **options)
        if extent:
            image.set_extent(extent)
        if limits:
            axes.set(xlim=limits[0], ylim=limits[1])
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()).astype(int))
    return (*pictures, image)


def cmap():
    return mpl.colormaps["viridis"].with_extremes(bad="red")


@pytest.mark.parametrize("norm", [Normalize(1, 15), LogNorm(1, 20)])
@pytest.mark.parametrize("origin", ["upper", "lower"])
@pytest.mark.parametrize(
    ("extent", "limits"),
    [
        (None, None),
        ((0, 80, 0, 50), ((0, 80), (0, 50))),
        ((0, 80, 50, 0), ((0, 80), (50, 0))),
        ((0, 80, 0, 50), ((11.3, 37.9), (8.2, 44.4))),
        ((0, 80, 0, 50), ((-60, 160), (-20, 90))),
        ((0, 80, 0, 50), ((80, 0), (0, 50))),
    ],
    ids=["as it is", "extent", "downwards", "zoomed", "small", "mirrored"],
)
def test_an_image_has_the_pixels_of_imshow(norm, origin, extent, limits):
    expected, got, _ = both(values(), limits, extent, norm=norm, origin=origin, cmap=cmap())
    # Where cells meet, and at the edge of the axes, a pixel may go to the one or to the other.
    different = (abs(expected - got) > 2).any(axis=-1)
    assert different.mean() < 0.02


def test_colours_are_shown_as_they_are():
    data = np.random.default_rng(4).integers(0, 256, (20, 25, 4), dtype=np.uint8)
    expected, got, _ = both(data)
    assert ((abs(expected - got) > 2).any(axis=-1)).mean() < 0.02


def test_new_values_and_a_new_scale_are_shown():
    *_, image = both(values(), norm=Normalize(1, 15))
    canvas = image.figure.canvas
    seen = [np.asarray(canvas.buffer_rgba()).copy()]
    for change in (lambda: image.set_clim(1, 5), lambda: image.set_data(values()[::-1])):
        change()
        canvas.draw()
        seen.append(np.asarray(canvas.buffer_rgba()).copy())
    assert (seen[0] != seen[1]).any()
    assert (seen[1] != seen[2]).any()


def test_an_image_out_of_sight_draws_nothing():
    *_, image = both(values(), ((100, 200), (100, 200)))
    pixels = np.asarray(image.figure.canvas.buffer_rgba())
    assert (pixels[180:220, 220:280, :3] == 255).all()


def test_other_formats_than_pixels_hold_the_image():
    *_, image = both(values())
    assert isinstance(image, Pixels)
    file = io.BytesIO()
    image.figure.savefig(file, format="svg")
    assert b"<image" in file.getvalue()
