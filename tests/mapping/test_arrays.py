"""Maps as arrays: the same bits at once, in rows, on other processes and in files; of any torch module."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import shapely
import torch
import xarray as xr
from affine import Affine
from distributed import Client, LocalCluster
from pyproj import CRS

import prithvi
from prithvi.bands import PRITHVI_BANDS
from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError, ModelError, SceneError
from prithvi.mapping import Products, engine, map_scene
from prithvi.modelio.predictor import ClassEntry, FittedModel
from prithvi.models import build
from prithvi.scenes import Area, open_scene
from tests.conftest import needs_netcdf, small_task

Write = Callable[..., Path]
DAY = "2019-09-18"
ROTATED = Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
PLAIN = Contract(PRITHVI_BANDS, (0.0,) * 6, (1.0,) * 6)


@pytest.fixture
def holes(six_bands: np.ndarray, write_tif: Write) -> xr.DataArray:
    """A lazy scene of 190 x 130 pixels: a stripe without data, a corner of it, speckle."""
    pixels = six_bands[:, :190, 200:330].copy()
    pixels[:, 70:105] = -9999
    pixels[:, 150:, 100:] = -9999
    pixels[2, ::7, ::5] = -9999
    return open_scene(write_tif(pixels, nodata=-9999), dates=[DAY])


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ROWS", 48)


def triangle(scene: xr.DataArray) -> Area:
    """Over several blocks of rows, away from the edges, in the scene's own coordinates."""
    transform = scene.rio.transform(recalc=False)
    corners = [transform @ corner for corner in ((13.2, 17.4), (117.8, 60.0), (40.3, 161.9))]
    return Area((shapely.Polygon(corners),), CRS.from_user_input(scene.rio.crs), "the triangle")


@pytest.mark.parametrize("transform", [None, ROTATED])
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.usefixtures("few_rows")
def test_memory_rows_and_file_hold_the_same(
    part: bool, transform: Affine | None, holes: xr.DataArray, fitted: FittedModel, write_tif: Write, tmp_path: Path
) -> None:
    scene = holes
    if transform is not None:
        values = holes[0].fillna(-9999).values.astype("int16")
        scene = open_scene(write_tif(values, "turned.tif", nodata=-9999, transform=transform), dates=[DAY])
    area = triangle(scene) if part else None
    eager = prithvi.map(scene.compute(), fitted, area=area, probabilities=True)
    lazy = prithvi.map(scene, fitted, area=area, probabilities=True)
    assert eager["class"].chunks is None
    assert lazy["class"].chunks is not None
    assert len(lazy["class"].chunks[0]) >= 3
    assert {name: values.dtype for name, values in lazy.items()} == {n: v.dtype for n, v in eager.items()}
    xr.testing.assert_identical(lazy.compute(), eager)
    wanted = Products(confidence=True, probabilities="float32")
    result = map_scene(fitted, scene, tmp_path / "out" / "map.tif", area=area, products=wanted)
    with rasterio.open(result.path) as made:
        np.testing.assert_array_equal(eager["class"], made.read(1))
        assert made.transform.almost_equals(eager.rio.transform(recalc=False), 1e-9)
        assert eager.rio.crs == made.crs
    with rasterio.open(tmp_path / "out" / "map_probabilities.tif") as made:
        np.testing.assert_array_equal(eager["probability"], made.read())
    if area is not None:
        inside = area.mask(scene, *area.window(scene))
        assert eager["class"].shape == inside.shape
        assert (eager["class"].values[~inside] == 255).all()
        assert np.isnan(eager["confidence"].values[~inside]).all()
        assert (eager["class"].values[inside] != 255).any()


def test_probabilities_are_the_tempered_scores(holes: xr.DataArray) -> None:
    cold, warm = small_task().fitted(), small_task().fitted()
    warm.model.load_state_dict(cold.model.state_dict())
    cold.temperature, warm.temperature = 0.5, 1.0
    first, second = (prithvi.map(holes.compute(), model, probabilities=True) for model in (cold, warm))
    for result in (first, second):
        chances = result["probability"]
        assert list(chances["category"].values) == ["land", "water"]
        data = (result["class"] != 255).values
        assert chances.dtype == result["confidence"].dtype == np.float32
        np.testing.assert_allclose(chances.sum("category").values[data], 1, atol=1e-6)
        np.testing.assert_array_equal(result["confidence"], chances.max("category"))
        np.testing.assert_array_equal(result["class"].values[data], chances.values.argmax(axis=0)[data])
        assert np.isnan(chances.values[:, ~data]).all()
        assert np.isnan(result["confidence"].values[~data]).all()
    np.testing.assert_array_equal(first["class"], second["class"])
    # odds are those of temperature 1 to the power of 1 / temperature
    odds = [np.log(r["probability"].values[1]) - np.log(r["probability"].values[0]) for r in (first, second)]
    data = np.isfinite(odds[1])
    assert np.ptp(odds[1][data]) > 0.05
    np.testing.assert_allclose(odds[0][data], 2 * odds[1][data], rtol=1e-3, atol=1e-5)
    assert "probability" not in prithvi.map(holes.compute(), warm)


