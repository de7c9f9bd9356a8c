"""How fast chips come out of a store, against TerraTorch's and torchgeo's readers of GeoTIFFs and against the limit.

    python benchmarks/bench_chip_store.py [--chips 512]

The same real chips (6 bands x 224 x 224, int16, with a label) lie in stores of both codecs and as GeoTIFFs, with
deflate and without compression. The limit is the decompression of the store's own bytes, already in memory, by one
process. Cold: the files' pages are dropped from memory before the run. Every figure is samples a second through torch's
DataLoader, in shuffled batches of 32, from the first batch on.
"""

from __future__ import annotations

import argparse
import datetime as dt
import glob
import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numcodecs import blosc
from rasterio.transform import from_origin
from torch.utils.data import DataLoader

from prithvi.catalog import LabelClass, data_catalog
from prithvi.chips import Chip, ChipStore, Sample, StoreSpec
from prithvi.data import StoreDataset
from prithvi.process import settings_kept

SIZE = 224
BATCH = 32
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CLASSES = (LabelClass(0, "land", "E8E4D0"), LabelClass(1, "water", "2B6CB0"))


def real_chips(count: int) -> np.ndarray:
    """(count, 6, 224, 224) int16 windows of the flood images at hand: overlapping, each starting at another pixel."""
    roots = [data_catalog() / "sen1floods11" / "samples" / "S2Hand", SHARED / "sen1floods11"]
    files = sorted(
        {Path(p).name: p for r in roots for p in glob.glob(str(r / "**" / "*S2Hand.tif"), recursive=True)}.values()
    )
    images = []
    for file in files:
        with rasterio.open(file) as raster:
            images.append(raster.read((2, 3, 4, 9, 12, 13)).astype(np.int16))
    chance = np.random.default_rng(0)
    corners = chance.integers(0, 512 - SIZE, (count, 2))
    return np.stack([images[i % len(images)][:, y : y + SIZE, x : x + SIZE] for i, (y, x) in enumerate(corners)])


