"""A scene in a file to what is made of it in files: classes, polygons, embeddings."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio
import torch

import prithvi
from benchmarks.flood_scene import write_scene
from benchmarks.suite.jobs import Work, need
from prithvi import windows
from prithvi.catalog import dataset
from prithvi.mapping import embed_scene, map_scene
from prithvi.models import Standardise
from prithvi.process import settings_kept
from prithvi.scenes import conform, read
from prithvi.tasks import SegmentationTask

WINDOW, STRIDE, BATCH, NODATA = 224, 112, 8, -9999
TILES = {"crop": WINDOW, "stride": 192, "delta": 8, "batch_size": 16}
BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


def make(size: int, folder: Path) -> None:
    """The shipped sample, repeated; int16, six bands, tiled and compressed. A corner has no data."""
    write_scene(folder / "scene.tif", size, size)
    with rasterio.open(folder / "scene.tif", "r+") as raster:
        raster.nodata = NODATA
        window = rasterio.windows.Window(0, 0, size // 8, size // 8)
        raster.write(np.full_like(raster.read(window=window), NODATA), window=window)


def model_of(classes: int) -> Any:
    """The published tiny shape with a light head and random weights, after one batch."""
    torch.manual_seed(0)
    task = SegmentationTask(
        [f"class {number}" for number in range(classes)], model="prithvi_eo_v2_tiny_tl", head="light", window=WINDOW,
        contract=dataset("sen1floods11").contract.to_dict(),
    )  # fmt: skip
    model = task.eval().fitted().mappable()
    with torch.inference_mode():
        model.module(torch.rand(BATCH, 6, 1, WINDOW, WINDOW) * 3000)
    return model


def _write(path: Path, scene: Path, found: np.ndarray) -> None:
    with rasterio.open(scene) as raster:
        profile = {**raster.profile, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(found, 1)


def _map(way: str, folder: Path, classes: int) -> Work:
    """From the file of a scene to a file of classes, windows of 224 pixels every 112, batches of 8."""
    scene, out = folder / "scene.tif", folder / f"{way}.tif"
    if way == "openvino":
        need("openvino")
    if way in ("ours", "openvino"):
        options: dict[str, Any] = {"stride": STRIDE, "batch_size": BATCH, "device": "cpu"}
        options["engine"] = "torch" if way == "ours" else "openvino"
        model = model_of(classes)
        # A small part first: OpenVINO compiles then.
        first = prithvi.open_scene(scene)[..., :WINDOW, : BATCH * STRIDE]
        map_scene(model, first, folder / "first.tif", **options)

        def with_ours() -> None:
            map_scene(model, prithvi.open_scene(scene), out, **options)

        return with_ours
    plain = _as_peers_call(way, classes)

    def with_terratorch() -> None:
        from terratorch.tasks.tiled_inference import tiled_inference

        with rasterio.open(scene) as raster:
            image = torch.from_numpy(raster.read(out_dtype="float32"))[None]
        with torch.inference_mode():
            scores = tiled_inference(
                plain, image, crop=WINDOW, stride=STRIDE, batch_size=BATCH, delta=0, padding=False
            )[0]
        parts = [part.argmax(0).byte().numpy() for part in scores.split(256, dim=1)]
        _write(out, scene, np.where(image[0, 0].numpy() == NODATA, 255, np.concatenate(parts)).astype(np.uint8))

    def with_geoai() -> None:
        from geoai.inference import predict_geotiff

        predict_geotiff(
            plain, str(scene), str(out), tile_size=WINDOW, overlap=WINDOW - STRIDE, batch_size=BATCH,
            num_classes=classes, output_dtype="uint8", output_nodata=255, blend_mode="cosine", device="cpu",
            preprocess_fn=lambda tile: tile, postprocess_fn=lambda scores: scores.argmax(0).astype(np.uint8),
            verbose=False,
        )  # fmt: skip

    return {"terratorch": with_terratorch, "geoai": with_geoai}[way]


def _as_peers_call(way: str, classes: int) -> Any:
    """The same module, called with (B, band, Y, X), once the peer is imported."""
    if way == "terratorch":
        need("terratorch")
        with settings_kept():  # both sides at full float32 precision, which the import lowers
            import terratorch.tasks.tiled_inference  # noqa: F401
    else:
        need("geoai-py", module="geoai")
        # Its inference needs this module to choose a device only, and the module needs sixty other packages.
        stand_in = sys.modules["geoai.utils"] = ModuleType("geoai.utils")
        stand_in.get_device = None  # type: ignore[attr-defined]
        import geoai.inference  # noqa: F401
    module = model_of(classes).module

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.module(images[:, :, None])
            return scores

    return Plain().eval()


def prepare_map(way: str, size: int, folder: Path) -> Work:
    warnings.filterwarnings("ignore")
    return _map(way, folder, 2)


def prepare_map_13(way: str, size: int, folder: Path) -> Work:
    warnings.filterwarnings("ignore")
    return _map(way, folder, 13)


def check(size: int, folder: Path) -> dict[str, float]:
    """The share of observed pixels, a window's width from the edges, that have the class that ours gives them."""
    with rasterio.open(folder / "ours.tif") as raster:
        ours = raster.read(1)[WINDOW:-WINDOW, WINDOW:-WINDOW]
    known, found = ours != 255, {}
    for way in ("openvino", "terratorch", "geoai"):
        if (folder / f"{way}.tif").is_file():
            with rasterio.open(folder / f"{way}.tif") as raster:
                other = raster.read(1)[WINDOW:-WINDOW, WINDOW:-WINDOW]
            found[f"same class, {way}"] = float((ours == other)[known].mean())
    return found


