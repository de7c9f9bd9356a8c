"""Our source and sink in TerraTorch's tiled inference, against its own way in memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate
from torch import Tensor, nn

import prithvi
from prithvi.catalog import dataset
from prithvi.contract import Quantity
from prithvi.errors import ConfigError, ModelError, OutputError, SceneError
from prithvi.models.standardise import Standardise
from tests.conftest import SIX, SPAIN
from tests.pages import printed_for
from tests.terratorch.conftest import BANDS, their_warnings

with their_warnings():
    from terratorch.tasks import SemanticSegmentationTask
    from terratorch.tasks.tiled_inference import get_input_chips, tiled_inference

    import prithvi.terratorch as ours
    from prithvi.terratorch import tile_sink, tile_source

KNOWS_TILES = tuple(map(int, metadata.version("terratorch").split(".")[:3])) >= (1, 2, 12)
HEIGHT, WIDTH, NODATA = 300, 277, -9999
HOLE = (slice(0, 130), slice(100, 190))
CONTRACT = dataset("sen1floods11").contract


def tiled(model: Callable[[Tensor], Tensor], image: Tensor, source: Any, sink: Any, **options: Any) -> None:
    """TerraTorch's tiled inference; where it knows no source and no sink, what it does with them, on its own tiles."""
    if KNOWS_TILES:
        tiled_inference(model, image, source=source, sink=sink, **options)
        return
    crop, stride, delta = options.get("crop", 224), options.get("stride", 192), options.get("delta", 8)
    high, wide = options.get("h_crop", crop), options.get("w_crop", crop)
    if image.shape[-2] <= high and image.shape[-1] <= wide:
        model(image)
        return
    tiles = get_input_chips(
        image.cpu(), high, options.get("h_stride", stride), wide, options.get("w_stride", stride), delta,
        options.get("blend_overlaps", True), options.get("padding", "reflect"),
    )  # fmt: skip
    with torch.no_grad():
        for first in range(0, len(tiles), options.get("batch_size", 16)):
            batch = tiles[first : first + options.get("batch_size", 16)]
            scores = model(torch.stack([source(tile) for tile in batch]))
            for tile, answer in zip(batch, scores, strict=True):
                sink.write(tile, answer)
    sink.finalize()


