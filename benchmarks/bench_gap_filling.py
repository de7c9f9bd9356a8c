"""Cloud gaps on real series under the shapes of real clouds: a fine-tuned model beside what needs none.

    python benchmarks/bench_gap_filling.py --data FOLDER [--stores STORES --seeds 5 --steps 120] [--out FILE.json]

FOLDER holds worldcereal_training. Cases: of each three neighbouring clear dates (under 1 % bad) of a site the middle
one is hidden under the bad pixels of a partly cloudy date of the first site (10 to 90 % bad), four draws a triplet;
bad is SCL 0 1 3 8 9 10 or a band at or under 0. Errors are means over hidden pixels and bands in reflectance, then over
the cases. The test cases are those of the first site between 2018-06-01 and 2018-08-20, which no training saw, nor the
16 days before and after; and the whole of a second site, which no training saw (Landsat 8).

With STORES (of pretraining_imagery.py) `prithvi_hls_tiny` is fine-tuned on series.zarr from the shipped weights and
from random ones, with patches that a cloud touches hidden and visible; nothing is chosen by a figure printed here.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch

from prithvi.chips.spec import NODATA
from prithvi.data import GapDataModule
from prithvi.mapping.methods import GAP_METHODS
from prithvi.metrics import GapMetrics
from prithvi.modelio import load
from prithvi.models.gapfill import GapFiller
from prithvi.tasks import GapFillTask

sys.path.insert(0, str(Path(__file__).parent))
from pretraining_sources import GUARD, SITE, TEST_DATES, worldcereal_sentinel2, worldcereal_training

MODEL = "prithvi_hls_tiny"
BANDS = ("blue", "green", "red", "nir_narrow", "swir_1", "swir_2")


@dataclass
class Case:
    """Three dates, the middle one hidden in part."""

    image: npt.NDArray[np.float32]
    """(band, 3, y, x) reflectance."""
    known: npt.NDArray[np.bool_]
    """(3, y, x)."""
    hidden: npt.NDArray[np.bool_]
    """(y, x), of the middle date, truth known."""
    dates: list[Any]
    place: tuple[float, float]

    @property
    def days(self) -> npt.NDArray[np.float64]:
        return np.array([float((date - self.dates[0]).days) for date in self.dates])


def cases_of(image: Any, bad: Any, dates: list[Any], place: tuple[float, float], shapes: Any) -> list[Case]:
    """All cases of a site; `shapes` (N, y, x) are drawn from for each triplet."""
    random, found = np.random.default_rng(0), []
    clear = np.flatnonzero(bad.mean(axis=(1, 2)) < 0.01)
    for triplet in zip(clear, clear[1:], clear[2:], strict=False):
        for shape in shapes[random.choice(len(shapes), 4)]:
            three = list(triplet)
            there = (image[three] != NODATA).all(axis=1)
            # Clear dates are truth: their few bad pixels count as known, unless there is no value.
            known = there & np.stack([there[0], ~bad[three[1]] & ~shape, there[2]])
            hidden = shape & ~bad[three[1]] & there.all(axis=0)
            pixels = (image[three] / 1e4).astype(np.float32).transpose(1, 0, 2, 3)
            found.append(Case(pixels, known, hidden, [dates[date] for date in three], place))
    return found


def sites(root: Path) -> tuple[list[Case], list[Case]]:
    """Cases of the first site and of the second."""
    image, fmask, dates, _ = worldcereal_sentinel2(root)
    bad = fmask & 10 > 0
    share = bad.mean(axis=(1, 2))
    shapes = bad[(share >= 0.1) & (share <= 0.9)]
    first = cases_of(image, bad, dates, (50.9, 3.5), shapes)
    (second,) = (scene for scene in worldcereal_training(root) if scene.source.endswith("000028085BF08E7E/L8"))
    cloudy = (second.quality() & 10 > 0) | (second.image <= 0).any(axis=1)
    size = second.image.shape[-1] // 64
    assert size == 1, "the second site is of the first one's size"
    return first, cases_of(second.image, cloudy, list(second.dates), second.place, shapes)


def is_test(case: Case) -> bool:
    return all(TEST_DATES[0] <= date <= TEST_DATES[1] for date in case.dates)


def measure(fill: Callable[[Case], Any], cases: list[Case]) -> dict[str, Any]:
    """MAE (mean of the cases' means), and figures over all pixels by share of cloud."""
    metrics, means = GapMetrics(BANDS), []
    for case in cases:
        predicted = fill(case)[:, 1]
        means.append(float(np.abs(predicted - case.image[:, 1])[:, case.hidden].mean()))
        metrics.update(
            torch.from_numpy(predicted)[None], torch.from_numpy(case.image[:, 1])[None],
            torch.from_numpy(case.hidden)[None],
        )  # fmt: skip
    figures = {name: round(float(value), 5) for name, value in metrics.compute().items()}
    return {"case_mae": round(statistics.mean(means), 5), **figures}


def by_model(filler: GapFiller) -> Callable[[Case], Any]:
    """A filler as a method."""
    filler.eval()
    contract = filler.mae.contract
    mean, std = (np.array(of, np.float32)[:, None, None, None] for of in (contract.mean, contract.std))

    @torch.no_grad()
    def fill(case: Case) -> Any:
        images = torch.from_numpy((case.image * contract.scale - mean) / std)[None].float()
        dates = torch.tensor([[[d.year, d.timetuple().tm_yday - 1] for d in case.dates]], dtype=torch.float32)
        place = torch.tensor([case.place], dtype=torch.float32)
        filled = filler(images, torch.from_numpy(case.known)[None], dates, place)[0].numpy()
        return (filled * std + mean) / contract.scale

    return fill


def trained(stores: Path, init: str | None, touched: str, steps: int, seed: int) -> GapFillTask:
    """A fine-tuned task. Its statistics are those of the shipped weights in any case, so that only weights differ."""
    L.seed_everything(seed, verbose=False)
    data = GapDataModule(
        [str(stores / "series.zarr")], clouds=[str(stores / "clouds.zarr")], frames=3, batch_size=4, num_workers=0,
        seed=seed,
    )  # fmt: skip
    contract = load(MODEL).contract
    task = GapFillTask(
        MODEL, contract.to_dict(), init, crop=64, hide="middle", touched=touched, lr=3e-4, landmarks=512, seed=seed
    )
    trainer = L.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stores", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--touched", nargs="+", default=["hidden", "visible"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    first, second = sites(options.data / "worldcereal_training")
    parts = {"all": first, "test": [case for case in first if is_test(case)], "second site": second}
    print(
        f"cases: {', '.join(f'{name} {len(cases)}' for name, cases in parts.items())} (guard {GUARD.days} days, {SITE})"
    )
    results: dict[str, Any] = {}

    def report(name: str, found: dict[str, dict[str, Any]]) -> None:
        results.setdefault(name, []).append(found)
        told = "   ".join(
            f"{part} {figures['case_mae']:.5f} ssim {figures['ssim']:.4f}" for part, figures in found.items()
        )
        print(f"  {name:34} {told}", flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=1) + "\n")

    for name, method in GAP_METHODS.items():
        report(name, {part: measure(lambda c, m=method: m(c.image, c.known, c.days), cs) for part, cs in parts.items()})
    del parts["all"]
    for touched in options.touched:
        filler = by_model(GapFiller(load(MODEL), touched))
        report(f"shipped as it is, {touched}", {part: measure(filler, cases) for part, cases in parts.items()})
    if options.stores is None:
        return
    for seed in range(options.seeds):
        for touched in options.touched:
            for kind, init in (("pretrained", MODEL), ("random", None)):
                began = time.perf_counter()
                task = trained(options.stores, init, touched, options.steps, seed)
                found = {part: measure(by_model(task.filler), cases) for part, cases in parts.items()}
                report(f"{kind}, touched {touched}", found)
                results.setdefault("seconds", []).append(round(time.perf_counter() - began))
    for name, runs in results.items():
        if len(runs) > 1 and isinstance(runs[0], dict):
            for part in parts:
                values = [run[part]["case_mae"] for run in runs]
                print(f"{name:34} {part:12} {statistics.mean(values):.5f} +- {statistics.stdev(values):.5f}")


if __name__ == "__main__":
    main()
