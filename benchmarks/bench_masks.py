"""How good the networks that find clouds are, by sensor, beside simple rules; and what a mask costs.

    python benchmarks/bench_masks.py [DATA]

DATA is a folder with real imagery and its masks (see mask_truths.py). What is called truth here is another algorithm's
mask, but for the last case. The rules are fixed and were not fitted to any of this:

- bright: cloud where the mean of blue, green and red is above .2 and the snow index (green - swir_1) / (green + swir_1)
  is below .4; shadow where nir is below .12, swir_1 below .08 and green below nir (no water).
- hot: cloud where blue - .5 red is above .08 (the haze test of Zhu and Woodcock 2012) and that mean above .15; shadow
  likewise.

Beside them stands the model `water` that ships, which has classes of cloud and shadow, learned from such masks; it has
seen the pixels and Fmasks of hls_water, and much of the other imagery.

Without DATA only the costs are measured: a scene that is the shipped sample again and again, each in a process of its
own, beside the package's own way on the same pixels.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from flood_scene import write_scene
from mask_truths import SOURCES, Classes, classes_in

import prithvi
from prithvi.contract import Contract
from prithvi.mapping.cloud_masks import network_for
from prithvi.mapping.maskproducts import CLEAR, CLOUDY, SHADOWED, UNSEEN
from prithvi.modelio.cloud_networks import ACCEPTED, cloud_network
from prithvi.scenes import conform
from prithvi.scenes.conform import read as read_pixels

WIDTH, HEIGHTS = 3660, (1024, 3660)
NAMES = ["blue", "green", "red", "nir", "swir16", "swir22"]


def by_network(scene: xr.DataArray) -> Classes:
    """(y, x) classes by the network of the scene's level, as `prithvi mask` runs it."""
    model = network_for(scene)
    found: Classes = prithvi.map(scene, model, device="cpu", batch_size=2, accept=ACCEPTED)["class"].values
    return found


@lru_cache
def water() -> Any:
    """It, opened."""
    return prithvi.load("water")


def by_water(scene: xr.DataArray) -> Classes:
    """The same by the model `water` that ships."""
    model = water()
    found = prithvi.map(scene, model, device="cpu", accept=ACCEPTED)["class"].values
    numbers = {entry.name: entry.value for entry in model.classes}
    cloud, shadow = (found == numbers[name] for name in ("cloud", "shadow"))
    return np.where(found == UNSEEN, found, np.select([cloud, shadow], [CLOUDY, SHADOWED], CLEAR)).astype(np.uint8)


def by_rule(bands: npt.NDArray[Any], cloud: npt.NDArray[np.bool_]) -> Classes:
    """Cloud where a rule says so, shadow by the rule that both share."""
    _, green, _, nir, swir, _ = bands
    dark = (nir < 0.12) & (swir < 0.08) & (green < nir)
    found = np.select([cloud, dark], [CLOUDY, SHADOWED], CLEAR)
    return np.where(np.isfinite(bands).all(axis=0), found, UNSEEN).astype(np.uint8)


def bright(bands: npt.NDArray[Any]) -> Classes:
    """By brightness and the snow index."""
    _, green, _, _, swir, _ = bands
    return by_rule(bands, (bands[:3].mean(axis=0) > 0.2) & ((green - swir) / (green + swir + 1e-6) < 0.4))


def hot(bands: npt.NDArray[Any]) -> Classes:
    """By haze and brightness."""
    return by_rule(bands, (bands[0] - 0.5 * bands[2] > 0.08) & (bands[:3].mean(axis=0) > 0.15))


def reflectance(scene: xr.DataArray) -> npt.NDArray[Any]:
    """(band, y, x) of the six bands."""
    contract = cloud_network(scene.attrs["level"]).contract
    plain = Contract(contract.bands, contract.mean, contract.std, scale=1.0)
    return read_pixels(conform(scene, plain, ACCEPTED), plain)[0]


def overlap(found: Classes, truth: Classes, value: int) -> npt.NDArray[np.int64]:
    """Pixels of one class that both have, that only the first has, and that only the second has."""
    one, other = found == value, truth == value
    return np.array([(one & other).sum(), (one & ~other).sum(), (other & ~one).sum()])


def told(counts: npt.NDArray[np.int64]) -> str:
    """IoU and F1."""
    both, more, less = (int(count) for count in counts)
    if both + less == 0:
        return "no such pixel"
    return f"{both / (both + more + less):.3f} / {2 * both / (2 * both + more + less):.3f}"