@pytest.fixture
def any_version(monkeypatch: pytest.MonkeyPatch) -> None:
    if not KNOWS_TILES:
        monkeypatch.setattr(tile_source, "require_tiles", lambda: None)


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Part of the sample with a hole, as a tiled GeoTIFF."""
    path = tmp_path_factory.mktemp("tiles") / "scene.tif"
    with rasterio.open(SPAIN) as raster:
        window = Window(100, 60, WIDTH, HEIGHT)
        pixels = raster.read(SIX, window=window).astype(np.int16)
        profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 6, "dtype": "int16", "tiled": True,
                   "blockxsize": 64, "blockysize": 64, "nodata": NODATA, "crs": raster.crs,
                   "transform": raster.window_transform(window)}  # fmt: skip
    pixels[:, *HOLE] = NODATA
    pixels[2, 290:, 250:] = NODATA  # a pixel that lacks one band has none
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)
        raster.descriptions = [name.lower() for name in BANDS]
        raster.scales = [1e-4] * 6
    return path


@pytest.fixture
def source(scene_file: Path, any_version: None) -> Any:
    return ours.cog_source(prithvi.open_scene(scene_file), CONTRACT)


@pytest.fixture
def image(scene_file: Path) -> Tensor:
    """(1, 6, 300, 277) standardised, as TerraTorch takes it in memory."""
    with rasterio.open(scene_file) as raster:
        pixels = raster.read(out_dtype="float32")
    pixels[:, (pixels == NODATA).any(axis=0)] = np.nan
    return Standardise(CONTRACT)(torch.from_numpy(pixels)[None, :, None])[:, :, 0]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(6, 8, 7, padding=3), nn.GELU(), nn.Conv2d(8, 3, 7, padding=3)
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 96, "stride": 64},
        {"crop": 96, "stride": 64, "padding": False, "batch_size": 5},
        {"crop": 96, "stride": 64, "padding": "replicate", "blend_overlaps": False},
        {"crop": 96, "stride": 64, "average_patches": False},
        {"crop": 96, "stride": 20, "delta": 30, "padding": False},
        {"h_crop": 64, "w_crop": 128, "h_stride": 40, "w_stride": 100, "delta": 4},
        {"h_crop": 128, "w_crop": 276, "h_stride": 100, "w_stride": 250},
    ],
    ids=str,
)
def test_scores_are_equal_to_those_in_memory(
    source: Any, image: Tensor, model: nn.Module, tmp_path: Path, options: dict[str, Any]
) -> None:
    expected = tiled_inference(model, image, **options)[0]
    average = options.get("average_patches", True)
    with ours.cog_sink(
        tmp_path / "map.tif", source, classes="abc", probabilities="float32", average_patches=average
    ) as sink:
        assert tiled(model, source.image, source, sink, **{"batch_size": 4, **options}) is None
    with rasterio.open(tmp_path / "map.tif") as raster, rasterio.open(tmp_path / "map_probabilities.tif") as chances:
        classes, found = raster.read(1), chances.read()
    missing = np.zeros((HEIGHT, WIDTH), bool)
    missing[HOLE] = missing[290:, 250:] = True
    assert np.array_equal(classes == 255, missing)
    assert np.array_equal(np.isnan(found).all(axis=0), missing)
    assert np.array_equal(classes[~missing], expected.argmax(0).numpy()[~missing])
    assert len(np.unique(classes)) == 4
    np.testing.assert_allclose(found[:, ~missing], expected.softmax(0).numpy()[:, ~missing], atol=1e-6)


def test_the_map_is_a_cog_with_the_place_and_the_names(
    scene_file: Path, source: Any, model: nn.Module, tmp_path: Path
) -> None:
    with ours.cog_sink(
        tmp_path / "map.tif", source, classes=["land", "water", "other"], confidence=True, name="floods"
    ) as sink:
        assert list(tmp_path.iterdir()) == []
        tiled(model, source.image, source, sink, crop=96, stride=64)
    assert {path.suffix for path in tmp_path.iterdir()} == {".tif", ".xml"}
    assert cog_validate(tmp_path / "map.tif", quiet=True)[0]
    with rasterio.open(tmp_path / "map.tif") as made, rasterio.open(scene_file) as scene:
        assert (made.transform, made.crs, made.shape, made.nodata) == (scene.transform, scene.crs, scene.shape, 255)
        tags = made.tags()
    assert (tags["CLASS_1"], tags["PRITHVI_MODEL"], tags["PRITHVI_INPUT"]) == ("water", "floods", str(scene_file))
    with rasterio.open(tmp_path / "map_confidence.tif") as raster:
        values = raster.read(1)
    assert values[values != 255].min() >= 250 // 3


def test_it_works_as_printed(
    scene_file: Path, any_version: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = printed_for("tests/terratorch/test_tiles.py", "terratorch.md")
    with their_warnings():
        task = SemanticSegmentationTask(
            {"backbone": "hlsvit_hls_tiny", "decoder": "FCNDecoder", "decoder_channels": 8, "num_classes": 2},
            "EncoderDecoderFactory", ignore_index=-1,
        ).eval()  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if not KNOWS_TILES:
        monkeypatch.setattr("terratorch.tasks.tiled_inference.tiled_inference", tiled)
    exec(block.code, {"scene": prithvi.open_scene(scene_file), "contract": CONTRACT, "task": task})
    with rasterio.open("map.tif") as raster:
        assert set(np.unique(raster.read(1))) <= {0, 1, 255}


def test_without_a_margin_the_map_is_whole(source: Any, image: Tensor, model: nn.Module, tmp_path: Path) -> None:
    """TerraTorch's own way cuts the padding off with [0:-0] then, which leaves nothing."""
    options = {"crop": 96, "stride": 64, "delta": 0}
    assert tiled_inference(model, image, **options).shape == (1, 3, 0, 0)
    expected = tiled_inference(model, image, **options, padding=False)[0].argmax(0).numpy()
    with ours.cog_sink(tmp_path / "map.tif", source, classes="abc") as sink:
        tiled(model, source.image, source, sink, **options)
    with rasterio.open(tmp_path / "map.tif") as raster:
        found = raster.read(1)
    assert np.array_equal(found[found != 255], expected[found != 255])


