"""Embeddings: those of the encoder, block by block in their place, and the same from memory, rows and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from rasterio.warp import transform as project

import prithvi
from prithvi.errors import BandError, ConfigError, ModelError, SceneError
from prithvi.mapping import embed_scene, engine
from prithvi.modelio.predictor import FittedModel
from prithvi.models import PrithviMAE, build
from prithvi.scenes import open_scene

Write = Callable[..., Path]
UTM = Affine(10, 0, 600_000, 0, -10, 4_200_000)
ROTATED = Affine.translation(600_000, 4_200_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
DAY = "2019-09-18"


def tiny(frames: int = 1, **options: Any) -> PrithviMAE:
    """A small autoencoder with random weights and loud codes of date and place."""
    torch.manual_seed(1)
    shape = {"img_size": 32, "embed_dim": 64, "depth": 3, "num_heads": 2, "decoder_embed_dim": 32, "decoder_depth": 1,
             "decoder_num_heads": 2, "patch_size": (1, 4, 4),
             "coords_encoding": ("time", "location"), "resolution": None}  # fmt: skip
    model = build("prithvi_hls_tiny", frames, **{**shape, **options})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(3.0)
    return model.eval()


def by_hand(model: PrithviMAE, pixels: np.ndarray, layer: int, days: list[tuple[int, int]], x: float, y: float) -> Any:
    """(step, feature, y, x) of one window of (T, band, y, x) reflectance x 10,000 whose middle lies at x, y in UTM."""
    contract, patch = model.contract, model.config.patch_size[1]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (contract.mean, contract.std))
    standard = (pixels.astype(np.float32).clip(0, 10_000) - mean) / std
    (longitude,), (latitude,) = project("EPSG:32630", "EPSG:4326", [x], [y])
    images = torch.from_numpy(standard).transpose(0, 1)[None]
    dates, place = torch.tensor([days], dtype=torch.float32), torch.tensor([[latitude, longitude]], dtype=torch.float32)
    with torch.inference_mode():
        tokens = model.encoder.forward_features(images, dates, place)[layer][0, 1:].numpy()
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    return tokens.reshape(-1, rows, columns, tokens.shape[-1]).transpose(0, 3, 1, 2)


def read(path: Path, shape: tuple[int, int]) -> np.ndarray:
    with rasterio.open(path) as raster:
        values: np.ndarray = raster.read().reshape(*shape, *raster.shape)
    return values


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -3])
def test_one_window_equals_the_encoder_by_hand(layer: int, six_bands: np.ndarray, write_tif: Write) -> None:
    model, part = tiny(), six_bands[:, 200:232, 300:332]
    result = prithvi.embed(open_scene(write_tif(part), dates=[DAY]), model, layer=layer)
    expected = by_hand(model, part[None], layer, [(2019, 260)], 600_160, 4_199_840)
    assert result["embedding"].dims == ("step", "feature", "y", "x")
    assert result["embedding"].dtype == np.float16
    np.testing.assert_allclose(result["embedding"], expected, rtol=1e-3, atol=1e-4)
    assert result.attrs["PRITHVI_LAYER"] == str(layer % 3)


def test_three_dates_are_three_steps(six_bands: np.ndarray, write_tif: Write) -> None:
    model, days = tiny(3), ["2019-06-01", "2019-07-11", "2020-01-01"]
    part = np.stack([six_bands[:, 32 * step : 32 * step + 32, :32] for step in range(3)])
    scene = open_scene([write_tif(part[step], f"{step}.tif") for step in range(3)], dates=days)
    result = prithvi.embed(scene, model)
    expected = by_hand(model, part, -1, [(2019, 151), (2019, 191), (2020, 0)], 600_160, 4_199_840)
    np.testing.assert_allclose(result["embedding"], expected, rtol=1e-3, atol=1e-4)
    assert [str(day)[:10] for day in result["time"].values] == days
    with pytest.raises(SceneError, match="has 3 dates, and the model wants 1"):
        prithvi.embed(scene, tiny())
    assert prithvi.embed(scene, "prithvi_hls_tiny")["embedding"].sizes["step"] == 3  # one that is named is laid out


def test_a_patch_of_several_dates_is_one_step(six_bands: np.ndarray, write_tif: Write) -> None:
    model = tiny(2, patch_size=(2, 4, 4), coords_encoding=())
    files = [write_tif(six_bands[:, :32, :32], f"{step}.tif") for step in range(2)]
    result = prithvi.embed(open_scene(files, dates=[DAY, "2019-10-01"]), model)
    assert dict(result["embedding"].sizes) == {"step": 1, "feature": 64, "y": 8, "x": 8}
    assert "time" not in result.coords


def test_a_fitted_model_gives_its_own_encoder_s(
    fitted: FittedModel, six_bands: np.ndarray, write_tif: Write, model_folder: Path
) -> None:
    part = six_bands[:, :32, :32]
    scene = open_scene(write_tif(part), dates=[DAY])
    found = prithvi.embed(scene, fitted)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (fitted.contract.mean, fitted.contract.std))
    images = torch.from_numpy((part.astype(np.float32) - mean) / std)[None, :, None]
    assert fitted.model.encoder is not None
    with torch.inference_mode():
        tokens = fitted.model.encoder.forward_features(images)[-1][0, 1:].numpy()
    side, patch = found.sizes["y"], fitted.model.config.patch_size[1]
    assert side == 32 // patch
    expected = tokens.reshape(side, side, -1).transpose(2, 0, 1)
    np.testing.assert_allclose(found["embedding"][0], expected, rtol=1e-3, atol=1e-4)
    assert found.attrs["PRITHVI_WEIGHTS_SHA256"] == fitted.sha256
    np.testing.assert_array_equal(prithvi.embed(scene, model_folder)["embedding"], found["embedding"])


def test_pooled_is_the_mean_of_a_window(six_bands: np.ndarray, write_tif: Write) -> None:
    model, part = tiny(), six_bands[:, 100:164, 100:132]
    result = prithvi.embed(open_scene(write_tif(part), dates=[DAY]), model, pooled=True)
    for row in (0, 1):
        here = part[None, :, 32 * row : 32 * row + 32]
        tokens = by_hand(model, here, -1, [(2019, 260)], 600_160, 4_199_840 - 320 * row)
        np.testing.assert_allclose(result["embedding"][..., row, 0], tokens.mean(axis=(2, 3)), rtol=1e-3, atol=1e-4)
    assert result["embedding"].shape == (1, 64, 2, 1)
    assert result.rio.transform(recalc=False) == UTM @ Affine.scale(32)


def test_dates_and_places_reach_the_encoder(six_bands: np.ndarray, write_tif: Write) -> None:
    part, found = six_bands[:, :32, :32], []
    for name, day, east in (("a", DAY, 600_000), ("b", "2019-01-01", 600_000), ("c", DAY, 300_000)):
        path = write_tif(part, f"{name}.tif", transform=Affine(10, 0, east, 0, -10, 4_200_000))
        found.append(prithvi.embed(open_scene(path, dates=[day]), tiny())["embedding"].values)
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32630", UTM),
        ("EPSG:4326", Affine(1e-4, 0, -3.5, 0, -1e-4, 41.0)),
        ("EPSG:32630", ROTATED),
        ("EPSG:32630", Affine(10, 0, 600_000, 0, 10, 4_200_000)),  # rows run north
    ],
)
@pytest.mark.parametrize("pooled", [False, True])
def test_blocks_lie_where_their_pixels_lie(
    crs: str, transform: Affine, pooled: bool, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :96], crs=crs, transform=transform), dates=[DAY])
    model, block = tiny(), 32 if pooled else 4
    result = prithvi.embed(scene.compute(), model, pooled=pooled)
    height, width = 64 // block, 96 // block
    wanted = transform @ Affine.scale(block)
    assert dict(result.sizes) == {"step": 1, "feature": 64, "y": height, "x": width}
    assert result.rio.transform(recalc=False).almost_equals(wanted, 1e-9)
    assert result.rio.crs == scene.rio.crs
    if transform.b == 0:
        np.testing.assert_allclose(result["x"], scene["x"].values.reshape(width, block).mean(axis=1), rtol=1e-12)
        np.testing.assert_allclose(result["y"], scene["y"].values.reshape(height, block).mean(axis=1), rtol=1e-12)
        assert result["embedding"].rio.transform().almost_equals(wanted, 1e-9)
    path = embed_scene(model, scene, tmp_path / "out" / "e.tif", pooled=pooled)
    with rasterio.open(path) as made:
        assert (made.crs, made.shape) == (scene.rio.crs, (height, width))
        assert made.transform.almost_equals(wanted, 1e-9)
        np.testing.assert_array_equal(made.read(), result["embedding"][0])


@pytest.mark.parametrize("pooled", [False, True])
def test_blocks_over_the_far_edges_see_their_scene_mirrored(
    pooled: bool, six_bands: np.ndarray, write_tif: Write
) -> None:
    part = six_bands[:, :61, :78] if not pooled else six_bands[:, :49, :50]
    padded = np.pad(part, ((0, 0), (0, 3 if not pooled else 15), (0, 2 if not pooled else 14)), mode="reflect")
    assert padded.shape[1] % 4 == padded.shape[2] % 4 == 0
    model = tiny()
    found, expected = (
        prithvi.embed(open_scene(write_tif(pixels, name), dates=[DAY]), model, pooled=pooled)["embedding"]
        for pixels, name in ((part, "part.tif"), (padded, "padded.tif"))
    )
    np.testing.assert_array_equal(found, expected)


def test_a_scene_smaller_than_a_window_is_mirrored_to_one(six_bands: np.ndarray, write_tif: Write) -> None:
    part = six_bands[:, :20, :32]
    padded = np.pad(part, ((0, 0), (0, 12), (0, 0)), mode="reflect")
    found = prithvi.embed(open_scene(write_tif(part), dates=[DAY]), tiny())["embedding"]
    expected = by_hand(tiny(), padded[None], -1, [(2019, 260)], 600_160, 4_199_840)
    np.testing.assert_allclose(found, expected[:, :, :5], rtol=1e-3, atol=1e-4)


def test_blocks_without_data_are_nan(six_bands: np.ndarray, write_tif: Write) -> None:
    holes = six_bands[:, :64, :64].copy()
    holes[:, 8:16, 20:33] = -9999  # whole blocks: rows 2 to 3, columns 5 to 7; of column 8 some pixels
    holes[3, 40:44, 40:44] = -9999  # one band is enough
    result = prithvi.embed(open_scene(write_tif(holes, nodata=-9999), dates=[DAY]), tiny())["embedding"].values
    expected = np.zeros((16, 16), bool)
    expected[2:4, 5:8] = expected[10, 10] = True
    np.testing.assert_array_equal(np.isnan(result), np.broadcast_to(expected, result.shape))


@pytest.mark.parametrize("height", [97, 101, 128])
@pytest.mark.parametrize("pooled", [False, True])
def test_memory_rows_and_files_hold_the_same(
    height: int,
    pooled: bool,
    six_bands: np.ndarray,
    write_tif: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit, in several blocks of rows, with stripes without data and a last block that hangs over."""
    monkeypatch.setattr(engine, "ROWS", 32)
    pixels = six_bands[:, :height, :75].copy()
    pixels[:, 40:80, 10:50] = -9999
    scene, model = open_scene(write_tif(pixels, nodata=-9999), dates=[DAY]), tiny()
    eager, lazy = (prithvi.embed(part, model, pooled=pooled) for part in (scene.compute(), scene))
    assert lazy["embedding"].chunks is not None
    assert len(lazy["embedding"].chunks[2]) == 4
    assert eager["embedding"].chunks is None
    assert np.isnan(eager["embedding"]).any() == (not pooled)
    xr.testing.assert_identical(lazy.compute(), eager)
    store = embed_scene(model, scene, tmp_path / "e.zarr", pooled=pooled)
    kept = xr.open_zarr(store, decode_coords="all").compute()
    np.testing.assert_array_equal(kept["embedding"], eager["embedding"])
    for name in ("x", "y", "time"):
        np.testing.assert_array_equal(kept[name], eager[name])
    path = embed_scene(model, scene, tmp_path / "e.tif", pooled=pooled)
    np.testing.assert_array_equal(read(path, (1, 64)), eager["embedding"])


