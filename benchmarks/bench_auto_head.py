"""What `--model.head auto` chooses on the shipped flood chip, and what each candidate and baseline gives beside it.

The demo's columns in squares of 32 pixels: 112 to train on, 32 to choose by, 80 to test, one chip of one flood in all.

    python benchmarks/bench_auto_head.py [FOLDER] [STEPS]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import rasterio
from rasterio.windows import Window

from prithvi.catalog import data_catalog, dataset
from prithvi.cli.demo import CHIP, PARTS

SIDE = 32
BASELINES = ("index", "image_statistics", "random_features", "trees")


def squares(folder: Path) -> None:
    """The chip's columns as small chips in the layout of Sen1Floods11."""
    layout, root = dataset("sen1floods11"), data_catalog() / "sen1floods11" / "samples"
    for kind in (layout.image, layout.label or ""):
        (folder / kind).parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(root / kind.format(id=CHIP)) as whole:
            for begin, end in PARTS.values():
                for left in range(begin, end, SIDE):
                    for top in range(0, whole.height, SIDE):
                        window = Window(left, top, SIDE, SIDE)
                        place = {"height": SIDE, "width": SIDE, "transform": whole.window_transform(window)}
                        part = folder / kind.format(id=f"c{top:03}-{left:03}")
                        with rasterio.open(part, "w", **{**whole.profile, **place, "tiled": False}) as raster:
                            raster.write(whole.read(window=window))
    for split, (begin, end) in PARTS.items():
        names = [f"c{top:03}-{left:03}" for left in range(begin, end, SIDE) for top in range(0, 512, SIDE)]
        listed = layout.splits[split].list
        assert listed is not None
        (folder / listed.name).write_text("\n".join(names))


def main(folder: Path, steps: int) -> None:
    """Fits, tests and prints; what is done in the folder is not done again."""
    if not (folder / "S2Hand").is_dir():
        squares(folder)
    options = [
        "-c", "flood", "--data.root", folder, "--data.splits", folder, "--data.crop", SIDE, "--data.batch_size", 8,
        "--data.num_workers", 0, "--model.window", SIDE, "--model.init", "prithvi_hls_tiny", "--model.statistics",
        "init", "--model.lr", 1e-3, "--trainer.max_epochs", -1, "--trainer.max_steps", steps,
        "--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", max(1, steps // 12),
        "--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
        "--trainer.enable_model_summary", "false",
    ]  # fmt: skip

    def run(verb: str, head: str, at: Path, *more: str | Path) -> None:
        words = [verb, *options, "--trainer.default_root_dir", at, "--model.head", head, *more]
        subprocess.run([sys.executable, "-m", "prithvi", *map(str, words)], check=True, stdout=subprocess.DEVNULL)

    run("fit", "auto", folder / "auto-run")
    choice = json.loads((folder / "auto-run" / "choice.json").read_text())
    found = {head: folder / "auto-run" / "auto" / head for head in choice["candidates"]}
    for head in BASELINES:
        found[head] = folder / head
        if not (found[head] / "model").is_dir():
            run("fit", head, found[head])
    print(f"{'head':20}val mIoU  test water IoU  test mIoU    ECE")
    for head, at in found.items():
        run("test", "auto", at, "--ckpt_path", at / "model")
        test = json.loads((at / "metrics.json").read_text())
        val = json.loads((at / "model" / "metrics.json").read_text())["val/mIoU"]["mean"]
        figures = [val, *(test[f"test/{name}"] for name in ("IoU_water", "mIoU", "ECE"))]
        print(f"{head:20}{figures[0]:8.3f}{figures[1]:16.3f}{figures[2]:11.3f}{figures[3]:7.3f}")
    print(f"auto: {choice['why']}")


if __name__ == "__main__":
    at = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    main(at, int(sys.argv[2]) if len(sys.argv) > 2 else 300)
