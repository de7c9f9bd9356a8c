"""`prithvi demo`: the whole way on one real chip: fine-tune, measure beside a baseline, map, write."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prithvi.files import dumps, write_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from prithvi.tasks import SegmentationTask

CHIP = "Spain_7370579"
DATE = "2019-09-18"
PARTS = {"train": (0, 224), "val": (256, 320), "test": (352, 512)}
"""Columns of the chip, 32 pixels apart, so that no part is a neighbour of another."""
MODEL = "prithvi_hls_tiny"
WINDOW, BATCH, CHECKS, LR = 64, 8, 12, 1e-3


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write into.")] = Path("demo"),
    steps: Annotated[int, typer.Option(help="Training steps; fewer is faster and worse.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Of the weights, crops and turns.")] = 0,
) -> None:
    """Fine-tunes a small model on a real flood, measures it on a part it never saw, and writes the map."""
    import rasterio

    from prithvi.cli.progress import bar
    from prithvi.errors import OutputError
    from prithvi.mapping import Products, map_scene, vectorise
    from prithvi.report import view

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror}).") from error
    chip = _Chip()
    typer.echo(
        f"Flood mapping on one Sen1Floods11 chip ({CHIP}, {DATE}): trained on the left {PARTS['train'][1]} columns, "
        f"best of {CHECKS} checks on columns {PARTS['val'][0]} to {PARTS['val'][1] - 1}, tested on the right "
        f"{PARTS['test'][1] - PARTS['test'][0]}"
    )
    baseline, threshold = chip.mndwi()
    rows = {"MNDWI threshold": chip.figures(baseline)}
    with TemporaryDirectory() as work, ProcessPoolExecutor(1, get_context("spawn")) as beside:
        # The two runs go side by side, each on a thread of its own: two threads of torch's that share one run wait for
        # each other, and beside other work take several times as long as one.
        other = beside.submit(_fit, Path(work) / "model", steps, seed, None)
        with bar("fine-tuning from pretrained and from random weights") as progress:
            runs = {"pretrained": _fit(output / "model", steps, seed, MODEL, progress)}
        runs = {"random": other.result(), **runs}
        for weights, folder in (("random", Path(work)), ("pretrained", output)):
            with bar(f"mapping the chip, from {weights} weights") as progress:
                result = map_scene(
                    folder / "model", chip.scene, folder / "flood.tif", products=Products(style=True), progress=progress
                )
            with rasterio.open(result.path) as raster:
                rows[f"from {weights} weights"] = chip.figures(raster.read(1).astype("int64"))
    vectorise(result.path, output / "flood.parquet", names=["water"])
    _picture(chip, result.path, output / "flood.png")
    report = {
        "chip": CHIP, "split": "test of Sen1Floods11", "columns": {part: list(span) for part, span in PARTS.items()},
        "mndwi_threshold": threshold, "results": rows, "steps": steps, "runs": runs, "seed": seed,
        "note": "One chip, split by columns. This is not a Sen1Floods11 score.",
    }  # fmt: skip
    write_text(output / "metrics.json", dumps(report, indent=2) + "\n")
    measured = {f"water IoU, {name}": f"{figures['water_iou']:.2f}" for name, figures in rows.items()}
    view(result.path, output / "report.html", scene=chip.scene, title="A flood in Spain", measured=measured)
    _print(rows, steps)
    files = "flood.tif  flood.qml  flood.parquet  flood.png  report.html  metrics.json  model/"
    typer.echo(f"Written to {output}/: {files}")
    # As it was started, where the environment is not activated: make demo runs .venv/bin/prithvi.
    program = "prithvi" if which("prithvi") else sys.argv[0]
    typer.echo(f"Next: {program} map {output}/model SCENE --sensor sentinel-2-l1c --date DATE -o maps/")


class _Chip:
    """The shipped chip: its scene, its label, and figures on the test columns."""

    def __init__(self) -> None:
        import rasterio

        from prithvi.catalog import data_catalog, dataset
        from prithvi.scenes import open_scene

        self.layout = dataset("sen1floods11")
        self.names = [entry.name for entry in self.layout.classes]
        self.colors = [entry.color for entry in self.layout.classes]
        root = data_catalog() / "sen1floods11" / "samples"
        self.image = root / self.layout.image.format(id=CHIP)
        self.label_file = root / (self.layout.label or "").format(id=CHIP)
        self.scene = open_scene(self.image, sensor=self.layout.sensor, dates=[DATE])
        with rasterio.open(self.label_file) as label:
            self.label = self.layout.class_numbers(label.read(1), label.nodata, self.label_file)

    def part(self, name: str, crop: int | None = None, samples: int | None = None) -> Any:
        """A dataset of one part."""
        from prithvi.data import Chip, ChipDataset

        chip = Chip(CHIP, self.image, self.label_file, columns=PARTS[name])
        return ChipDataset([chip], self.layout, crop, samples, keep=True)

    def mndwi(self) -> tuple[npt.NDArray[np.int64], float]:
        """Classes by the baseline, its threshold fitted on the training columns."""
        from prithvi.evaluation import IndexThreshold, normalised_difference

        columns = slice(*PARTS["train"])
        label = self.label[:, columns]
        index = normalised_difference(*self.scene.isel(time=0).sel(band=["green", "swir_1"]).values)
        fitted = IndexThreshold.fit(index[:, columns], label == 1, label >= 0)
        return fitted.predict(index).astype("int64"), fitted.threshold

    def figures(self, classes: npt.NDArray[np.int64]) -> dict[str, float]:
        """Water IoU and F1 and mIoU on the test columns."""
        import torch

        from prithvi.metrics import SegmentationMetrics

        metrics = SegmentationMetrics(self.names)
        columns = slice(*PARTS["test"])
        metrics.update(torch.from_numpy(classes[:, columns]), torch.from_numpy(self.label[:, columns]))
        found, names = metrics.compute(), {"water_iou": "IoU_water", "water_f1": "F1_water", "miou": "mIoU"}
        return {name: round(float(found[key]), 4) for name, key in names.items()}


def _fit(
    folder: Path, steps: int, seed: int, init: str | None, progress: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """Fine-tunes on one thread and saves the model, also in a process of its own; gives the best step and seconds."""
    import torch

    from prithvi.modelio import save

    threads, started = torch.get_num_threads(), time.monotonic()
    torch.set_num_threads(1)
    try:
        task, best_step = _train(_Chip(), steps, seed, init, progress)
    finally:
        torch.set_num_threads(threads)
    weights, columns = "random" if init is None else "pretrained", f"columns 0 to {PARTS['train'][1] - 1}"
    save(task.fitted(model=MODEL, init=weights, data=f"{CHIP}, {columns}", steps=best_step, seed=seed), folder)
    return {"best_step": best_step, "training_seconds": round(time.monotonic() - started, 1)}


def _train(
    chip: _Chip, steps: int, seed: int, init: str | None, progress: Callable[[int, int], None] | None = None
) -> tuple[SegmentationTask, int]:
    """The task with the weights that did best on the validation columns, and the step they are of."""
    import logging
    import warnings

    import lightning as L
    import torch
    from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
    from torch.utils.data import DataLoader

    from prithvi.tasks import SegmentationTask

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    L.seed_everything(seed, verbose=False)
    task = SegmentationTask(
        chip.names, chip.colors, model=MODEL, contract=chip.layout.contract.to_dict(), init=init,
        statistics="data" if init is None else "init", head="fused", window=WINDOW, lr=LR,
    )  # fmt: skip

    def show(trainer: L.Trainer, *_: Any) -> None:
        if progress is not None:
            progress(trainer.global_step, steps)

    with TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers is for larger data
        best = ModelCheckpoint(work, monitor="val/IoU_water", mode="max", save_weights_only=True)
        trainer = L.Trainer(
            max_steps=steps, accelerator="auto", devices=1, logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[best, LambdaCallback(on_train_batch_end=show)],
            val_check_interval=max(1, steps // CHECKS), num_sanity_val_steps=0, gradient_clip_val=1.0,
        )  # fmt: skip
        train = DataLoader(chip.part("train", WINDOW, steps * BATCH), BATCH)
        trainer.fit(task, train, DataLoader(chip.part("val"), 1))
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(state["state_dict"])
    return task.cpu().eval(), int(state["global_step"])


def _picture(chip: _Chip, mapped: Path, target: Path) -> None:
    """Image, label and map side by side, the three parts marked."""
    import numpy as np
    from matplotlib.figure import Figure

    from prithvi import plot
    from prithvi.scenes import transform_of
    from prithvi.tasks.monitoring import write_figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    plot.composite(chip.scene, axes[0]).set_title("Sentinel-2: SWIR 2, narrow NIR, red")
    label = chip.scene.isel(time=0, band=0, drop=True).copy(data=chip.label)
    drawn = plot.classes(label, axes[1], names=chip.names, colors=chip.colors, legend=False)
    drawn.set_title("hand-made label (white: none)")
    plot.classes(mapped, axes[2]).set_title("map")
    ground = transform_of(chip.scene)
    parts = ground.c + ground.a * np.array(list(PARTS.values()))
    for ax in axes:
        ax.set_xticks(parts.mean(axis=1), list(PARTS))
        ax.tick_params(length=0)
        for edge in parts.ravel():
            ax.axvline(edge, color="black", lw=0.8, ls=":")
    write_figure(figure, target, dpi=100)


def _print(rows: dict[str, dict[str, float]], steps: int) -> None:
    typer.echo(f"{'on the test columns':30}water IoU     F1   mIoU")
    for name, figures in rows.items():
        typer.echo(f"  {name:28}{figures['water_iou']:9.2f}{figures['water_f1']:7.2f}{figures['miou']:7.2f}")
    own = rows["from pretrained weights"]["water_iou"]

    def against(other: str) -> str:
        found = rows[other]["water_iou"]
        return "beats" if own > found + 0.005 else "equals" if own >= found - 0.005 else "does not reach"

    typer.echo(
        f"The pretrained model {against('MNDWI threshold')} the threshold here and {against('from random weights')} "
        f"the same {steps} steps from random weights. IoU is the area both call water over the area either does; F1 "
        "weighs it like an accuracy; mIoU averages water and land. One chip says little about other floods, and this "
        "is not a Sen1Floods11 score."
    )