def accuracy(root: Path) -> None:
    """A table a sensor."""
    ways: dict[str, Callable[..., Classes]] = {"network": by_network, "water": by_water, "bright": bright, "hot": hot}
    print("| sensor | truth | scenes | pixels | of them cloud, shadow | way | cloud IoU / F1 | shadow IoU / F1 |")
    print("|---|---|---|---|---|---|---|---|")
    for source in SOURCES:
        counts: dict[str, dict[int, Any]] = {way: defaultdict(lambda: np.zeros(3, np.int64)) for way in ways}
        pixels = {CLEAR: 0, CLOUDY: 0, SHADOWED: 0}
        number, case = 0, None
        for case in source(root):
            number += 1
            bands = reflectance(case.scene)
            known = (case.classes != UNSEEN) & np.isfinite(bands).all(axis=0)
            for value in pixels:
                pixels[value] += int((case.classes[known] == value).sum())
            for way, call in ways.items():
                found = call(case.scene if way in ("network", "water") else bands)
                for value in (CLOUDY, SHADOWED):
                    counts[way][value] += overlap(found[known], case.classes[known], value)
        assert case is not None
        whole = sum(pixels.values())
        shares = f"{pixels[CLOUDY] / whole:.1%}, {pixels[SHADOWED] / whole:.1%}"
        for place, way in enumerate(ways):
            about = f"{case.sensor} | {case.truth} | {number} | {whole:,} | {shares}" if place == 0 else " | | | | "
            print(f"| {about} | {way} | {told(counts[way][CLOUDY])} | {told(counts[way][SHADOWED])} |", flush=True)


def agreement(root: Path) -> None:
    """One scene by each source that it has, all against all."""
    folder = root / "proteus_hls_s30_dswx"
    scene = prithvi.open_scene(folder)
    bands = reflectance(scene)
    found = {
        "Fmask": classes_in(next(folder.glob("*.Fmask.tif")), "fmask"),
        "DSWx CLOUD": classes_in(next(folder.glob("*_CLOUD.tif")), "dswx_cloud"),
        "network": by_network(scene), "water": by_water(scene), "bright": bright(bands), "hot": hot(bands),
    }  # fmt: skip
    known = np.logical_and.reduce([classes != UNSEEN for classes in found.values()])
    print("\n| | cloud | shadow | " + " | ".join(found) + " |")
    print("|---|---|---|" + "---|" * len(found))
    for name, classes in found.items():
        clear = classes[known] == CLEAR
        cells = []
        for other in found.values():
            same = (clear == (other[known] == CLEAR)).mean()
            both = overlap(classes[known], other[known], CLOUDY)
            cells.append(f"{same:.1%}, {both[0] / max(1, both.sum()):.2f}" if other is not classes else "")
        shares = f"{(classes[known] == CLOUDY).mean():.1%} | {(classes[known] == SHADOWED).mean():.1%}"
        print(f"| {name} | {shares} | " + " | ".join(cells) + " |")


def cost(way: str, file: Path) -> None:
    """Seconds and memory of one mask, in this process; the base is the process after a window."""
    warnings.filterwarnings("ignore")
    scene = prithvi.open_scene(file, level="TOA")
    if way == "ours":
        from prithvi.mapping import mask_scene

        mask_scene(scene.isel(y=slice(0, 256), x=slice(0, 256)), file.with_name("warm.tif"))
    else:
        from ukis_csmask.mask import CSmask

        def classes(part: xr.DataArray) -> Any:
            image = np.moveaxis(reflectance(part), 0, -1).astype(np.float32)
            return CSmask(image, NAMES, product_level="l1c", providers=["CPUExecutionProvider"]).csm

        classes(scene.isel(y=slice(0, 256), x=slice(0, 256)))
    base, begun, busy = peak(), time.perf_counter(), time.process_time()
    if way == "ours":
        mask_scene(scene, file.with_name("mask.tif"))
    else:
        classes(scene)
    print(json.dumps([peak() - base, base, time.perf_counter() - begun, time.process_time() - busy]))


def peak() -> float:
    """Highest resident memory of this process so far, in MB.

    As Linux counts it since the process began its program: `ru_maxrss` begins with what the parent had.
    """
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def costs() -> None:
    """Two heights of a scene as wide as a granule."""
    print("\n| scene | way | MB above the base | base, MB | seconds a megapixel | CPU seconds a megapixel |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        for height in HEIGHTS:
            file = Path(work) / f"{height}.tif"
            write_scene(file, height, WIDTH)
            for way in ("ours", "package"):
                child = subprocess.run([sys.executable, __file__, way, file], check=True, stdout=subprocess.PIPE)
                above, base, seconds, busy = json.loads(child.stdout.splitlines()[-1])
                size = height * WIDTH / 1e6
                print(f"| {height} x {WIDTH} | {way} | {above:,.0f} | {base:,.0f} | {seconds / size:.1f} | "
                      f"{busy / size:.1f} |", flush=True)  # fmt: skip


def main() -> None:
    if len(sys.argv) == 3:
        cost(sys.argv[1], Path(sys.argv[2]))
        return
    if len(sys.argv) == 2:  # the costs alone without
        warnings.simplefilter("ignore")
        root = Path(sys.argv[1])
        accuracy(root)
        agreement(root)
    costs()


if __name__ == "__main__":
    main()
