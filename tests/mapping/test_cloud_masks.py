"""Masks that are found beside a scene or made by a network: their classes, files, refusals, and what uses them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

import prithvi as library
from prithvi.bands import PRITHVI_BANDS
from prithvi.errors import BandError, ConfigError, SceneError
from prithvi.mapping import clear_of, map_scene, mask_scene
from prithvi.mapping.cloud_masks import network_for
from prithvi.mapping.mask_sources import Clouds, mask_name, masks_by_date
from prithvi.mapping.maskproducts import CLEAR, CLOUDY, MASK_PRODUCTS, SHADOWED, UNSEEN
from prithvi.modelio import save
from tests.conftest import SPAIN, Answer, needs_clouds, small_task
from tests.stac_schemas import validate

Cli = Callable[..., Answer]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* has pixels of", "ignore:.*taken as", "ignore:.*the model was trained on"
)
SIDE = 120
"""Of the pieces of the sample here: a network sees them in one window."""
EVERY = {
    "fmask": {CLEAR: [0, 64, 4, 16], CLOUDY: [2, 10, 66], SHADOWED: [8, 12, 72], UNSEEN: [255]},
    "scl": {CLEAR: [2, 4, 5, 6, 7, 11], CLOUDY: [8, 9, 10], SHADOWED: [3], UNSEEN: [0, 1]},
    "qa_pixel": {CLEAR: [21824, 21952], CLOUDY: [22280, 54596, 21826], SHADOWED: [23888], UNSEEN: [1, 0]},
    "pixel_qa": {CLEAR: [322, 324], CLOUDY: [352, 480], SHADOWED: [328], UNSEEN: [1, 0]},
    "cfmask": {CLEAR: [0, 1, 3], CLOUDY: [4], SHADOWED: [2], UNSEEN: [255]},
    "dswx_cloud": {CLEAR: [0, 2], CLOUDY: [4, 5], SHADOWED: [1, 3], UNSEEN: [255]},
    "cloud": {CLEAR: [0], CLOUDY: [1, 2, 7], SHADOWED: [], UNSEEN: []},
}
"""Values of each product and what they mean, by the products' guides."""


def read(path: Path, band: int = 1) -> np.ndarray:
    with rasterio.open(path) as raster:
        pixels: np.ndarray = raster.read(band)
    return pixels


def tags(path: Path) -> dict[str, str]:
    with rasterio.open(path) as raster:
        return dict(raster.tags())


