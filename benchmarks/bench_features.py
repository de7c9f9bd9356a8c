"""How much faster is an epoch when the features of a frozen encoder are kept? Ours against ours without, one run.

    python benchmarks/bench_features.py [--models prithvi_eo_v2_100_tl prithvi_hls_tiny] [--heads light fcn]

Sixteen squares of 224 pixels of the shipped flood image, random weights (which change no time), batches of 4, one date.
The first epoch after the features were made is left out on both sides; the median of the others counts. Making the
features costs about the forward half of one plain epoch, once.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import lightning as L
import rasterio
import torch

from prithvi.catalog import data_catalog, dataset
from prithvi.data import ChipDataModule
from prithvi.tasks import SegmentationTask

NAME = "Spain_7370579"


class Epochs(L.Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def squares(root: Path) -> None:
    """Sixteen overlapping squares of the shipped sample in its own layout."""
    samples = data_catalog() / "sen1floods11" / "samples"
    lists = dataset("sen1floods11").splits
    names = []
    for row in range(0, 289, 96):
        for column in range(0, 289, 96):
            name = f"{row}_{column}"
            names.append(name)
            for kind in ("S2Hand", "LabelHand"):
                window = rasterio.windows.Window(column, row, 224, 224)
                (root / kind).mkdir(exist_ok=True)
                with rasterio.open(samples / kind / f"{NAME}_{kind}.tif") as source:
                    place = {"height": 224, "width": 224, "transform": source.window_transform(window)}
                    profile = {**source.profile, **place}
                    with rasterio.open(root / kind / f"{name}_{kind}.tif", "w", **profile) as target:
                        target.write(source.read(window=window))
    for part in ("train", "val"):
        path = lists[part].list
        assert path is not None
        (root / path.name).write_text("\n".join(names))


def epoch(root: Path, features: Path | None, model: str, head: str, epochs: int) -> float:
    """Median seconds of an epoch."""
    L.seed_everything(0, verbose=False)
    layout = dataset("sen1floods11")
    task = SegmentationTask(
        [entry.name for entry in layout.classes], model=model, contract=layout.contract.to_dict(), finetune="frozen",
        augment=False, head=head, head_options={"width": 64, "channels": 64} if head == "fcn" else None,
    )  # fmt: skip
    data = ChipDataModule(
        str(root), dataset="sen1floods11", splits=str(root), crop=None, num_workers=0,
        features=str(features) if features is not None else None,
    )  # fmt: skip
    watch = Epochs()
    trainer = L.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False, limit_val_batches=0,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[watch], default_root_dir=root,
    )  # fmt: skip
    trainer.fit(task, data)
    return statistics.median(watch.seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ["prithvi_eo_v2_100_tl", "prithvi_eo_v2_tiny_tl", "prithvi_hls_tiny"]
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--heads", nargs="+", default=["light", "fcn"])
    options = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'model':22} {'head':6} {'plain s':>8} {'kept s':>8} {'times faster':>13}")
    for model in options.models:
        for head in options.heads:
            with tempfile.TemporaryDirectory() as work:
                root = Path(work)
                squares(root)
                plain = epoch(root, None, model, head, 3)
                kept = epoch(root, root / "features", model, head, 8)
            print(f"{model:22} {head:6} {plain:8.2f} {kept:8.3f} {plain / kept:13.1f}", flush=True)


if __name__ == "__main__":
    main()
