"""Pictures of scenes show the right bands, between the right values, in the right place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from rasterio.transform import from_origin

import prithvi
from prithvi import plot
from prithvi.errors import BandError, ConfigError, ScaleError, SceneError
from prithvi.plot import pictures
from tests.plot.conftest import drawn

Write = Callable[..., Path]
EXTENT = [600_000, 600_800, 4_199_400, 4_200_000]


def series_of(scene: xr.DataArray, *factors: float) -> xr.DataArray:
    """The scene, brighter or darker, a month apart."""
    steps = [scene.isel(time=0) * factor for factor in factors]
    days = np.array([f"2019-{9 + number:02}-18" for number in range(len(factors))], "datetime64[ns]")
    return xr.concat(steps, dim="time").assign_coords(time=days).assign_attrs(scene.attrs)


def bar_of(ax: plt.Axes) -> str | None:
    """The text of the scale bar."""
    return next((each.txt_label.get_text() for each in ax.artists if isinstance(each, AnchoredSizeBar)), None)


def test_a_composite_is_the_three_bands_between_their_2nd_and_98th_percentile(scene: xr.DataArray) -> None:
    ax = plot.composite(scene, bands=("red", "green", "blue"))
    red = scene.isel(time=0).sel(band="red").values
    low, high = np.nanpercentile(red, [2, 98])
    picture = drawn(ax)
    np.testing.assert_allclose(picture[10:, :, 0], np.clip((red[10:] - low) / (high - low), 0, 1), atol=1e-5)
    assert (picture[:10] == 1).all()  # no data is white
    brighter = drawn(plot.composite(scene, bands=("red", "green", "blue"), gamma=2))
    np.testing.assert_allclose(brighter, picture**0.5, atol=1e-5)
    default = drawn(plot.composite(scene))
    np.testing.assert_array_equal(default, drawn(plot.composite(scene, bands=("swir_2", "nir_narrow", "red"))))


def test_a_picture_lies_on_its_ground(scene: xr.DataArray) -> None:
    ax = plot.composite(scene)
    assert ax.images[0].get_extent() == EXTENT
    assert (ax.get_xlim(), ax.get_ylim()) == (tuple(EXTENT[:2]), tuple(EXTENT[2:]))
    assert (len(ax.get_xticks()), ax.get_aspect(), bar_of(ax)) == (0, 1.0, "200 m")
    part = plot.composite(scene.isel(y=slice(20, 40), x=slice(10, 30)), ticks=True, bar=False)
    assert part.images[0].get_extent() == [600_100, 600_300, 4_199_600, 4_199_800]
    assert (len(part.get_xticks()) > 1, part.get_xlabel(), bar_of(part)) == (True, "x", None)
    nowhere = plot.composite(xr.DataArray(scene.values[0], dims=("band", "y", "x"), coords={"band": scene["band"]}))
    assert nowhere.images[0].get_extent() == [0, 80, 60, 0]
    assert bar_of(nowhere) is None


def test_north_is_up_in_a_file_that_begins_in_the_south(six_bands: np.ndarray, write_tif: Write) -> None:
    south_up = write_tif(six_bands[:, 40:100, 200:280][:, ::-1], transform=Affine(10, 0, 600_000, 0, 10, 4_199_400))
    ax = plot.composite(prithvi.open_scene(south_up))
    assert ax.get_ylim() == tuple(EXTENT[2:])
    left, right, bottom, top = ax.images[0].get_extent()  # of the last and the first row
    assert (left, right, bottom, top) == (600_000, 600_800, 4_200_000, 4_199_400)


def test_every_corner_of_a_rotated_scene_is_drawn_where_it_lies(six_bands: np.ndarray, write_tif: Write) -> None:
    where = Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    ax = plot.composite(prithvi.open_scene(write_tif(six_bands[:, :60, :80], transform=where)))
    image = ax.images[0]
    to_ground = image.get_transform() - ax.transData
    for corner in ((0, 0), (80, 0), (80, 60), (0, 60)):
        np.testing.assert_allclose(to_ground.transform(corner), where @ corner)
    assert ax.get_xlim()[0] < 600_001
    assert ax.get_ylim()[1] == pytest.approx((where @ (80, 0))[1])


def test_degrees_are_as_long_as_on_the_ground(six_bands: np.ndarray, write_tif: Write) -> None:
    path = write_tif(six_bands[:, :60, :80], crs="EPSG:4326", transform=from_origin(3.0, 60.003, 1e-4, 1e-4))
    ax = plot.composite(prithvi.open_scene(path), ticks=True)
    assert ax.get_aspect() == pytest.approx(2.0, rel=1e-3)
    assert (ax.get_xlabel(), ax.get_ylabel(), bar_of(ax)) == ("longitude", "latitude", None)


def test_one_stretch_makes_scenes_of_different_scales_compare(scene: xr.DataArray) -> None:
    fractions = (scene * 1e-4).assign_attrs({**scene.attrs, "gain": 1.0})
    dark = (scene * 0.5).assign_attrs(scene.attrs)
    limits = plot.stretch(scene, dark)
    np.testing.assert_allclose(plot.rgb(fractions, limits=limits), plot.rgb(scene, limits=limits), atol=1e-4)
    assert plot.rgb(dark, limits=limits)[10:].mean() < 0.6 * plot.rgb(scene, limits=limits)[10:].mean()
    clouds = [scene.copy(data=np.full(scene.shape, 9000.0))] * 2  # fewer than half of the dates
    np.testing.assert_array_equal(plot.stretch(dark, scene, *clouds, scene), plot.stretch(scene))
    unknown = scene.assign_attrs()
    del unknown.attrs["gain"]
    with pytest.raises(ScaleError, match="some of these scenes state their scale and some do not"):
        plot.stretch(scene, unknown)


def test_a_large_scene_is_thinned_and_keeps_its_ground(scene: xr.DataArray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST", 27)
    ax = plot.composite(scene)
    assert drawn(ax).shape == (20, 27, 3)
    assert ax.images[0].get_extent() == EXTENT


def test_a_lazy_series_is_computed_once(scene: xr.DataArray) -> None:
    read = []

    def count(values: np.ndarray) -> np.ndarray:
        read.append(values.shape)
        return values

    series = series_of(scene.compute(), 1, 0.5).chunk({"time": 1})
    watched = series.copy(data=series.data.map_blocks(count, dtype=series.dtype, meta=np.empty((0,) * 4, np.float32)))
    plot.strip(watched)
    assert len(read) == 2


def test_what_cannot_be_drawn_is_said_in_a_sentence(scene: xr.DataArray) -> None:
    fewer = scene.sel(band=["blue", "green", "red"])
    with pytest.raises(BandError, match=r"needs swir_2, nir_narrow, which the scene lacks: it has blue, green, red\.$"):
        plot.composite(fewer)
    with pytest.raises(BandError, match="three bands, red, green and blue; 2 were named"):
        plot.composite(scene, bands=("red", "green"))
    with pytest.raises(SceneError, match="no pixel has data in swir_2, nir_narrow, red"):
        plot.composite(scene.isel(y=slice(0, 10)))
    with pytest.raises(SceneError, match="a scene has the dimensions band, y, x; this has y, x"):
        plot.composite(scene.isel(time=0, band=0))
    with pytest.raises(SceneError, match="a picture is made of a scene, and this holds class"):
        plot.composite(xr.Dataset({"class": scene.isel(time=0, band=0)}))


def test_before_and_after_share_a_stretch_and_show_what_changed(scene: xr.DataArray) -> None:
    before, after = (series_of(scene, 1, 0.6).isel(time=[date]) for date in (0, 1))
    axes = plot.compare(before, after, difference="nir_narrow")
    assert [ax.get_title() for ax in axes] == ["2019-09-18", "2019-10-18", "change of nir_narrow"]
    limits = plot.stretch(before, after)
    for ax, one in zip(axes, (before, after), strict=False):
        np.testing.assert_array_equal(drawn(ax), plot.rgb(one, limits=limits))
    nir = scene.isel(time=0).sel(band="nir_narrow").values * 1e-4
    np.testing.assert_allclose(drawn(axes[2]), -0.4 * nir, atol=1e-5)
    low, high = axes[2].images[0].get_clim()
    assert low == -high < 0
    index = plot.compare(before, after, difference=("nir_narrow", "swir_2"))[2]
    np.testing.assert_allclose(drawn(index)[10:], 0, atol=1e-5)  # a ratio does not see that all is darker
    assert len(plot.compare(before, after)) == 2


def test_a_difference_needs_one_grid(scene: xr.DataArray) -> None:
    with pytest.raises(SceneError, match=r"on one grid; of these two, they have 60 x 80 and 60 x 70 pixels .* 10 "):
        plot.compare(scene, scene.isel(x=slice(10, 80)), difference="red")
    with pytest.raises(ConfigError, match="this comparison takes 3 axes, and 2 were given"):
        plot.compare(scene, scene, plt.subplots(1, 2)[1], difference="red")


def test_a_strip_shows_every_date_on_one_stretch(scene: xr.DataArray) -> None:
    series = series_of(scene, 1, 0.7, 0.4)
    axes = plot.strip(series, columns=2)
    assert [ax.get_title() for ax in axes] == ["2019-09-18", "2019-10-18", "2019-11-18"]
    limits = plot.stretch(series)
    for ax, date in zip(axes, range(3), strict=True):
        np.testing.assert_array_equal(drawn(ax), plot.rgb(series.isel(time=date), limits=limits))
        assert ax.images[0].get_extent() == EXTENT
    assert [bar_of(ax) for ax in axes] == ["200 m", None, None]
    assert len(axes[0].figure.axes) == 4
    assert not axes[0].figure.axes[3].axison
    with pytest.raises(ConfigError, match="a strip of 3 dates takes 3 axes, and 1 were given"):
        plot.strip(series, plt.subplots()[1])


def test_a_strip_of_a_filled_series_marks_what_was_filled(scene: xr.DataArray) -> None:
    series = series_of(scene.isel(y=slice(20, 60)), 1, 0.9, 0.8)
    clear = xr.ones_like(series.isel(band=0, drop=True), dtype=bool)
    clear[1, 10:20, 20:40] = False
    clear[2] = False
    axes = plot.strip(prithvi.fill(series, clear=clear, uncertainty=False))
    assert [ax.get_xlabel() for ax in axes] == ["", "6% filled", "100% filled"]
    assert [len(ax.collections) for ax in axes] == [0, 1, 0]
    outline = axes[1].collections[0].get_paths()[0].vertices
    assert outline.min(axis=0) == pytest.approx([600_000 + 200, 4_199_800 - 200])
    assert outline.max(axis=0) == pytest.approx([600_000 + 400, 4_199_800 - 100])