def test_what_was_let_pass_is_told(six_bands: np.ndarray, write_tif: Write, tmp_path: Path) -> None:
    names = ("blue", "green", "red", "nir_broad", "swir_1", "swir_2")
    scene = open_scene(write_tif(six_bands[:, :32, :32], names=names), dates=[DAY])
    with pytest.raises(BandError, match="nir_broad"):
        prithvi.embed(scene, tiny())
    assert prithvi.embed(scene, tiny(), accept=["nir_broad"]).attrs["PRITHVI_ACCEPTED"] == "nir_broad"
    path = embed_scene(tiny(), scene, tmp_path / "e.tif", accept=["nir_broad"])
    with rasterio.open(path) as made:
        assert made.tags()["PRITHVI_ACCEPTED"] == "nir_broad"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"layer": 3}, ConfigError, "no layer 3: the encoder has 3, 0 to 2"),
        ({"layer": -4}, ConfigError, "no layer -4"),
        ({"stride": 6}, ConfigError, "a stride of 6 pixels is no whole number of blocks of 4"),
        ({"stride": 0}, ConfigError, "the stride 0 must lie between 1 and the window 32"),
        ({"stride": 16, "pooled": True}, ConfigError, "a stride of 16 pixels is no whole number of blocks of 32"),
        ({"stride": 64}, ConfigError, "the stride 64 must lie between"),
        ({"window": 30}, ConfigError, "a window of 30 pixels is no whole number of patches of 4"),
        ({"window": 0}, ConfigError, "cannot plan windows of 0"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    options: dict[str, Any], error: type[Exception], text: str, six_bands: np.ndarray, write_tif: Write
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    with pytest.raises(error, match=text):
        prithvi.embed(scene, tiny(), **options)


@pytest.mark.slow
def test_models_without_an_encoder_are_refused(
    fitted: FittedModel, program_file: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    scene = open_scene(write_tif(six_bands[:, :64, :64]), dates=[DAY])
    with pytest.raises(ModelError, match="is an exported program, which gives no embeddings"):
        prithvi.embed(scene, program_file)
    assert prithvi.embed(scene, fitted.mappable()).equals(prithvi.embed(scene, fitted))
    with pytest.raises(ModelError, match="a Identity gives no embeddings"):
        prithvi.embed(scene, torch.nn.Identity())  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="fewer than one patch"):
        prithvi.embed(open_scene(write_tif(six_bands[:, :3, :64], "low.tif"), dates=[DAY]), tiny())
    with pytest.raises(ConfigError, match=r"written as \.tif or \.zarr"):
        embed_scene(tiny(), scene, tmp_path / "e.nc")


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_the_command_writes_what_the_function_gives(
    suffix: str, prithvi: Callable[..., Any], fitted: FittedModel, model_folder: Path, six_bands: np.ndarray,
    write_tif: Write, tmp_path: Path,
) -> None:  # fmt: skip
    from prithvi.mapping import embed

    path, target = write_tif(six_bands[:, :64, :96], "my scene.tif", names=None), tmp_path / "out" / f"e{suffix}"
    answer = prithvi(
        "embed", model_folder, path, "-o", target, "--layer", "0", "--pooled", "--bands", "1,2,3,4,5,6",
        "--date", DAY, "--window", "16", "--device", "cpu",
    )  # fmt: skip
    assert (answer.code, answer.err.count("Error")) == (0, 0)
    assert str(target) in answer.out
    scene = open_scene(path, bands=[1, 2, 3, 4, 5, 6], dates=[DAY])
    expected = embed(scene, fitted, layer=0, pooled=True, window=16)["embedding"]
    if suffix == ".zarr":
        kept = xr.open_zarr(target)
        values, command = kept["embedding"].values, kept.attrs["PRITHVI_COMMAND"]
    else:
        values = read(target, (1, 64))
        with rasterio.open(target) as made:
            command = made.tags()["PRITHVI_COMMAND"]
    np.testing.assert_array_equal(values, expected)
    assert command.startswith("prithvi embed ")
    assert "'" in command  # the space in the file's name is quoted


def test_the_command_says_a_mistake_in_a_sentence(
    prithvi: Callable[..., Any], model_folder: Path, six_bands: np.ndarray, write_tif: Write, tmp_path: Path
) -> None:
    path = write_tif(six_bands[:, :64, :64])
    for more, text in (
        (["-o", tmp_path / "e.nc"], "written as .tif or .zarr"),
        (["-o", tmp_path / "e.tif", "--layer", "9"], "there is no layer 9"),
        (["-o", tmp_path / "e.tif", "--bands", "1,2"], "--bands has 2 numbers; this model wants 6"),
    ):
        answer = prithvi("embed", model_folder, path, *more)
        assert answer.code == 2
        assert text in answer.err
    from prithvi.modelio import open_folder
    from prithvi.modelio.program import export

    program = export(open_folder(model_folder), tmp_path / "flood.pt2")
    answer = prithvi("embed", program, path, "-o", tmp_path / "e.tif")
    assert answer.code == 2
    assert "exported program, which gives no embeddings" in answer.err


def test_the_documentation_s_example_runs(
    six_bands: np.ndarray, write_tif: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "embeddings.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    write_tif(six_bands[:, :64, :96], transform=Affine(30, 0, 600_000, 0, -30, 4_200_000))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert float(capsys.readouterr().out) == pytest.approx(1, abs=1e-3)
