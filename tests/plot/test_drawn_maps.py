"""Pictures of maps have the classes' own colours and names, and a colour bar that says what the numbers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import rioxarray
import torch
import xarray as xr
from matplotlib.colors import to_hex

import prithvi
from prithvi import plot
from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError, SceneError
from prithvi.modelio.predictor import FittedModel
from prithvi.plot.drawing import OKABE_ITO, class_colors
from tests.plot.conftest import drawn, texts

EXTENT = [600_000, 600_800, 4_199_400, 4_200_000]
FLAT = Contract(PRITHVI_BANDS, (0.0,) * 6, (1.0,) * 6, scale=1.0)


@pytest.fixture
def flood(scene: xr.DataArray, fitted: FittedModel) -> xr.Dataset:
    result = prithvi.map(scene, fitted, probabilities=True).compute()
    assert set(np.unique(result["class"])) == {0, 1, 255}
    return result


def legend_colors(ax: plt.Axes) -> list[str]:
    return [to_hex(handle.get_facecolor()) for handle in ax.get_legend().legend_handles]


def bar_of(ax: plt.Axes) -> Any:
    return ax.images[0].colorbar


def test_a_class_map_has_its_model_s_colours_and_names(flood: xr.Dataset) -> None:
    ax = plot.classes(flood)
    assert texts(ax) == ["land", "water"]
    assert legend_colors(ax) == ["#e8e4d0", "#2b6cb0"]
    picture = (drawn(ax) * 255).round().astype(int)
    for value, color in ((0, (0xE8, 0xE4, 0xD0)), (1, (0x2B, 0x6C, 0xB0)), (255, (255, 255, 255))):
        assert (picture[flood["class"].values == value] == color).all()
    assert ax.images[0].get_extent() == EXTENT
    assert plot.classes(flood["class"], legend=False).get_legend() is None


def test_a_written_map_opened_again_looks_the_same(flood: xr.Dataset, tmp_path: Path) -> None:
    expected = plot.classes(flood)
    path = flood.prithvi.to_cog(tmp_path / "flood.tif", confidence=True)
    with rioxarray.open_rasterio(path) as opened:
        assert isinstance(opened, xr.DataArray)
        for again in (path, str(path), opened):
            ax = plot.classes(again)
            np.testing.assert_array_equal(drawn(ax), drawn(expected))
            assert texts(ax) == ["land", "water"]
            assert legend_colors(ax) == legend_colors(expected)
            assert ax.images[0].get_extent() == EXTENT
    confidence = plot.values(tmp_path / "flood_confidence.tif")
    np.testing.assert_allclose(drawn(confidence), flood["confidence"].values, atol=0.5 / 250 + 1e-6)
    assert confidence.images[0].get_clim() == (0, 1)


def test_classes_without_colours_get_those_of_okabe_and_ito() -> None:
    ax = plot.classes(np.array([[0, 1], [2, 7]]), names=["maize", "grass", "other"])
    assert texts(ax) == ["maize", "grass", "other"]
    assert legend_colors(ax) == [f"#{color.lower()}" for color in OKABE_ITO[:3]]
    assert (drawn(ax)[1, 1] == 1).all()  # a number without a name
    own = plot.classes(np.zeros((2, 2)), names=["a"], colors=["123456"])
    assert legend_colors(own) == ["#123456"]
    assert len(set(class_colors(24))) == 24


def test_what_is_no_class_map_is_said_in_a_sentence(flood: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody says what the classes of this map are called: give names=\["):
        plot.classes(np.zeros((4, 4), int))
    with pytest.raises(ConfigError, match="a class map holds class; this holds confidence, probability"):
        plot.classes(flood.drop_vars("class"))
    with pytest.raises(ConfigError, match=r"1 colours for 2 classes \(a, b\)"):
        plot.classes(np.zeros((4, 4), int), names=["a", "b"], colors=["000000"])
    with pytest.raises(SceneError, match=r"nothing.tif cannot be read as a class map"):
        plot.classes(tmp_path / "nothing.tif")
    with pytest.raises(SceneError, match="two dimensions"):
        plot.classes(np.zeros((2, 4, 4), int), names=["a"])
    with pytest.raises(SceneError, match="one layer, and this has 2 of category: select one"):
        plot.values(flood, name="probability")
    with pytest.raises(SceneError, match="no pixel of this map has a value"):
        plot.values(flood["confidence"].where(False))


def test_confidence_and_probability_run_from_0_to_1_in_cividis(flood: xr.Dataset) -> None:
    ax = plot.values(flood)
    np.testing.assert_array_equal(drawn(ax), flood["confidence"].values)
    assert (ax.images[0].get_clim(), ax.images[0].get_cmap().name) == ((0, 1), "cividis")
    assert bar_of(ax).ax.get_ylabel() == "confidence"
    water = plot.values(flood["probability"].sel(category="water"), label="chance of water")
    assert (water.images[0].get_clim(), bar_of(water).ax.get_ylabel()) == ((0, 1), "chance of water")


class Doubled(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 2 * images[:, 3]


def test_a_quantity_has_its_name_and_unit_and_a_bar_that_says_what_is_beyond(scene: xr.DataArray) -> None:
    biomass = Quantity("biomass", 0.0, 1.0, "t/ha")
    result = prithvi.map(scene, Doubled(), contract=FLAT, quantity=biomass, window=32).compute()
    ax = plot.values(result)
    assert bar_of(ax).ax.get_ylabel() == "biomass (t/ha)"
    expected = np.nanpercentile(result["value"].values, [1, 99])
    np.testing.assert_allclose(ax.images[0].get_clim(), expected, rtol=1e-6)
    assert bar_of(ax).extend == "both"
    whole = plot.values(result, limits=(-10, 10), cmap="viridis")
    assert (whole.images[0].get_clim(), bar_of(whole).extend) == ((-10, 10), "neither")


def test_embeddings_alike_have_like_colours_also_on_another_date(scene: xr.DataArray) -> None:
    rng = np.random.default_rng(0)
    kinds = np.zeros((2, 8, 10), int)
    kinds[0, :, 5:], kinds[1, :4] = 1, 2
    vectors = rng.normal(size=(3, 16))[kinds] + 0.01 * rng.normal(size=(2, 8, 10, 16))
    vectors[0, 0, 0] = np.nan
    values = xr.DataArray(vectors.transpose(0, 3, 1, 2), dims=("step", "feature", "y", "x"))
    pictures = [drawn(plot.embedding(values, step=step)) for step in (0, 1)]
    assert (pictures[0][0, 0] == 1).all()
    means = [pictures[0][1:, 1:5].mean((0, 1)), pictures[0][:, 5:].mean((0, 1)), pictures[1][:4].mean((0, 1))]
    np.testing.assert_allclose(pictures[1][4:].mean((0, 1)), means[0], atol=0.1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(means[one] - means[other]).max() > 0.5
    result = prithvi.embed(scene, "prithvi_hls_tiny")
    ax = plot.embedding(result)
    assert drawn(ax).shape == (8, 10, 3)
    assert ax.images[0].get_extent() == [600_000, 600_800, 4_199_360, 4_200_000]  # whole patches hang over the edge
    with pytest.raises(SceneError, match=r"embeddings are what prithvi.embed gives; this holds class"):
        plot.embedding(xr.Dataset({"class": values}))
    with pytest.raises(SceneError, match="fewer than four places"):
        plot.embedding(values.where(False))