class Greener(torch.nn.Module):
    """Scores of land and water by NDWI, whatever stands beside a pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        green, nir = images[:, 1, 0], images[:, 3, 0]
        return torch.stack([nir - green, green - nir], dim=1)


class Band(torch.nn.Module):
    """One band of the last date, as it came."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, self.number, -1:].nan_to_num(0)


@pytest.mark.parametrize("window", [None, 32])
def test_any_torch_module_maps(window: int | None, holes: xr.DataArray) -> None:
    result = prithvi.map(
        holes.compute(), Greener(), contract=PLAIN, classes=["land", ClassEntry(1, "water", "2B6CB0")], window=window
    )
    pixels = holes.values[0]
    valid = np.isfinite(pixels).all(axis=0)
    expected = np.where(valid, pixels[1] > pixels[3], 255)
    np.testing.assert_array_equal(result["class"], expected)
    assert {0, 1, 255} == set(np.unique(expected))
    assert [entry.name for entry in result.prithvi.classes] == ["land", "water"]
    assert result.prithvi.classes[1].color == "2B6CB0"
    assert result.attrs["PRITHVI_MODEL"] == "Greener"
    assert result.attrs["dates"] == ["2019-09-18T00:00:00"]


@pytest.mark.usefixtures("few_rows")
def test_a_quantity_stands_where_it_was_seen(write_tif: Write) -> None:
    """Each pixel holds its own place; blended windows give it back, in the quantity's unit, in memory and in rows."""
    y, x = np.mgrid[:150, :120].astype(np.float32)
    pixels = np.stack([1000 + y, 1000 + x, *[np.full_like(x, 2000)] * 4])
    files = [write_tif(pixels + step, f"{step}.tif") for step in (0, 1)]
    scene = open_scene(files, dates=[DAY, "2019-10-01"])
    height = Quantity("height", mean=-1000.0, std=2.0, unit="m")
    for number, expected in ((0, y), (1, x)):
        options = {"contract": PLAIN, "quantity": height, "window": 32, "stride": 20}
        eager = prithvi.map(scene.compute(), Band(number), **options)
        np.testing.assert_allclose(eager["value"], 2 * (1001 + expected) - 1000, atol=1e-2)
        xr.testing.assert_identical(prithvi.map(scene, Band(number), **options).compute(), eager)
    assert eager["value"].attrs == {"long_name": "height", "units": "m"}
    assert list(eager.data_vars) == ["value"]


def counted(scene: xr.DataArray, reads: list[int]) -> xr.DataArray:
    """The same scene, in strips of 32 rows that count how often they are read."""

    def look(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info:
            reads.append(block_info[0]["chunk-location"][2])
        return block

    pixels = da.from_array(scene.values, chunks=(1, 6, 32, -1))
    return scene.copy(data=pixels.map_blocks(look, dtype=pixels.dtype, meta=np.empty((0,) * 4, pixels.dtype)))


class Counting(Greener):
    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        Counting.calls += 1
        return super().forward(images)


def test_nothing_is_mapped_before_it_is_asked_for(
    six_bands: np.ndarray, write_tif: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ROWS", 128)
    reads: list[int] = []
    scene = counted(open_scene(write_tif(six_bands[:, :, :64]), dates=[DAY]), reads)
    Counting.calls = 0
    result = prithvi.map(scene, Counting(), contract=PLAIN, classes=["a", "b"], window=32, stride=16, batch_size=99)
    assert Counting.calls == 0
    assert len(reads) <= 16  # a sample, so that a wrong scale is found out at once
    reads.clear()
    top = result["class"].isel(y=slice(0, 10)).compute()
    assert set(reads) == {0, 1, 2, 3, 4}  # one block of 128 rows and the windows that reach into it
    assert len(reads) == 5
    assert Counting.calls == 8  # rows of windows
    reads.clear()
    whole = result.compute()
    assert set(reads) == set(range(16))
    np.testing.assert_array_equal(whole["class"][:10], top)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("few_rows")
def test_a_cluster_gives_the_same(processes: bool, holes: xr.DataArray, fitted: FittedModel) -> None:
    area = triangle(holes)
    here = prithvi.map(holes.compute(), fitted, area=area), prithvi.embed(holes.compute(), fitted)
    lazy = prithvi.map(holes, fitted, area=area), prithvi.embed(holes, fitted)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "120s"}),  # a busy machine, whose port 8787 may be taken
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=processes, dashboard_address=":0", memory_limit=None
        ) as cluster,
        Client(cluster),
    ):
        there = [result.compute() for result in lazy]
    for found, expected in zip(there, here, strict=True):
        if not processes:
            xr.testing.assert_identical(found, expected)
            continue
        # Dask's processes compute on one thread each, and sums of other parts differ in their last digits.
        xr.testing.assert_allclose(
            found.drop_vars("class", errors="ignore").astype("float32"),
            expected.drop_vars("class", errors="ignore").astype("float32"),
            rtol=1e-3,
            atol=1e-3,
        )
        if "class" in found:
            assert (found["class"] == expected["class"]).mean() > 0.999


