"""Chips into a store and out of it."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch.utils.data import DataLoader

from benchmarks.flood_scene import read_sample
from benchmarks.suite.jobs import Work, need
from prithvi.catalog import LabelClass
from prithvi.chips import Chip, ChipStore, DateRule, Filters, Sample, StoreSpec
from prithvi.chips.recipes import Recipe, store_of_granules
from prithvi.data import StoreDataset
from prithvi.hls import write_items
from prithvi.process import settings_kept

SIDE, BATCH, TILE = 224, 32, 1024
CLASSES = (LabelClass(0, "land", "E8E4D0"), LabelClass(1, "water", "2B6CB0"))
BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


def make_chips(size: int, folder: Path) -> None:
    """The same chips (6, 224, 224) int16 with a label, in stores and as deflated GeoTIFFs, an image and a mask each."""
    sample, chance = read_sample().astype(np.int16), np.random.default_rng(0)
    corners = chance.integers(0, sample.shape[1] - SIDE, (size, 2))
    images = np.stack([sample[:, y : y + SIDE, x : x + SIDE] for y, x in corners])
    labels = (images[:, 1] > images[:, 4]).astype(np.uint8)
    place = (10.0, 0.0, 0.0, 0.0, -10.0, 0.0)
    for codec in ("zstd", "lz4"):
        chips = [
            Chip(image[None], Sample(f"c{number}", "EPSG:32630", place, 38.0, -1.0, (None,), ("",), good=(1.0,),
                                     filled=(0,)), None, label)
            for number, (image, label) in enumerate(zip(images, labels, strict=True))
        ]  # fmt: skip
        ChipStore.create(
            folder / f"{codec}.zarr", StoreSpec(SIDE, SIDE, 1, fmask=False, classes=CLASSES, codec=codec), chips
        )
    (folder / "tifs").mkdir()
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "crs": "EPSG:32630", "compress": "deflate",
               "transform": from_origin(5e5, 4.2e6, 10, 10)}  # fmt: skip
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        for kind, pixels in (("merged", image), ("mask", label[None])):
            path = folder / "tifs" / f"chip{number:05d}_{kind}.tif"
            with rasterio.open(path, "w", count=len(pixels), dtype=pixels.dtype, **profile) as raster:
                raster.write(pixels)


def _their_dataset(folder: Path) -> Any:
    """TerraTorch's generic dataset with six bands and no transform but the one to tensors."""
    need("terratorch")
    with settings_kept():
        from terratorch.datasets import GenericNonGeoSegmentationDataset

    return GenericNonGeoSegmentationDataset(
        data_root=folder, num_classes=2, label_data_root=folder, image_grep="*_merged.tif", label_grep="*_mask.tif",
        dataset_bands=BANDS, output_bands=BANDS,
    )  # fmt: skip


def _decompression(store: ChipStore) -> Work:
    """All that a reader has to do at least: the store's own bytes, in memory already, decompressed on one thread."""
    from numcodecs import blosc

    blosc.set_nthreads(1)
    packed = []
    for name in store.spec.arrays():
        array = store.array(name)
        out = np.empty(array.shape[1:], array.dtype)
        for index in range(len(store)):
            descriptor, table = array._open(index // array.per_shard)
            start, length = (int(value) for value in table[index % array.per_shard])
            packed.append((os.pread(descriptor, length, start), out))

    def work() -> None:
        for data, out in packed:
            blosc.decompress(data, out)

    return work


def prepare_loader(way: str, size: int, folder: Path) -> Work:
    """All chips once, in shuffled batches of 32, in the training process."""
    if way == "limit":
        return _decompression(ChipStore(folder / "zstd.zarr"))
    dataset: Any
    if way == "terratorch":
        dataset = _their_dataset(folder / "tifs")
    else:
        dataset = StoreDataset(folder / ("lz4.zarr" if way == "lz4" else "zstd.zarr"))
    order = torch.Generator()

    def work() -> dict[str, float]:
        order.manual_seed(0)
        loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, generator=order)
        return {"chips": float(sum(len(batch["image"]) for batch in loader))}

    return work


def make_granules(size: int, folder: Path) -> None:
    """Synthetic HLS tiles of 1,024 x 1,024 pixels, four dates each."""
    from tests.synthetic_hls import make_archive

    names = [f"31U{column}{row}" for column in "CDEFG" for row in "PQRSTUVA"][:size]
    archive = make_archive(folder / "granules", names, dates=4, every_days=15, size=TILE, swath=False)
    write_items(archive.items, folder / "items.json")


def prepare_build(way: str, size: int, folder: Path) -> Work:
    """A store of chips of 128 x 128 and three dates; the limit reads all bands of all granules."""
    recipe = Recipe(
        size=128, frames=3, filters=Filters(0.0, 0.99), dates=DateRule(3, 10, 60, 1.0, 1.0, wanted=0), per_place=1
    )
    files = sorted(glob.glob(str(folder / "granules" / "HLS*" / "*.tif")))

    def ours() -> dict[str, float]:
        store = Path(tempfile.mkdtemp(dir=folder)) / "s.zarr"  # one that is there would be gone on with
        return {"chips": float(len(store_of_granules(folder / "items.json", store, recipe, shard=32)))}

    def limit() -> dict[str, float]:
        read = 0
        for file in files:
            with rasterio.open(file) as raster:
                read += raster.read().nbytes
        return {"MB read": read / 1e6}

    return ours if way == "ours" else limit
