"""TerraTorch's `tiled_inference` from file to file with our source and sink, beside its own way in memory.

    python benchmarks/bench_terratorch_files.py

Needs TerraTorch 1.2.12 or later. Both ways run TerraTorch's own model (its Prithvi tiny with an FCN decoder, random
weights) on the same scene, the shipped sample repeated, with a corner that has no data; each runs in a process of its
own, from opening the scene to the closed file. The baseline of memory is that process after one batch of tiles. Its own
way is as frugal as it can be written: pixels are read as float32 and standardised in place. Classes are compared pixel
by pixel.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

SIDE, WIDTH, CROP, STRIDE, DELTA, BATCH, NODATA = 3660, 3660, 224, 192, 8, 16, -9999
BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


def peak() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def model_of(classes: int) -> Any:
    """TerraTorch's model as a function, after one batch."""
    import torch

    from prithvi.process import settings_kept

    with settings_kept():  # both ways at full float32 precision, which the import lowers
        from terratorch.models import EncoderDecoderFactory

    torch.manual_seed(0)
    model = EncoderDecoderFactory().build_model(
        "segmentation", "prithvi_eo_v2_tiny_tl", "FCNDecoder", backbone_pretrained=False, backbone_bands=BANDS,
        decoder_channels=32, decoder_num_convs=2, num_classes=classes,
        necks=[{"name": "SelectIndices", "indices": [-1]}, {"name": "ReshapeTokensToImage"}],
    ).eval()  # fmt: skip

    def forward(images: Any) -> Any:
        return model(images).output

    with torch.no_grad():
        forward(torch.randn(BATCH, len(BANDS), CROP, CROP))
    return forward


def theirs(scene: Path, out: Path, classes: int, options: dict[str, Any]) -> dict[str, float]:
    """Everything in memory: the pixels, the padded pixels, the sums and the scores of the whole scene."""
    import numpy as np
    import rasterio
    import torch
    from terratorch.tasks.tiled_inference import tiled_inference

    from prithvi.catalog import dataset

    contract, forward = dataset("sen1floods11").contract, model_of(classes)
    before, start = peak(), time.perf_counter()
    with rasterio.open(scene) as raster:
        profile, image = raster.profile, torch.from_numpy(raster.read(out_dtype="float32"))
    missing = image[0] == NODATA
    for band, mean, std in zip(image, contract.mean, contract.std, strict=True):
        band.sub_(mean).div_(std)[missing] = 0.0
    scores = tiled_inference(forward, image[None], **options)[0]
    found = torch.where(missing, 255, scores.argmax(0)).byte().numpy()
    with rasterio.open(out, "w", **{**profile, "count": 1, "dtype": np.uint8, "nodata": 255}) as raster:
        raster.write(found, 1)
    return {"seconds": time.perf_counter() - start, "MB": peak() - before, "base MB": before}


def ours(scene: Path, out: Path, classes: int, options: dict[str, Any]) -> dict[str, float]:
    """The same call with a source and a sink."""
    from terratorch.tasks.tiled_inference import tiled_inference

    import prithvi
    from prithvi.catalog import dataset
    from prithvi.terratorch import cog_sink, cog_source

    forward = model_of(classes)
    before, start = peak(), time.perf_counter()
    source = cog_source(prithvi.open_scene(scene), dataset("sen1floods11").contract)
    with cog_sink(out, source, classes=[f"class {number}" for number in range(classes)]) as sink:
        tiled_inference(forward, source.image, source=source, sink=sink, **options)
    return {"seconds": time.perf_counter() - start, "MB": peak() - before, "base MB": before}


def write_scene_with_hole(path: Path, height: int) -> None:
    import rasterio
    from flood_scene import write_scene

    write_scene(path, height, WIDTH)
    with rasterio.open(path, "r+") as raster:
        raster.nodata = NODATA
        window = rasterio.windows.Window(0, 0, 700, 500)
        pixels = raster.read(window=window)
        pixels[:] = NODATA
        raster.write(pixels, window=window)


def compare(mine: Path, other: Path) -> dict[str, float]:
    import numpy as np
    import rasterio

    with rasterio.open(mine) as first, rasterio.open(other) as second:
        a, b = first.read(1), second.read(1)
        cog = first.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    shares = [float((a == value).mean()) for value in np.unique(a)]
    return {"differ": int((a != b).sum()), "pixels": a.size, "nodata": int((a == 255).sum()), "cog": cog,
            "least class": min(shares[:-1])}  # fmt: skip


def child(arguments: list[str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--height", type=int, default=SIDE)
    parser.add_argument("--classes", type=int, nargs="+", default=[2])
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--child", nargs="+")
    asked = parser.parse_args()
    if asked.child:
        what, scene, out, classes = asked.child
        options = {"crop": CROP, "stride": STRIDE, "delta": DELTA, "batch_size": BATCH}
        if what == "scene":
            write_scene_with_hole(Path(scene), int(classes))
            print("{}")
        elif what == "compare":
            print(json.dumps(compare(Path(scene), Path(out))))
        else:
            print(json.dumps({"theirs": theirs, "ours": ours}[what](Path(scene), Path(out), int(classes), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        scene = f"{folder}/scene.tif"
        child(["--child", "scene", scene, "", str(asked.height)])
        print(f"TerraTorch {metadata.version('terratorch')}, {asked.height} x {WIDTH}, tiles of {CROP}, one every "
              f"{STRIDE}, delta {DELTA}, batches of {BATCH}")  # fmt: skip
        for classes in asked.classes:
            found = {}
            for what in ("ours",) if asked.ours_only else ("theirs", "ours"):
                run = found[what] = child(["--child", what, scene, f"{folder}/{what}.tif", str(classes)])
                print(f"{classes:3} classes  {what:7} {run['seconds']:7.1f} s {run['MB']:8.0f} MB over "
                      f"{run['base MB']:.0f}", flush=True)  # fmt: skip
            if not asked.ours_only:
                same = child(["--child", "compare", f"{folder}/ours.tif", f"{folder}/theirs.tif", "0"])
                share, longer = (found["ours"][key] / found["theirs"][key] for key in ("MB", "seconds"))
                print(f"             memory {share:.3f}, seconds {longer:.3f} of theirs; {same}", flush=True)


if __name__ == "__main__":
    main()
