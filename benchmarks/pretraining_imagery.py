"""The stores that `prithvi_hls_tiny` was pretrained on and is measured on, out of small real scenes.

    python benchmarks/pretraining_imagery.py FOLDER OUT [--without-fold K]

FOLDER holds the sources by the names of `pretraining_sources.py` (each with its own README and licence). OUT gets
sr.zarr, toa.zarr and series.zarr to train on, clouds.zarr for the shapes of masks, and held_out_sr.zarr,
held_out_toa.zarr and held_out_series.zarr from sources that no training sees, and probe.zarr, one of these with its
labels. Labels of all but clouds.zarr and probe.zarr are those of `pseudo_labels.py`: what others' masks and maps say of
the chip's date, 255 where they say nothing or differ; a chip of several dates has none.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pretraining_sources import CLEAR, CLOUD, FILL, HELD_OUT, SITE, SOURCES, Scene, ukis_csmask
from pseudo_labels import LEGEND

from prithvi.catalog import data_catalog
from prithvi.catalog.datasets import LabelClass
from prithvi.chips import ChipStore, StoreSpec
from prithvi.chips.spec import NODATA, UNLABELLED, Chip, Sample

SIZE, FRAMES = 64, 4


def coarser(scene: Scene, factor: int) -> Scene:
    """The same with pixels averaged by squares; a square with a cloudy pixel is cloudy, one of one label has it."""
    rows, columns = (size // factor for size in scene.image.shape[2:])

    def squares(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        cut = values[..., : rows * factor, : columns * factor]
        return cut.reshape(*values.shape[:-2], rows, factor, columns, factor)

    image = np.round(squares(scene.image).mean(axis=(-3, -1))).astype(np.int16)
    fmask = np.bitwise_or.reduce(np.bitwise_or.reduce(squares(scene.quality()), axis=-3), axis=-1)
    label = None
    if scene.label is not None:
        least, most = squares(scene.label).min(axis=(-3, -1)), squares(scene.label).max(axis=(-3, -1))
        label = np.where(least == most, most, UNLABELLED).astype(np.uint8)
    a, b, c, d, e, f = scene.affine
    return Scene(scene.source, image, scene.level, fmask, scene.dates, scene.place, crs=scene.crs,
                 affine=(a * factor, b, c, d, e * factor, f), label=label, stride=scene.stride)  # fmt: skip


def windows(scene: Scene) -> Iterator[tuple[int, int]]:
    """Corners of squares that cover a scene, overlapping."""
    height, width = scene.image.shape[2:]
    for row in sorted({*range(0, height - SIZE + 1, scene.stride), height - SIZE}):
        for column in sorted({*range(0, width - SIZE + 1, scene.stride), width - SIZE}):
            yield row, column


def cut(scene: Scene, dates: npt.NDArray[np.int64], row: int, column: int, name: str) -> Chip | None:
    """One chip; None with less than half of a date there or clear."""
    square = (slice(row, row + SIZE), slice(column, column + SIZE))
    image = scene.image[dates][(..., *square)]
    fmask = scene.quality()[dates][(..., *square)]
    good = ((fmask & 10) == 0) & (fmask != FILL)
    if (good.mean(axis=(1, 2)) < 0.5).any():
        return None
    label = np.full((SIZE, SIZE), UNLABELLED, np.uint8)
    if scene.label is not None and len(dates) == 1:  # a series has a label on each date, and a chip holds one
        label = np.where(fmask[0] == FILL, UNLABELLED, scene.label[dates[0]][square]).astype(np.uint8)
    times = tuple(dt.datetime.combine(d, dt.time(10), dt.UTC) if d else None for d in np.array(scene.dates)[dates])
    a, b, c, d, e, f = scene.affine
    affine = (a, b, c + a * column, d, e, f + e * row)
    granules = tuple(f"{scene.source}/{time.date() if time else 'undated'}" for time in times)
    sample = Sample(name, scene.crs, affine, *scene.place, times, granules, scene.source.split("/")[0],
                    "val" if hash_of(name) % 20 == 0 else "train", tuple(good.mean(axis=(1, 2)).tolist()),
                    (0,) * len(dates), float((label != UNLABELLED).mean()))  # fmt: skip
    return Chip(image.copy(), sample, fmask.copy(), label)


def hash_of(name: str) -> int:
    """A number that stays the same between runs."""
    import zlib

    return zlib.crc32(name.encode())


def singles(scene: Scene) -> Iterator[Chip]:
    """Every window of every date, at 10, 20 and 30 m where the scene is fine enough."""
    for factor in (1, 2, 3) if scene.fine else (1,):
        view = scene if factor == 1 else coarser(scene, factor)
        if min(view.image.shape[2:]) < SIZE:
            continue
        for date in range(len(view.image)):
            for row, column in windows(view):
                chip = cut(view, np.array([date]), row, column, f"{scene.source}/{date}/x{factor}/{row}/{column}")
                if chip is not None:
                    yield chip


def sequences(scene: Scene, each: int, seed: int = 0) -> Iterator[Chip]:
    """Random dates in order, of every window."""
    random = np.random.default_rng([seed, hash_of(scene.source)])
    frames = min(FRAMES, len(scene.image))
    for factor in (1, 2, 3) if scene.fine else (1,):
        view = scene if factor == 1 else coarser(scene, factor)
        if min(view.image.shape[2:]) < SIZE:
            continue
        good = ((view.quality() & 10) == 0).mean(axis=(1, 2))
        usable = np.flatnonzero(good >= 0.5)
        for row, column in windows(view):
            for number in range(each):
                dates = np.sort(random.choice(usable, min(frames, len(usable)), replace=False))
                chip = cut(view, dates, row, column, f"{scene.source}/s{number}/x{factor}/{row}/{column}")
                if chip is not None:
                    yield padded(chip)


def padded(chip: Chip) -> Chip:
    """With missing dates behind its own."""
    lacking = FRAMES - len(chip.image)
    if not lacking:
        return chip
    import dataclasses

    assert chip.fmask is not None
    image = np.concatenate([chip.image, np.full((lacking, *chip.image.shape[1:]), NODATA, np.int16)])
    fmask = np.concatenate([chip.fmask, np.full((lacking, *chip.fmask.shape[1:]), FILL, np.uint8)])
    s = chip.sample
    sample = dataclasses.replace(s, times=(*s.times, *[None] * lacking), granules=(*s.granules, *[""] * lacking),
                                 good=(*s.good, *[0.0] * lacking), filled=(0,) * FRAMES)  # fmt: skip
    return Chip(image, sample, fmask, chip.label)


def cloud_shapes(root: Path) -> Iterator[Chip]:
    """Masks of real clouds without any image under them."""
    masks = np.load(root / "eolearn" / "CLM.npy")[..., 0]
    empty = np.full((1, 6, SIZE, SIZE), NODATA, np.int16)
    for number, mask in enumerate(masks):
        for row, column in ((0, 0), (0, 36), (37, 0), (37, 36)):
            square = mask[row : row + SIZE, column : column + SIZE]
            fmask = np.where(square > 0, CLOUD, CLEAR).astype(np.uint8)[None]
            nowhere = Sample(f"clouds/{number}/{row}/{column}", "", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.nan, np.nan,
                             (None,), ("eolearn/CLM",), "clouds", "", (0.0,), (0,))  # fmt: skip
            yield Chip(empty, nowhere, fmask)


PROBE_CLASSES = tuple(
    LabelClass(value, name, color)
    for value, (name, color) in enumerate(
        (("shadow", "4A4A4A"), ("water", "2B6CB0"), ("land", "7A9A3A"), ("cloud", "F0F0F0"))
    )
)


def probe_chips(root: Path) -> Iterator[Chip]:
    """The labelled scene of ukis_csmask, a source that is kept back: left half to fit a probe on, right to measure."""
    (scene,) = ukis_csmask(root / "ukis_csmask")
    with np.load(root / "ukis_csmask" / "sentinel2.npz") as file:
        label = np.array([0, 1, 255, 2, 3], np.uint8)[file["msk"][..., 0]]
    for row in range(0, 512, SIZE):
        for column in (*range(0, 4 * SIZE, SIZE), *range(5 * SIZE, 512, SIZE)):
            square = (slice(row, row + SIZE), slice(column, column + SIZE))
            sample = Sample(f"probe/{row}/{column}", "", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), np.nan, np.nan, (None,),
                            ("ukis_csmask",), "ukis_csmask", "train" if column < 4 * SIZE else "val", (1.0,), (0,),
                            1.0)  # fmt: skip
            yield Chip(scene.image[(..., *square)].copy(), sample, scene.quality()[(..., *square)], label[square])


def places_of_fold(fold: int) -> set[str]:
    """The places of hls_water that a model which is measured on a fold has not seen."""
    folder = data_catalog() / "hls_water" / "splits"
    lines = [line for file in folder.glob(f"fold{fold}*.txt") for line in file.read_text(encoding="utf-8").split()]
    return {line.split(",")[1] for line in lines}


def build(root: Path, out: Path, without_fold: int | None = None) -> None:
    """Writes all stores, without the places of one fold of hls_water."""
    unseen = () if without_fold is None else tuple(f"hls_water/{place}/" for place in places_of_fold(without_fold))
    scenes = [
        scene
        for name, reader in SOURCES.items()
        for scene in reader(root / name)
        if not scene.source.startswith(unseen)
    ]
    trained = [scene for scene in scenes if not scene.source.startswith(HELD_OUT)]
    held = [scene for scene in scenes if scene.source.startswith(HELD_OUT)]
    sentinel = f"{SITE}/S2"

    def of(some: list[Scene], level: str) -> list[Chip]:
        return [chip for scene in some if scene.level == level for chip in singles(scene)]

    def series(some: list[Scene]) -> list[Chip]:
        return [
            chip
            for scene in some
            if len(scene.image) > 1
            for chip in sequences(scene, 400 if scene.source.endswith(sentinel) else 60 if "L8" in scene.source else 6)
        ]

    for name, chips, frames, level in (
        ("sr", of(trained, "SR"), 1, "SR"),
        ("toa", of(trained, "TOA"), 1, "TOA"),
        ("series", series(trained), FRAMES, "SR"),
        ("clouds", list(cloud_shapes(root)), 1, "SR"),
        ("held_out_sr", of(held, "SR"), 1, "SR"),
        ("held_out_toa", of(held, "TOA"), 1, "TOA"),
        ("held_out_series", series(held), FRAMES, "SR"),
    ):
        spec = StoreSpec(SIZE, SIZE, frames, level=level, codec="lz4", classes=() if name == "clouds" else LEGEND)
        ChipStore.create(out / f"{name}.zarr", spec, chips)
        places = sorted({chip.sample.tile for chip in chips})
        print(f"{name:16} {len(chips):6} chips of {', '.join(places)}", flush=True)
        if spec.classes:
            counts = np.bincount(np.array([chip.label for chip in chips], np.uint8).ravel(), minlength=256)
            print(" " * 16, ", ".join(f"{entry.name} {counts[entry.value]:,}" for entry in LEGEND), flush=True)
    probe = StoreSpec(SIZE, SIZE, 1, level="TOA", codec="lz4", classes=PROBE_CLASSES)
    ChipStore.create(out / "probe.zarr", probe, probe_chips(root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without-fold", type=int, choices=range(5), help="leave its places of hls_water out")
    options = parser.parse_args()
    build(options.folder, options.out, options.without_fold)


if __name__ == "__main__":
    main()