def prepare_tiles(way: str, size: int, folder: Path) -> Work:
    """TerraTorch's own model by its own `tiled_inference`: all in memory, or from our source to our sink."""
    need("terratorch", (1, 2, 12))
    warnings.filterwarnings("ignore")
    with settings_kept():
        from terratorch.models import EncoderDecoderFactory
        from terratorch.tasks.tiled_inference import tiled_inference
    torch.manual_seed(0)
    model = EncoderDecoderFactory().build_model(
        "segmentation", "prithvi_eo_v2_tiny_tl", "FCNDecoder", backbone_pretrained=False, backbone_bands=BANDS,
        decoder_channels=32, decoder_num_convs=2, num_classes=2,
        necks=[{"name": "SelectIndices", "indices": [-1]}, {"name": "ReshapeTokensToImage"}],
    ).eval()  # fmt: skip
    contract, scene, out = dataset("sen1floods11").contract, folder / "scene.tif", folder / f"{way}.tif"

    def forward(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(images).output
        return found

    def theirs() -> None:
        """As frugal as it can be written: pixels are standardised in place."""
        with rasterio.open(scene) as raster:
            image = torch.from_numpy(raster.read(out_dtype="float32"))
        missing = image[0] == NODATA
        for band, mean, std in zip(image, contract.mean, contract.std, strict=True):
            band.sub_(mean).div_(std)[missing] = 0.0
        scores = tiled_inference(forward, image[None], **TILES)[0]
        _write(out, scene, torch.where(missing, 255, scores.argmax(0)).byte().numpy())

    def ours() -> None:
        from prithvi.terratorch import cog_sink, cog_source

        source = cog_source(prithvi.open_scene(scene), contract)
        with cog_sink(out, source, classes=["class 0", "class 1"]) as sink:
            tiled_inference(forward, source.image, source=source, sink=sink, **TILES)

    with torch.no_grad():
        forward(torch.randn(TILES["batch_size"], len(BANDS), WINDOW, WINDOW))
    work = theirs if way == "terratorch" else ours

    def without_gradients() -> None:
        with torch.no_grad():
            work()

    return without_gradients


def prepare_embed(way: str, size: int, folder: Path) -> Work:
    """A vector a patch into a GeoTIFF; the limit is the forward passes alone, pixels in memory."""
    warnings.filterwarnings("ignore")
    scene = folder / "scene.tif"
    model: Any = prithvi.load("prithvi_hls_tiny", num_frames=1)

    def ours() -> None:
        embed_scene(model, prithvi.open_scene(scene), folder / "embedded.tif", device="cpu")

    contract = model.config.contract
    pixels = read(conform(prithvi.open_scene(scene), contract), contract).astype(np.float32)
    window = model.config.img_size[0]
    plan = windows.plan(size, size, window, window // 2)
    standardise = Standardise(contract)

    def limit() -> dict[str, float]:
        with torch.inference_mode():
            for row in plan.rows:
                for first in range(0, len(plan.columns), BATCH):
                    columns = plan.columns[first : first + BATCH]
                    batch = np.stack([pixels[..., row : row + window, c : c + window] for c in columns])
                    model.encoder(standardise(torch.from_numpy(batch).transpose(1, 2)))
        return {"windows": float(len(plan))}

    return ours if way == "ours" else limit


# Polygons


def make_speckled(size: int, folder: Path) -> None:
    """A class map of three classes, a quarter of it single pixels of random classes, and its confidences."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), 20)
    values = np.digitize(smooth, np.quantile(smooth, (1 / 3, 2 / 3))).astype(np.uint8)
    strewn = rng.random((size, size)) < 0.25
    values[strewn] = rng.integers(0, 3, int(strewn.sum()))
    certain = rng.integers(50, 201, (size, size)).astype(np.uint8)
    profile = {"driver": "GTiff", "height": size, "width": size, "count": 1, "dtype": "uint8", "nodata": 255,
               "crs": "EPSG:32630", "transform": rasterio.transform.from_origin(6e5, 4.2e6, 10, 10), "tiled": True,
               "compress": "deflate"}  # fmt: skip
    for name, pixels in (("map", values), ("confidence", certain)):
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as raster:
            raster.write(pixels, 1)
            if name == "map":
                raster.update_tags(**{f"CLASS_{number}": f"class {number}" for number in range(3)})
            else:
                raster.scales = (0.005,)


def prepare_polygons(way: str, size: int, folder: Path) -> Work:
    """To GeoParquet: ours with areas on the ellipsoid and mean confidences, the plain way with outlines and classes."""
    import geopandas as gpd
    import shapely.geometry

    from prithvi.mapping import vectorise

    def ours() -> dict[str, float]:
        number = vectorise(folder / "map.tif", folder / "ours.parquet", confidence=folder / "confidence.tif")
        return {"polygons": float(number)}

    def plain() -> dict[str, float]:
        import rasterio.features

        with rasterio.open(folder / "map.tif") as raster:
            found = list(
                rasterio.features.shapes(raster.read(1), mask=raster.dataset_mask(), transform=raster.transform)
            )
            crs = raster.crs
        shapes = [shapely.geometry.shape(outline) for outline, _ in found]
        frame = gpd.GeoDataFrame({"class": [int(value) for _, value in found]}, geometry=shapes, crs=crs)
        frame.to_parquet(folder / "plain.parquet")
        return {"polygons": float(len(frame))}

    return ours if way == "ours" else plain