def test_several_dates_and_a_quantity(scene_file: Path, tmp_path: Path, any_version: None) -> None:
    """Tiles are (band, T, y, x), as TerraTorch's own of several dates; a pixel has data if one of the dates has."""
    later = tmp_path / "later.tif"
    with rasterio.open(scene_file) as raster:
        pixels, profile = raster.read(), raster.profile
    whole = np.where(pixels == NODATA, 1000, pixels // 2)
    with rasterio.open(later, "w", **profile) as raster:
        raster.write(whole)
        raster.descriptions, raster.scales = [name.lower() for name in BANDS], [1e-4] * 6
    series = prithvi.open_scene([str(scene_file), str(later)], dates=["2020-01-01", "2020-02-01"])
    source = ours.cog_source(series, CONTRACT)
    assert source.image.shape == (1, 6, 2, HEIGHT, WIDTH)
    stack = np.stack([pixels, whole], axis=1).astype(np.float32)
    stack[:, 0, (pixels == NODATA).any(axis=0)] = np.nan
    inputs = Standardise(CONTRACT)(torch.from_numpy(stack)[None])

    def mean(images: Tensor) -> Tensor:  # as TerraTorch's regression heads, without a dimension of classes
        return images.mean(dim=(1, 2))

    options = {"crop": 96, "stride": 64, "padding": False}
    expected = tiled_inference(mean, inputs, **options)[0, 0]
    quantity = Quantity("biomass", 50.0, 10.0, "t/ha")
    with ours.cog_sink(tmp_path / "map.tif", source, quantity=quantity) as sink:
        tiled(mean, source.image, source, sink, **options)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.units == ("t/ha",)
        assert np.array_equal(raster.read(1), (expected * 10.0 + 50.0).numpy())


def test_pixels_are_read_once_by_rows_and_once_at_the_right_edge(
    scene_file: Path, model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, any_version: None
) -> None:
    """However many tiles overlap: what two rows of tiles share is kept."""
    read: dict[int, int] = {}
    plain = tile_source.rows_of

    def counted(scene: Any, *rest: Any) -> Any:
        rows, width = plain(scene, *rest), scene.sizes["x"]

        def again(first: int, last: int) -> Any:
            read[width] = read.get(width, 0) + last - first
            return rows(first, last)

        return again

    monkeypatch.setattr(tile_source, "rows_of", counted)
    source = ours.cog_source(prithvi.open_scene(scene_file), CONTRACT)
    with ours.cog_sink(tmp_path / "map.tif", source, classes="abc") as sink:
        tiled(model, source.image, source, sink, crop=96, stride=32, padding=False)
    bottom = 96  # the tiles along the bottom edge come before all others
    assert read == {WIDTH: pytest.approx(HEIGHT + bottom, abs=32), 96: pytest.approx(HEIGHT, abs=32)}


def test_memory_is_that_of_some_rows(source: Any, model: nn.Module, tmp_path: Path) -> None:
    held: list[int] = []

    class Watching(tile_sink.CogSink):
        def write(self, tile: Any, prediction: Tensor) -> None:
            super().write(tile, prediction)
            strips = [source._whole] + ([source._right[1]] if source._right else [])
            waiting = sum(part.scores.untyped_storage().nbytes() for part in self._waiting)
            held.append(sum(strip.held.nbytes for strip in strips) + self._sums.nbytes + waiting)

    with Watching(tmp_path / "map.tif", source, "abc") as sink:
        tiled(model, source.image, source, sink, crop=32, stride=24, delta=4)
    strips = 6 * 32 * (WIDTH + 32) * 4
    scores = 3 * 4 * (32 * WIDTH + 24 * 24 * (HEIGHT + WIDTH) / 24 * 1.2)
    assert max(held) < 1.2 * (strips + scores)
    with torch._C.DisableTorchFunctionSubclass():
        assert source.image.untyped_storage().nbytes() == 4


def test_nothing_is_left_when_the_model_fails(source: Any, tmp_path: Path) -> None:
    calls = 0

    def failing(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("out of memory")
        return images[:, :3]

    (tmp_path / "map.tif").write_text("older")
    options = {"crop": 96, "stride": 64, "batch_size": 4}
    with pytest.raises(RuntimeError), ours.cog_sink(tmp_path / "map.tif", source, classes="abc") as sink:
        tiled(failing, source.image, source, sink, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    calls, sink = 0, ours.cog_sink(tmp_path / "map.tif", source, classes="abc")  # and without a context
    with pytest.raises(RuntimeError):
        tiled(failing, source.image, source, sink, **options)
    assert (tmp_path / ".map.tif.partial").is_dir()
    del sink
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]
    assert (tmp_path / "map.tif").read_text() == "older"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"crop": 298, "stride": 250}, SceneError, "277 pixels wide, less than a tile: choose a smaller crop"),
        ({"crop": 320}, ConfigError, "300 x 277 pixels.*choose a smaller crop"),
        ({"crop": 96, "stride": 64, "padding": "circular"}, ConfigError, "say reflect, replicate or False"),
        ({"h_crop": 299, "w_crop": 64, "stride": 60, "delta": 0, "padding": False}, ConfigError, "covers all of row 0"),
    ],
)
def test_what_cannot_be_is_said(
    source: Any, model: nn.Module, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with ours.cog_sink(tmp_path / "map.tif", source, classes="abc") as sink, pytest.raises(error, match=message):
        tiled(model, source.image, source, sink, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_sink_is_refused(
    scene_file: Path, source: Any, model: nn.Module, image: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="say one of them"):
        ours.cog_sink(tmp_path / "map.tif", source)
    with pytest.raises(ConfigError, match="a quantity has no confidence"):
        ours.cog_sink(tmp_path / "map.tif", source, quantity=Quantity("a", 0, 1), confidence=True)
    with pytest.raises(ConfigError, match=r"name .*map\.png .tif"):
        ours.cog_sink(tmp_path / "map.png", source, classes="ab")
    with pytest.raises(OutputError, match="is one of the inputs"):
        ours.cog_sink(scene_file, source, classes="ab")
    options = {"crop": 96, "stride": 64}
    with ours.cog_sink(tmp_path / "map.tif", source, classes="ab") as sink, pytest.raises(ModelError, match="3 scores"):
        tiled(model, source.image, source, sink, **options)
    with ours.cog_sink(tmp_path / "map.tif", source, classes="abc") as sink:
        with pytest.raises(ConfigError, match=r"has to be source\.image"):
            tiled(model, image, source, sink, **options)
        with pytest.raises(ConfigError, match="no tile came"):
            sink.finalize()
        tiled(model, source.image, source, sink, **options)
        with pytest.raises(ConfigError, match="takes the tiles of one tiled_inference"):
            tiled(model, source.image, source, sink, **options)
    assert (tmp_path / "map.tif").is_file()


@pytest.mark.skipif(KNOWS_TILES, reason="this TerraTorch takes a source and a sink")
def test_an_older_terratorch_is_told_in_a_sentence(scene_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes neither a source nor a sink .* needs 1\.2\.12 or later"):
        ours.cog_source(prithvi.open_scene(scene_file), CONTRACT)


@pytest.mark.skipif(not KNOWS_TILES, reason="TerraTorch before 1.2.12 has no such protocols")
def test_they_are_what_terratorch_calls_a_source_and_a_sink(source: Any, tmp_path: Path) -> None:
    from terratorch.tasks.tiled_inference import TileSink, TileSource

    assert isinstance(source, TileSource)
    assert isinstance(ours.cog_sink(tmp_path / "map.tif", source, classes="ab"), TileSink)