@pytest.fixture
def granule(six_bands: np.ndarray, write_tif: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of an HLS granule of the sample, its Fmask on request."""

    def make(day: str = "2022145", fmask: np.ndarray | None = None, first: int = 0) -> Path:
        name = f"HLS.S30.T30SVG.{day}T105621.v2.0"
        (tmp_path / name).mkdir()
        part = six_bands[:, first : first + SIDE, 350 : 350 + SIDE]
        for band, values in zip(("B02", "B03", "B04", "B8A", "B11", "B12"), part, strict=True):
            write_tif(values[None], f"{name}/{name}.{band}.tif", names=None)
        if fmask is not None:
            write_tif(fmask[None], f"{name}/{name}.Fmask.tif", names=None, scale=None)
        return tmp_path / name

    return make


def fmask_of(seed: int = 0) -> np.ndarray:
    """An Fmask with clouds in one corner and their shadow beside it, some fill, the rest clear in many ways."""
    values = np.random.default_rng(seed).choice([0, 4, 64, 192], (SIDE, SIDE)).astype(np.uint8)
    values[:40, :50], values[40:60, :50], values[-5:] = 66, 72, 255
    return values


@pytest.mark.parametrize("product", list(EVERY))
def test_classes_by_product(product: str) -> None:
    """Cloud, shadow and fill of each; what is clear is what `is_clear` says."""
    for expected, values in EVERY[product].items():
        array = np.array(values, np.int32)
        np.testing.assert_array_equal(MASK_PRODUCTS[product].classes(array), np.full(len(values), expected))
        np.testing.assert_array_equal(MASK_PRODUCTS[product].is_clear(array), np.full(len(values), expected == CLEAR))


def test_the_mask_beside_a_scene_comes_first(granule: Callable[..., Path], prithvi: Cli, tmp_path: Path) -> None:
    """Its classes, with names, colours, a style and an item that says by what; a mask of the folder's own is found."""
    fmask = fmask_of()
    folder = granule(fmask=fmask)
    answer = prithvi("mask", folder, "-o", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    (told,) = json.loads(answer.out)
    path = tmp_path / "out" / f"{folder.name}_clouds.tif"
    assert Path(told["mask"]) == path
    assert {Path(file).name for file in told["files"]} == {file.name for file in (tmp_path / "out").iterdir()}
    found = read(path)
    np.testing.assert_array_equal(found, MASK_PRODUCTS["fmask"].classes(fmask))
    assert told["pixels"] == {"clear": 115 * 120 - 3000, "cloud": 2000, "cloud shadow": 1000}
    assert told["without_data"] == 600
    assert tags(path)["PRITHVI_MODEL"] == "HLS Fmask"
    assert [tags(path)[f"CLASS_{value}"] for value in (0, 1, 2)] == ["clear", "cloud", "cloud shadow"]
    with rasterio.open(path) as raster:
        assert (raster.nodata, raster.colormap(1)[255][3]) == (255, 0)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert 'label="cloud shadow"' in path.with_suffix(".qml").read_text()
    item = json.loads(path.with_suffix(".json").read_text())
    validate(item)
    assert item["properties"]["prithvi:model"] == "HLS Fmask"
    assert item["properties"]["prithvi:inputs"] == [str(folder / f"{folder.name}.Fmask.tif")]
    assert [each["name"] for each in item["assets"]["classes"]["classification:classes"]][2] == "cloud_shadow"
    whole = prithvi("mask", *sorted(folder.iterdir()), "-o", tmp_path / "files")  # given by its files
    assert whole.code == 0, whole.err
    np.testing.assert_array_equal(read(tmp_path / "files" / path.name), found)
    before = path.stat().st_mtime_ns
    assert prithvi("mask", folder, "-o", tmp_path / "out", "--resume").code == 0
    assert path.stat().st_mtime_ns == before, "a whole mask of the same is left as it is"


def test_a_coarse_mask_is_laid_over_a_fine_scene(
    six_bands: np.ndarray, write_tif: Callable[..., Path], tmp_path: Path
) -> None:
    """Sentinel-2's SCL of 20 m."""
    scene = library.open_scene(write_tif(six_bands[:, :SIDE, :SIDE]), dates="2022-05-25")
    scl = np.random.default_rng(0).integers(0, 12, (SIDE // 2, SIDE // 2)).astype(np.uint8)
    place = rasterio.transform.from_origin(600_000, 4_200_000, 20, 20)
    mask = write_tif(scl[None], "x_SCL_20m.tif", names=None, scale=None, transform=place)
    made = mask_scene(scene, tmp_path / "out.tif", mask=mask)
    expected = MASK_PRODUCTS["scl"].classes(scl).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(read(made.path), expected)
    assert "read as Sentinel-2 SCL" in made.notes[0]


def test_the_mask_of_a_stac_item_is_its_asset(granule: Callable[..., Path], prithvi: Cli, tmp_path: Path) -> None:
    fmask = fmask_of()
    folder = granule(fmask=fmask)
    names = {path.suffixes[-2].strip("."): path.name for path in sorted(folder.iterdir())}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": folder.name, "geometry": None,
        "links": [],
        "properties": {"datetime": "2022-05-25T10:56:21Z"}, "collection": "HLSS30.v2.0",
        "assets": {key: {"href": f"./{name}", "type": "image/tiff"} for key, name in names.items()},
    }  # fmt: skip
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    answer = prithvi("mask", path, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    (made,) = (tmp_path / "out").glob("*_clouds.tif")
    np.testing.assert_array_equal(read(made), MASK_PRODUCTS["fmask"].classes(fmask))
    assert tags(made)["PRITHVI_MODEL"] == "HLS Fmask"


def test_masks_of_several_dates(granule: Callable[..., Path], tmp_path: Path) -> None:
    """Each date's own, None for one without, whatever the order of the folders."""
    folders = [granule("2022161", fmask_of(1)), granule("2022145"), granule("2022177", fmask_of(2))]
    scene = library.open_scene(folders)
    found = masks_by_date([str(folder) for folder in folders], scene, {"dates": None})
    names = [mask and mask.parent.name.split(".")[3][:7] for mask in found]
    assert names == [None, "2022161", "2022177"]
    assert [mask_name(scene, place, "x") for place in (0, 2)] == ["2022-05-25_x_clouds.tif", "2022-06-26_x_clouds.tif"]
    assert mask_name(scene.isel(time=[1]), 0) == "clouds.tif"
    with pytest.raises(SceneError, match=r"has 3 dates.*scene.isel\(time=\[0\]\)"):
        mask_scene(scene, tmp_path / "out.tif", mask=found[1])
    mask_scene(scene.isel(time=[1]), tmp_path / "out.tif", mask=found[1])


def test_a_mask_of_somebody_else_stays(granule: Callable[..., Path], prithvi: Cli, tmp_path: Path) -> None:
    """A file of the result's name that was not made here is not overwritten; another folder is the remedy."""
    folder = granule(fmask=fmask_of())
    own = tmp_path / "out" / f"{folder.name}_clouds.tif"
    own.parent.mkdir()
    shutil.copy(SPAIN, own)
    before = own.read_bytes()
    answer = prithvi("mask", folder, "-o", own.parent)
    assert (answer.code, "was not made by prithvi" in answer.err) == (2, True), answer
    assert own.read_bytes() == before
    assert sorted(own.parent.iterdir()) == [own]
    assert prithvi("mask", folder, "-o", tmp_path / "other").code == 0
    assert prithvi("mask", folder, "-o", tmp_path / "other").code == 0, "its own it makes again"


def test_without_the_extra(granule: Callable[..., Path], prithvi: Cli, monkeypatch: Any, tmp_path: Path) -> None:
    """A scene with a mask needs nothing; one without is refused by every verb, before anything is written."""
    with_mask, without = granule(fmask=fmask_of()), granule("2022161")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert prithvi("mask", with_mask, "-o", tmp_path / "out").code == 0
    for verb in (
        ["mask", without], ["mask", with_mask, "--network"], ["map", "water", without, "--clouds", "auto"],
        ["fill", with_mask, without, "--clouds", "auto"], ["composite", with_mask, without, "--clouds", "auto"],
    ):  # fmt: skip
        answer = prithvi(*verb, "-o", tmp_path / "none")
        assert answer.code == 2, answer
        assert "has no mask beside it (HLS Fmask, Sentinel-2 SCL, Landsat Collection 2 QA_PIXEL)" in answer.err
        assert "pip install 'prithvi[clouds]'" in answer.err
        assert not (tmp_path / "none").exists()
        assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.slow
@needs_clouds
def test_the_level_is_asked_for(
    six_bands: np.ndarray, write_tif: Callable[..., Path], prithvi: Cli, tmp_path: Path
) -> None:
    """A stack that does not say it is refused, and each remedy works; levels give different masks."""
    path = write_tif(six_bands[:, :SIDE, :SIDE])
    answer = prithvi("mask", path, "-o", tmp_path / "out")
    assert (answer.code, "say --level SR or --level TOA (level=), or its --sensor" in answer.err) == (2, True), answer
    assert not (tmp_path / "out").exists()
    for level, end in (("SR", "l2a"), ("TOA", "l1c")):
        assert prithvi("mask", path, "-o", tmp_path / level, "--level", level).code == 0
        made = tmp_path / level / "scene_clouds.tif"
        assert f"model_6b_{end}," in tags(made)["PRITHVI_MODEL"]
        assert not made.with_suffix(".json").exists(), "no item without a date"
    assert prithvi("mask", path, "-o", tmp_path / "hls", "--sensor", "hls-s30", "--date", "2022-05-25").code == 0
    item = json.loads((tmp_path / "hls" / "scene_clouds.json").read_text())
    validate(item)
    assert item["properties"]["prithvi:model"].startswith("ukis-csmask")
    assert len(item["properties"]["prithvi:weights_sha256"]) == 64
    np.testing.assert_array_equal(read(tmp_path / "hls" / "scene_clouds.tif"), read(tmp_path / "SR/scene_clouds.tif"))


def test_level_of_a_scene(six_bands: np.ndarray, write_tif: Callable[..., Path]) -> None:
    """What the user says counts more than the product, with a warning; other words are refused."""
    path = write_tif(six_bands[:, :8, :8])
    assert library.open_scene(path, level="TOA").attrs["level"] == "TOA"
    assert "level" not in library.open_scene(path).attrs
    with pytest.warns(UserWarning, match="is taken for TOA, and its product is SR"):
        scene = library.open_scene(path, sensor="hls-s30", level="TOA")
    assert scene.attrs["level"] == "TOA"
    with pytest.raises(ConfigError, match=r"there is no level of reflectance 'L2A'.*SR, TOA"):
        library.open_scene(path, level="L2A")


@needs_clouds
def test_bands_are_asked_for(six_bands: np.ndarray, write_tif: Callable[..., Path], tmp_path: Path) -> None:
    scene = library.open_scene(write_tif(six_bands[:, :SIDE, :SIDE]), level="SR").isel(band=slice(0, 5))
    with pytest.raises(BandError, match=r"a network, as no mask of .* is taken, needs six bands: .*swir_2"):
        mask_scene(scene, tmp_path / "out.tif")
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.slow
@needs_clouds
def test_a_streamed_mask_is_the_whole_one(
    six_bands: np.ndarray, write_tif: Callable[..., Path], tmp_path: Path
) -> None:
    """From files row by row as from memory at once; without data stays so; what stopped goes on and ends the same."""
    path = write_tif(six_bands, transform=from_origin(600_000, 4_200_000, 30, 30))
    opened = library.open_scene(path, level="TOA", dates="2019-09-18")
    rows, columns = slice(0, 500), slice(60, 310)
    scene = opened.isel(y=rows, x=columns)
    whole = library.map(scene.compute(), network_for(scene), batch_size=2, device="cpu")["class"].values
    made = mask_scene(scene, tmp_path / "whole.tif")
    np.testing.assert_array_equal(read(made.path), whole)
    assert made.pixels == {name: int((whole == value).sum()) for value, name in enumerate(made.pixels)}

    def stop(done: int, number: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    path = tmp_path / "out" / "stopped.tif"
    with pytest.raises(KeyboardInterrupt):
        mask_scene(scene, path, progress=stop)
    assert not path.exists()
    journal = path.parent / f".{path.name}.partial" / "journal.json"
    assert json.loads(journal.read_text())["rows"] == 192, "the first row of windows is kept"
    mask_scene(scene, path, resume=True)
    np.testing.assert_array_equal(read(path), whole)
    assert not journal.exists()

    holes = scene.compute().copy(deep=True)
    holes[0, :, :90, :70] = np.nan
    made = mask_scene(holes, tmp_path / "holes.tif")
    assert (read(made.path)[:90, :70] == UNSEEN).all()
    assert made.without_data == 90 * 70
    assert (read(made.path)[300:] == whole[300:]).mean() > 0.95


@pytest.mark.slow
@needs_clouds
def test_fill_makes_the_masks_that_are_missing(granule: Callable[..., Path], prithvi: Cli, tmp_path: Path) -> None:
    """One date's mask lies beside it, the other's is made and stays beside the result; both are what is filled by."""
    fmask = fmask_of()
    folders = [granule("2022145", fmask), granule("2022161", first=200)]
    out = tmp_path / "out"
    answer = prithvi("fill", *folders, "-o", out, "--clouds", "auto", "--method", "nearest", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert [file.name for file in sorted(out.glob("*_clouds*"))] == [
        f"2022-06-10_clouds{end}" for end in (".json", ".qml", ".tif", ".tif.aux.xml")
    ]
    made = out / "2022-06-10_clouds.tif"
    scene = library.open_scene(folders)
    expected = library.map(scene.isel(time=[1]), network_for(scene), batch_size=2, device="cpu")["class"].values
    np.testing.assert_array_equal(read(made), expected)
    given = [folders[0] / f"{folders[0].name}.Fmask.tif", made]
    same = prithvi("fill", *folders, "-o", tmp_path / "same", "--clouds", given[0], "--clouds", made,
                   "--method", "nearest", "--device", "cpu")  # fmt: skip
    assert same.code == 0, same.err
    for name in ("2022-05-25", "2022-06-10"):
        for end in ("", "_filled", "_uncertainty"):
            file = f"{name}{end}.tif"
            np.testing.assert_array_equal(read(out / file), read(tmp_path / "same" / file))
    hidden = MASK_PRODUCTS["fmask"].classes(fmask) != CLEAR
    assert (read(out / "2022-05-25_filled.tif")[hidden] != 0).all()
    cube = prithvi("fill", *folders, "-o", tmp_path / "cube.zarr", "--clouds", "auto", "--method", "nearest")
    assert cube.code == 0, cube.err
    np.testing.assert_array_equal(read(tmp_path / "cube_clouds" / made.name), expected)
    composed = prithvi("composite", *folders, "-o", tmp_path / "best", "--clouds", "auto")
    assert composed.code == 0, composed.err
    np.testing.assert_array_equal(read(tmp_path / "best" / made.name), expected)


def test_a_map_leaves_out_what_lies_under_clouds(
    granule: Callable[..., Path], folder: Path, prithvi: Cli, tmp_path: Path
) -> None:
    """No data there, and not a pixel else is another; so in Python, in a part, and of several scenes."""
    fmask = fmask_of()
    scenes = [granule("2022145", fmask), granule("2022161", fmask_of(1))]
    plain = prithvi("map", folder, *scenes, "-o", tmp_path / "plain", "--polygons", "none", "--device", "cpu")
    assert plain.code == 0, plain.err
    hidden = MASK_PRODUCTS["fmask"].classes(fmask) != CLEAR
    assert 0.2 < hidden.mean() < 0.9
    for how, number in (("auto", 2), (scenes[0] / f"{scenes[0].name}.Fmask.tif", 1)):
        out = tmp_path / str(number)
        made = prithvi("map", folder, *scenes[:number], "-o", out, "--clouds", how, "--polygons", "none",
                       "--device", "cpu")  # fmt: skip
        assert made.code == 0, made.err
        for scene in scenes[:number]:
            expected = read(tmp_path / "plain" / f"{scene.name}.tif")
            assert set(np.unique(expected)) <= {0, 1}
            np.testing.assert_array_equal(read(out / f"{scene.name}.tif"), np.where(hidden, 255, expected))
        assert not list(out.glob("*_clouds*")), "none was made"
    opened = library.open_scene(scenes[0])
    clear = clear_of([scenes[0] / f"{scenes[0].name}.Fmask.tif"], opened)
    expected = read(tmp_path / "plain" / f"{scenes[0].name}.tif")
    for scene in (opened, opened.compute()):
        found = library.map(scene, folder, clear=clear, device="cpu")["class"].values
        np.testing.assert_array_equal(found, np.where(hidden, 255, expected))
    half = library.map(opened, folder, clear=xr.ones_like(clear, float), device="cpu")["class"].values
    np.testing.assert_array_equal(half, expected)
    with pytest.raises(SceneError, match="do not lie on one grid"):
        library.map(opened, folder, clear=clear[:, :-1], device="cpu")


def test_a_masked_map_of_a_part_and_resumed(
    granule: Callable[..., Path], folder: Path, prithvi: Cli, tmp_path: Path
) -> None:
    """In a box as in the whole; a map by other masks is another run."""
    from prithvi.scenes import Area

    scene = granule("2022145", fmask_of())
    opened = library.open_scene(scene)
    clear = clear_of([scene / f"{scene.name}.Fmask.tif"], opened)
    whole = map_scene(folder, opened, tmp_path / "whole.tif", clear=clear, device="cpu")
    assert any("read as HLS Fmask" in note for note in whole.notes)
    x, y = (float(opened[name].values[place]) for name, place in (("x", 30), ("y", 30)))
    import pyproj

    transform = pyproj.Transformer.from_crs("EPSG:32630", "EPSG:4326", always_xy=True).transform
    west, south = transform(x, y - 500)
    east, north = transform(x + 500, y)
    part = map_scene(
        folder, opened, tmp_path / "part.tif", clear=clear, device="cpu", area=Area.box(west, south, east, north)
    )
    with rasterio.open(part.path) as small, rasterio.open(whole.path) as large:
        window = rasterio.windows.from_bounds(*small.bounds, large.transform).round()
        values, around = small.read(1), large.read(1, window=window)
    inside = values != 255
    np.testing.assert_array_equal(values[inside], around[inside])
    assert 0.2 < inside.mean() < 1
    assert (values[around == 255] == 255).all()
    runs = {}
    for name, masks in (("one", clear), ("other", ~clear), ("none", None)):
        made = map_scene(folder, opened, tmp_path / "resumed.tif", clear=masks, device="cpu", resume=True)
        runs[name] = tags(made.path)["PRITHVI_RUN"]
    assert len(set(runs.values())) == 3
    expected = library.map(opened, folder, device="cpu")["class"].values
    np.testing.assert_array_equal(read(tmp_path / "resumed.tif"), expected)


def test_of_several_dates_a_pixel_counts_that_is_clear_on_one(fitted: Any, six_bands: np.ndarray) -> None:
    """A model of one date sees no series; the rule is that of the engine's target."""
    from prithvi.mapping.class_maps import _target

    x = np.arange(64) * 10.0 + 600_005
    array = xr.DataArray(
        np.stack([six_bands[:, :64, :64]] * 2).astype(np.float32), dims=("time", "band", "y", "x"),
        coords={"time": np.array(["2022-05-01", "2022-05-09"], "datetime64[ns]"), "band": [*PRITHVI_BANDS],
                "x": x, "y": 4_199_995 - np.arange(64) * 10.0},
    ).rio.write_crs("EPSG:32630")  # fmt: skip
    clear = xr.DataArray(np.zeros((2, 64, 64), bool), dims=("time", "y", "x"), coords={"time": array["time"]})
    clear[0, :10], clear[1, 5:20] = True, True
    mask = _target(array, 32, 32, None, None, False, clear).part.mask
    assert mask is not None
    np.testing.assert_array_equal(mask(3, 30), np.arange(3, 30)[:, None].repeat(64, 1) < 20)


@needs_clouds
def test_a_map_by_masks_of_a_network(granule: Callable[..., Path], folder: Path, prithvi: Cli, tmp_path: Path) -> None:
    """They lie beside it, and what they hide is left out."""
    scene = granule("2022145")
    answer = prithvi("map", folder, scene, "-o", tmp_path / "out", "--clouds", "auto", "--device", "cpu")
    assert answer.code == 0, answer.err
    mask = read(tmp_path / "out" / f"{scene.name}_clouds.tif")
    made = read(tmp_path / "out" / f"{scene.name}.tif")
    np.testing.assert_array_equal(made == 255, mask != CLEAR)
    again = prithvi("map", folder, scene, "-o", tmp_path / "out", "--clouds", "auto", "--device", "cpu", "--resume")
    assert again.code == 0, again.err


@pytest.mark.slow
@needs_clouds
def test_a_map_of_several_dates_makes_a_mask_of_each(
    granule: Callable[..., Path], prithvi: Cli, tmp_path: Path
) -> None:
    """One lies beside its date, two are made; what is clear on no date is left out."""
    scenes = [granule("2022145", fmask_of()), granule("2022161"), granule("2022177", first=200)]
    model = save(small_task(num_frames=3).fitted(seed=0), tmp_path / "three")
    out = tmp_path / "out"
    answer = prithvi("map", model, *scenes, "--together", "-o", out, "--clouds", "auto", "--device", "cpu")
    assert answer.code == 0, answer.err
    made = [out / f"{day}_{scenes[0].name}_clouds.tif" for day in ("2022-06-10", "2022-06-26")]
    assert sorted(out.glob("*_clouds.tif")) == made
    clear = (MASK_PRODUCTS["fmask"].classes(fmask_of()) == CLEAR) | (read(made[0]) == CLEAR) | (read(made[1]) == CLEAR)
    np.testing.assert_array_equal(read(out / f"{scenes[0].name}.tif") != 255, clear)
    masked = prithvi("mask", *scenes, "--together", "-o", tmp_path / "masks")
    assert masked.code == 0, masked.err
    assert len(list((tmp_path / "masks").glob("*_clouds.tif"))) == 3
    np.testing.assert_array_equal(read(tmp_path / "masks" / made[0].name), read(made[0]))


def test_options_that_contradict(granule: Callable[..., Path], folder: Path, prithvi: Cli, tmp_path: Path) -> None:
    scenes = [granule("2022145", fmask_of()), granule("2022161", fmask_of(1))]
    mask = scenes[0] / f"{scenes[0].name}.Fmask.tif"
    for more, sentence in (
        (["--clouds", "auto", "--clouds", mask], "finds the masks of all dates"),
        (["--clouds", "auto", "--clouds-are", "scl"], "leave one out"),
        (["--clouds", mask], "these are 2: say --clouds auto"),
        (["--clouds-are", "scl"], "there are none: give them by --clouds"),
    ):
        answer = prithvi("map", folder, *scenes, "-o", tmp_path / "out", *more)
        assert (answer.code, sentence in answer.err) == (2, True), answer
    with pytest.raises(ConfigError, match="finds the masks of all dates"):
        Clouds(("auto", "none"))
    assert not (tmp_path / "out").exists()