def write_tifs(folder: Path, images: np.ndarray, labels: np.ndarray, compress: str | None) -> None:
    """One image and one mask a chip, side by side on the ground so that torchgeo's index can tell them apart."""
    folder.mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        at = from_origin(500_000 + (number % 64) * SIZE * 10, 4_200_000 - number // 64 * SIZE * 10, 10, 10)
        profile = {"driver": "GTiff", "height": SIZE, "width": SIZE, "crs": "EPSG:32630", "transform": at}
        if compress is not None:
            profile["compress"] = compress
        for name, pixels in (
            (f"chip{number:05d}_20190918_merged.tif", image),
            (f"chip{number:05d}_20190918_mask.tif", label[None]),
        ):
            with rasterio.open(folder / name, "w", count=len(pixels), dtype=pixels.dtype, **profile) as raster:
                raster.write(pixels)


def drop_pages(folder: Path) -> None:
    """Asks the system to forget the content of all files."""
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(make: Callable[[], Iterable[Any]], repeats: int = 3) -> float:
    """Median samples a second from the first batch to the last, so that the start of processes is left out."""
    rates = []
    for _ in range(repeats):
        batches = iter(make())
        next(batches)
        began = time.perf_counter()
        seen = sum(len(batch["image"]) for batch in batches)
        rates.append(seen / (time.perf_counter() - began))
    return float(np.median(rates))


def loader(dataset: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True)


def limit(store: ChipStore) -> float:
    """Samples a second when only decompression is left to do, every byte in memory."""
    blosc.set_nthreads(1)
    packed = []
    for name in store.spec.arrays():
        array = store.array(name)
        out = np.empty(array.shape[1:], array.dtype)
        for index in range(len(store)):
            descriptor, table = array._open(index // array.per_shard)
            start, length = (int(value) for value in table[index % array.per_shard])
            packed.append((os.pread(descriptor, length, start), out))
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        for data, out in packed:
            blosc.decompress(data, out)
        rates.append(len(store) / (time.perf_counter() - began))
    return float(np.median(rates))


def terratorch_dataset(folder: Path) -> Any:
    """TerraTorch's generic dataset with six bands and no transform but the one to tensors."""
    with settings_kept():
        from terratorch.datasets import GenericNonGeoSegmentationDataset

    return GenericNonGeoSegmentationDataset(
        data_root=folder, num_classes=2, label_data_root=folder, image_grep="*_merged.tif", label_grep="*_mask.tif",
        dataset_bands=["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"],
        output_bands=["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"],
    )  # fmt: skip


def torchgeo_loader(folder: Path, count: int, workers: int) -> DataLoader[Any]:
    """The raster dataset of torchgeo (image and mask) with its random sampler."""
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import RandomGeoSampler

    class Images(RasterDataset):
        filename_glob = "*_merged.tif"
        filename_regex = r"chip\d+_(?P<date>\d{8})_merged"
        is_image = True

    class Masks(RasterDataset):
        filename_glob = "*_mask.tif"
        filename_regex = r"chip\d+_(?P<date>\d{8})_mask"
        is_image = False

    dataset = Images(folder) & Masks(folder)
    sampler = RandomGeoSampler(dataset, size=SIZE, length=count)
    return DataLoader(
        dataset, sampler=sampler, batch_size=BATCH, num_workers=workers, collate_fn=stack_samples, drop_last=True
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=512)
    count = parser.parse_args().chips
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    images = real_chips(count)
    labels = (images[:, 1] > images[:, 4]).astype(np.uint8)
    work = Path(tempfile.mkdtemp())
    try:
        print(f"{count} chips of 6 x {SIZE} x {SIZE} int16 with a label; {platform.machine()}, {os.cpu_count()} cores, "
              f"torch {torch.__version__}, {dt.date.today()}")  # fmt: skip
        rows: list[tuple[str, float, float, float, float, float]] = []
        stores = {}
        for codec in ("zstd", "lz4"):
            spec = StoreSpec(SIZE, SIZE, 1, fmask=False, classes=CLASSES, codec=codec)
            chips = [
                Chip(image[None], Sample(f"c{i}", "EPSG:32630", (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), 38.0, -1.0, (None,),
                     ("",), good=(1.0,), filled=(0,)), None, label)
                for i, (image, label) in enumerate(zip(images, labels, strict=True))
            ]  # fmt: skip
            began = time.perf_counter()
            stores[codec] = ChipStore.create(work / f"{codec}.zarr", spec, chips)
            wrote = count / (time.perf_counter() - began)
            size = sum(file.stat().st_size for file in stores[codec].path.rglob("*") if file.is_file())
            rows.append(
                _measure(
                    f"store, {codec}",
                    stores[codec].path,
                    lambda w, s=stores[codec]: loader(StoreDataset(s.path), w),
                    size,
                )
            )
            print(f"  written with {codec}: {wrote:,.0f} chips/s")
        for name, compress in (("deflate", "deflate"), ("plain", None)):
            folder = work / name
            write_tifs(folder, images, labels, compress)
            size = sum(file.stat().st_size for file in folder.rglob("*"))
            peers = {"TerraTorch": lambda w, f=folder: loader(terratorch_dataset(f), w)}
            if compress is not None:  # slow enough to be seen in a quarter of the samples
                peers["torchgeo"] = lambda w, f=folder: torchgeo_loader(f, count // 4, w)
            for peer, make in peers.items():
                rows.append(_measure(f"{peer}, {name} TIFF", folder, make, size, repeats=1))
        raw = images.nbytes + labels.nbytes
        reference = next(row for row in rows if row[0].startswith("TerraTorch, deflate"))
        heads = " ".join(f"{head:>8}" for head in ("warm 0", "warm 1", "warm 2", "cold 1", "cold 2"))
        print(f"\n{'samples/s':26} {heads} {'size':>6} {'x TerraTorch':>13}")
        for name, *figures, size in rows:
            ratio = figures[1] / reference[2]
            print(
                f"{name:26} " + " ".join(f"{figure:8,.0f}" for figure in figures) + f" {size / raw:6.2f} {ratio:13.1f}"
            )
        print(
            "(workers: 0 reads in the training process; the ratio is that of 1 worker, warm, to TerraTorch on deflate)"
        )
        for codec, store in stores.items():
            bound = limit(store)
            alone = _alone(store)
            ours = next(row for row in rows if row[0] == f"store, {codec}")
            print(
                f"limit, {codec}: decompression alone {bound:,.0f} chips/s; ChipStore.read {alone:,.0f} "
                f"({alone / bound:.0%}); with the loader, 0 workers {ours[1]:,.0f} ({ours[1] / bound:.0%})"
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _alone(store: ChipStore) -> float:
    """Samples a second of `ChipStore.read` in shuffled batches, without torch."""
    order = np.random.default_rng(0).permutation(len(store))
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        for first in range(0, len(order), BATCH):
            store.read(order[first : first + BATCH].tolist())
        rates.append(len(order) / (time.perf_counter() - began))
    return float(np.median(rates))


def _measure(
    name: str, folder: Path, make: Callable[[int], Iterable[Any]], size: int, repeats: int = 3
) -> tuple[Any, ...]:
    rate(lambda: make(0), 1)
    warm = [rate(lambda w=workers: make(w), repeats) for workers in (0, 1, 2)]
    cold = []
    for workers in (1, 2):
        drop_pages(folder)
        cold.append(rate(lambda w=workers: make(w), 1))
    return (name, *warm, *cold, size)


if __name__ == "__main__":
    main()
