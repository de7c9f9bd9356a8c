"""An epoch of fine-tuning a head on a frozen encoder, with and without its features kept."""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path

import lightning as L
import rasterio

from benchmarks.suite.jobs import Work
from prithvi.catalog import data_catalog, dataset
from prithvi.data import ChipDataModule
from prithvi.tasks import SegmentationTask

NAME, SIDE = "Spain_7370579", 224


class Epochs(L.Callback):
    """Wall and CPU seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.began[0])
        self.cpu.append(time.process_time() - self.began[1])


def make(size: int, folder: Path) -> None:
    """Overlapping squares of the shipped sample in its dataset's own layout."""
    samples = data_catalog() / "sen1floods11" / "samples"
    names = []
    for number in range(size):
        row, column = 36 * (number // 8), 36 * (number % 8)
        names.append(f"{row}_{column}")
        for kind in ("S2Hand", "LabelHand"):
            window = rasterio.windows.Window(column, row, SIDE, SIDE)
            (folder / kind).mkdir(exist_ok=True)
            with rasterio.open(samples / kind / f"{NAME}_{kind}.tif") as source:
                place = {"height": SIDE, "width": SIDE, "transform": source.window_transform(window)}
                with rasterio.open(folder / kind / f"{names[-1]}_{kind}.tif", "w", **source.profile | place) as target:
                    target.write(source.read(window=window))
    for part in ("train", "val"):
        path = dataset("sen1floods11").splits[part].list
        assert path is not None
        (folder / path.name).write_text("\n".join(names))


def prepare(way: str, size: int, folder: Path) -> Work:
    """The median of two epochs after a first one, which makes the features where they are kept."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    layout = dataset("sen1floods11")

    def work() -> dict[str, float]:
        L.seed_everything(0, verbose=False)
        task = SegmentationTask(
            [entry.name for entry in layout.classes], model="prithvi_eo_v2_tiny_tl", finetune="frozen", augment=False,
            contract=layout.contract.to_dict(), head="light",
        )  # fmt: skip
        data = ChipDataModule(
            str(folder), dataset="sen1floods11", splits=str(folder), crop=None, num_workers=0,
            features=str(folder / "features") if way == "ours" else None,
        )  # fmt: skip
        watch = Epochs()
        trainer = L.Trainer(
            max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
            accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0, callbacks=[watch],
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(task, data)
        return {"seconds": statistics.median(watch.seconds[1:]), "cpu": statistics.median(watch.cpu[1:])}

    return work
