"""Does pretraining help? The same fine-tuning from the shipped weights and from random ones, five seeds, two tasks.

    python benchmarks/bench_pretrained.py [--data FOLDER] [--seeds 5] [--head detail] [--out FILE.json]

Floods: the demo's chip (its columns: trained 0-223, curve on 256-319, tested on 352-511). Crops: the WorldCereal site
(FOLDER/worldcereal_training), three dates that no pretraining saw, trained on columns 0-39, tested on 44-63, classes
maize, grass and other. Every run has the same steps; the last weights are tested, nothing is chosen by a figure.
`random, its statistics` standardises its input as the pretrained run does, so that this is not what differs. Beside
them: a U-Net (ResNet-18, random weights, the same steps and rates) and gradient boosting on single pixels. The head
`detail` was chosen over `light` on the flood chip's validation columns.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import logging
import statistics
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from prithvi.cli.demo import MODEL, WINDOW, _Chip
from prithvi.contract import IGNORE, Contract
from prithvi.evaluation import PixelTrees
from prithvi.metrics import SegmentationMetrics
from prithvi.modelio import contract_of
from prithvi.tasks import SegmentationTask
from prithvi.tasks.measured_task import rescaled

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_sources import SITE, TEST_DATES, worldcereal_sentinel2

KINDS = ("random", "random, its statistics", "pretrained", "U-Net")
CROP_DATES = [dt.date(2018, 6, 28), dt.date(2018, 7, 18), dt.date(2018, 8, 7)]
CROP_TRAIN, CROP_TEST = (0, 40), (44, 64)


class Crops(Dataset[dict[str, Any]]):
    """The WorldCereal site: random squares of its left columns, or its right columns whole."""

    names = ("maize", "grass", "other")

    def __init__(self, root: Path, columns: tuple[int, int], crop: int | None, samples: int) -> None:
        import xarray as xr

        image, fmask, days, _ = worldcereal_sentinel2(root)
        assert all(TEST_DATES[0] <= day <= TEST_DATES[1] for day in CROP_DATES)
        chosen = [days.index(day) for day in CROP_DATES]
        (path,) = root.glob(f"OUTPUT_POLY-110_10m_{SITE}_*.nc")
        with xr.open_dataset(path, mask_and_scale=False, engine="h5netcdf") as cube:
            land, crops = cube["LC"].values, cube["CT"].values
        label = np.select([land == 99, crops == 1200, crops == 9120], [IGNORE, 0, 1], 2).astype(np.int64)
        part = slice(*columns)
        self.image = torch.from_numpy(image[chosen].transpose(1, 0, 2, 3)[..., part].astype(np.float32))
        self.valid = torch.from_numpy(fmask[chosen][..., part] != 255)
        self.label = torch.from_numpy(label[:, part])
        self.crop, self.samples = crop, samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= self.samples:
            raise IndexError(index)
        size = self.crop or min(self.label.shape)
        row, column = (int(torch.randint(side - size + 1, ())) for side in self.label.shape) if self.crop else (0, 0)
        square = (..., slice(row, row + size), slice(column, column + size)) if self.crop else (...,)
        return {"image": self.image[square], "valid": self.valid[square], "label": self.label[square]}

    def contract(self) -> Contract:
        """Statistics of these columns."""
        flat = self.image.flatten(1)
        return Contract(
            ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2"), tuple(flat.mean(1).tolist()),
            tuple(flat.std(1).tolist()), level="SR",
        )  # fmt: skip


class Curve(L.Callback):
    def __init__(self, name: str) -> None:
        self.name, self.points = name, []

    def on_validation_end(self, trainer: L.Trainer, task: Any) -> None:
        found = trainer.callback_metrics[self.name]
        self.points.append([trainer.global_step, round(float(found), 4)])


def run(kind: str, contract: Contract, classes: list[str], window: int, frames: int, train: Any, val: Any, test: Any,
        steps: int, seed: int, figure: str, head: str = "detail") -> dict[str, Any]:  # fmt: skip
    """One training: its curve and its test figures."""
    L.seed_everything(seed, verbose=False)
    given = rescaled(contract_of(MODEL), contract) if kind.startswith("random,") else contract
    task = SegmentationTask(
        classes, model=MODEL, contract=given.to_dict(), init=MODEL if kind == "pretrained" else None,
        statistics="init" if kind == "pretrained" else "data", head="unet" if kind == "U-Net" else head, window=window,
        num_frames=frames, lr=1e-3,
    )  # fmt: skip
    curve = Curve(f"val/{figure}")
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[curve], val_check_interval=max(1, steps // 10), num_sanity_val_steps=0,
        gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(task, DataLoader(train, 8), DataLoader(val, 1))
    (found,) = trainer.test(task, DataLoader(test, 1), verbose=False)
    return {
        "curve": curve.points,
        **{name.removeprefix("test/"): round(value, 4) for name, value in found.items() if name != "test/loss"},
    }


def floods(kind: str, seed: int, steps: int, head: str) -> dict[str, Any]:
    chip = _Chip()
    return run(kind, chip.layout.contract, [c.name for c in chip.layout.classes], WINDOW, 1,
               chip.part("train", WINDOW, steps * 8), chip.part("val"), chip.part("test"), steps, seed,
               "IoU_water", head)  # fmt: skip


def crops(root: Path, kind: str, seed: int, steps: int, head: str) -> dict[str, Any]:
    train = Crops(root, CROP_TRAIN, 32, steps * 8)
    test = Crops(root, CROP_TEST, None, 1)
    return run(kind, train.contract(), list(Crops.names), 32, 3, train, test, test, steps, seed, "mIoU", head)


def trees(train: dict[str, Any], test: dict[str, Any], classes: list[str], seed: int = 0) -> dict[str, float]:
    """Gradient boosting on the pixels of a whole sample, measured on another."""

    def plain(sample: dict[str, Any]) -> tuple[Any, Any]:
        image = torch.where(sample["valid"], sample["image"].float(), torch.nan)
        return image.flatten(0, 1).numpy(), sample["label"].numpy()

    image, label = plain(train)
    fitted = PixelTrees(seed).fit(image, label, label != IGNORE)
    image, label = plain(test)
    metrics = SegmentationMetrics(classes)
    metrics.update(torch.from_numpy(fitted.predict(image)), torch.from_numpy(label))
    return {name: float(value) for name, value in metrics.compute().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with worldcereal_training; floods alone without it")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--flood-steps", type=int, default=300)
    parser.add_argument("--crop-steps", type=int, default=150)
    parser.add_argument("--only", choices=["floods", "crops"])
    parser.add_argument("--head", default="detail", help="detail, or light as in earlier results")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    tasks: dict[str, tuple[Any, str]] = {
        "floods": (lambda kind, seed: floods(kind, seed, options.flood_steps, options.head), "IoU_water")
    }
    if options.data is not None:
        site = options.data / "worldcereal_training"
        tasks["crops"] = (lambda kind, seed: crops(site, kind, seed, options.crop_steps, options.head), "mIoU")
    chip = _Chip()
    layers = {"floods": (chip.part("train")[0], chip.part("test")[0], [c.name for c in chip.layout.classes])}
    if options.data is not None:
        layers["crops"] = (Crops(site, CROP_TRAIN, None, 1)[0], Crops(site, CROP_TEST, None, 1)[0], list(Crops.names))
    results: dict[str, Any] = {}
    for name, (one, figure) in tasks.items():
        if options.only not in (None, name):
            continue
        print(f"{name}: test {figure}, after a tenth of the steps, a third of them and all (curve), by seed")
        print(f"  {'gradient boosting on pixels':28} {trees(*layers[name])[figure]:.3f}")
        for kind in KINDS:
            runs = [one(kind, seed) for seed in range(options.seeds)]
            results.setdefault(name, {})[kind] = runs
            tested = [found[figure] for found in runs]
            spread = statistics.stdev(tested) if len(tested) > 1 else 0.0
            early = [statistics.mean(found["curve"][place][1] for found in runs) for place in (0, 2, -1)]
            print(
                f"  {kind:28} {statistics.mean(tested):.3f} +- {spread:.3f}   "
                f"curve {' '.join(f'{value:.3f}' for value in early)}   {' '.join(f'{v:.3f}' for v in tested)}",
                flush=True,
            )
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
            draw(results, options.out.with_suffix(".png"))


def draw(results: dict[str, Any], target: Path) -> None:
    """The curves: mean and range over the seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(results), 3.8), layout="constrained")
    for ax, (name, kinds) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        for kind, runs in kinds.items():
            steps = [step for step, _ in runs[0]["curve"]]
            values = np.array([[value for _, value in found["curve"]] for found in runs])
            ax.plot(steps, values.mean(axis=0), label=kind)
            ax.fill_between(steps, values.min(axis=0), values.max(axis=0), alpha=0.2)
        ax.set(
            title=name, xlabel="step", ylabel="water IoU, columns 256-319" if name == "floods" else "mIoU, test part"
        )
        ax.legend()
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    main()
