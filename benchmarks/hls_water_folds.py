"""Five folds of the places of hls_water, as the catalog has them: lines of chip, place and site.

    python benchmarks/hls_water_folds.py ../shared/data/hls_water data_catalog/hls_water/splits

What its index calls a place is not one: cuts of one ground on shifted grids have different names. Places whose ground
overlaps by more than a tenth of a chip are one site here: found by where their ESA
WorldCover agrees best, which depends on no date, and, where that is all alike, by pixels that chips of one date share.
Five sums are kept alike: land and water of all chips and of the good ones (see `is_good`), and dry
chips. Sites, those with the largest shares of them first, then by name, go one by one to the fold with which the sum of
the squares of all folds' shares is the least; of equal ones to the first.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from scipy import fft

FOLDS, SIDE = 5, 128
DRY = 0.001
"""Share of water below which a chip counts as dry."""
CODES = (10, 20, 30, 40, 50, 60, 80, 90)
TENTH = SIDE * SIDE // 10
"""Pixels. Places that share more are one site; neighbours on one grid share strips of ten, which is less."""
AGREEMENT = 0.8
"""Cohen's kappa of two maps of one ground; of different grounds at their best offset it is less."""

Map = npt.NDArray[np.int16]
Row = dict[str, str]


def overlaps(covers: dict[str, Map]) -> list[tuple[str, str]]:
    """Pairs of places whose maps agree at the offset at which they agree best."""
    size = (2 * SIDE, 2 * SIDE)
    layers = {
        place: fft.rfft2(np.stack([cover == code for code in CODES]).astype(np.float32), size)
        for place, cover in covers.items()
    }
    whole = fft.rfft2(np.ones((SIDE, SIDE), np.float32), size)
    shared = fft.irfft2(whole * whole.conj(), size).round()
    share = np.where(shared > TENTH, 1 / np.maximum(shared, 1), 0)
    found = []
    for one, other in combinations(sorted(covers), 2):
        # The correlation of each class's pixels, summed: how many agree at each offset.
        agreement = fft.irfft2((layers[one] * layers[other].conj()).sum(axis=0), size) * share
        down, right = (
            int(at) - 2 * SIDE * (at >= SIDE) for at in np.unravel_index(agreement.argmax(), agreement.shape)
        )
        if agreement.max() > AGREEMENT and kappa(part(covers[one], down, right), part(covers[other], -down, -right)):
            found.append((one, other))
    return found


def same_pixels(chips: list[tuple[str, Map]]) -> list[tuple[str, str]]:
    """Pairs of places whose chips of one date share more than a tenth: six values do not meet by chance so often."""
    key = np.random.default_rng(0).integers(1, 2**62, 6)
    keys = np.concatenate([key @ image[:6].reshape(6, -1).astype(np.int64) for _, image in chips])
    owner = np.repeat(np.array([place for place, _ in chips]), SIDE * SIDE)[np.argsort(keys, kind="stable")]
    keys = np.sort(keys)
    pairs = Counter(zip(owner[:-1][keys[1:] == keys[:-1]], owner[1:][keys[1:] == keys[:-1]], strict=True))
    return [(str(one), str(other)) for (one, other), count in pairs.items() if one != other and count > TENTH]


def part(cover: Map, down: int, right: int) -> Map:
    """What is left of a map when another one begins that many rows down and columns right of its corner."""
    return cover[max(0, down) : SIDE + min(0, down), max(0, right) : SIDE + min(0, right)]


def kappa(a: Map, b: Map) -> bool:
    """Whether two maps agree by more than their classes would by chance."""
    chance = sum(float((a == code).mean() * (b == code).mean()) for code in CODES)
    return chance < 1 and float((a == b).mean() - chance) / (1 - chance) >= AGREEMENT


def sites(places: list[str], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The first name among the places that hang together, of each place."""
    first = {place: place for place in places}
    for pair in pairs:
        lower, higher = sorted(first[place] for place in pair)
        first = {place: lower if name == higher else name for place, name in first.items()}
    return first


def dealt(rows: list[Row], site: dict[str, str]) -> dict[str, int]:
    """The fold of each site."""
    sums: dict[str, npt.NDArray[Any]] = defaultdict(lambda: np.zeros(5))
    for row in rows:
        water, good = float(row["label_water"]), is_good(row)
        sums[site[row["place"]]] += (1 - water, water, good * (1 - water), good * water, water < DRY)
    whole, folds, fold_of = sum(sums.values()), np.zeros((FOLDS, 5)), {}
    shares = {name: found / whole for name, found in sums.items()}
    for name in sorted(shares, key=lambda name: (-shares[name].sum().round(12), name)):
        # Adding m to a fold of s changes the sum of squares by 2 s m + m^2: the fold with the least s m.
        fold_of[name] = int((folds @ shares[name]).round(12).argmin())
        folds[fold_of[name]] += shares[name]
    return fold_of


def is_good(row: Row) -> bool:
    """Whether a label agrees with Fmask's water, or is dry."""
    return float(row["iou_label_fmask"]) > 0.7 or float(row["label_water"]) < DRY


def lists(root: Path) -> dict[str, list[str]]:
    """The lines of each list by the name of its part."""
    with (root / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["id"]))
    chips: list[tuple[str, Map]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for row in rows:
            with rasterio.open(root / "images" / f"{row['id']}.tif") as raster:
                chips.append((row["place"], raster.read()))
    covers = {place: image[7] for place, image in chips}
    site = sites(list(covers), [*overlaps(covers), *same_pixels(chips)])
    fold_of = dealt(rows, site)
    found: dict[str, list[str]] = {f"fold{fold}{kind}": [] for fold in range(FOLDS) for kind in ("", "_rough")}
    for row in rows:
        place = row["place"]
        part = f"fold{fold_of[site[place]]}{'' if is_good(row) else '_rough'}"
        found[part].append(f"{row['id']},{place},{site[place]}")
    return found


if __name__ == "__main__":
    for name, lines in lists(Path(sys.argv[1])).items():
        (Path(sys.argv[2]) / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name:12} {len(lines):3} chips of {len({line.split(',')[1] for line in lines})} places")