@pytest.mark.parametrize("engine", ["zarr", pytest.param("h5netcdf", marks=needs_netcdf)])
def test_a_map_survives_a_file_with_its_place(
    engine: str, holes: xr.DataArray, fitted: FittedModel, tmp_path: Path
) -> None:
    result, path = prithvi.map(holes, fitted, area=triangle(holes)), tmp_path / f"map.{engine}"
    if engine == "zarr":
        result.to_zarr(path, zarr_format=2)
    else:
        result.to_netcdf(path, engine="h5netcdf")
    kept = xr.open_dataset(path, engine=engine, decode_coords="all", mask_and_scale=False).load()
    np.testing.assert_array_equal(kept["class"], result["class"])
    assert kept["class"].dtype == np.uint8
    assert kept["class"].rio.crs == holes.rio.crs
    assert kept["class"].rio.transform() == result["class"].rio.transform()
    assert kept["class"].attrs["flag_meanings"] == "land water"
    np.testing.assert_array_equal(kept["class"].attrs["flag_values"], [0, 1])
    assert [entry["name"] for entry in json.loads(kept["class"].attrs["classes"])] == ["land", "water"]
    assert [entry.color for entry in kept.prithvi.classes] == ["E8E4D0", "2B6CB0"]


def test_what_cannot_be_is_said_in_a_sentence(holes: xr.DataArray, fitted: FittedModel) -> None:
    scene = holes.compute()

    def refuses(error: type[Exception], text: str, model: Any, **options: Any) -> None:
        with pytest.raises(error, match=text):
            prithvi.map(scene, model, **options)

    refuses(ConfigError, r"give contract=prithvi\.Contract", Greener(), classes=["a", "b"])
    refuses(ConfigError, "either classes or a quantity", Greener(), contract=PLAIN)
    refuses(ConfigError, "this model has its own", fitted, contract=PLAIN)
    refuses(ConfigError, "this model has its own", fitted, classes=["a"])
    refuses(ModelError, "prithvi_hls_tiny is a pretrained model", "prithvi_hls_tiny")
    refuses(ModelError, "^a PrithviMAE is a pretrained model", build("prithvi_hls_tiny"))
    options = {"contract": PLAIN, "window": 32}
    refuses(ModelError, r"gave 2 scores a pixel; expected 3 \(a, b, c\)", Greener(), classes=["a", "b", "c"], **options)
    refuses(
        ModelError, r"gave 2 scores a pixel; expected 1 \(a quantity\)", Greener(),
        quantity=Quantity("q", 0, 1), **options,
    )  # fmt: skip
    refuses(ModelError, "gave 1 x 32 x 32 scores for a window", torch.nn.Identity(), classes=["a"], **options)
    refuses(ConfigError, "the stride 40 must lie between 1 and the window 32", Greener(), classes=["a", "b"],
            stride=40, **options)  # fmt: skip
    refuses(SceneError, "lies beside", fitted, area=Area.box(10, 50, 11, 51))


def test_several_dates_are_refused_where_one_is_wanted(
    fitted: FittedModel, six_bands: np.ndarray, write_tif: Write
) -> None:
    files: Sequence[Path] = [write_tif(six_bands[:, :64, :64], f"{n}.tif") for n in (0, 1)]
    with pytest.raises(SceneError, match="has 2 dates, and the model wants 1"):
        prithvi.map(open_scene(files, dates=[DAY, "2019-10-01"]), fitted)
