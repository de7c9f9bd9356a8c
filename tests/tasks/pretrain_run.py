"""One pretraining run as a process of its own, for tests that kill it or give it two devices.

    python -m tests.tasks.pretrain_run STORE OUT --steps 60 [--strategy ddp --devices 2] [--ckpt FILE]

OUT gets losses-RANK.jsonl (a line a step: step, loss as hexadecimal, sample names) and last.ckpt.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from prithvi.data import PretrainDataModule
from prithvi.tasks import DistilTask, PretrainTask

SHAPE = {"patch_size": (1, 8, 8), "embed_dim": 32, "depth": 2, "num_heads": 2, "decoder_embed_dim": 32,
         "decoder_depth": 2, "decoder_num_heads": 2}  # fmt: skip


class Write(L.Callback):
    """Writes each step's loss and samples as soon as they are known."""

    def __init__(self, out: Path, stop: int | None) -> None:
        self.out, self.stop = out, stop

    def on_train_batch_end(self, trainer: L.Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        line = {"step": trainer.global_step, "loss": float(outputs["loss"]).hex(), "ids": list(batch["id"])}
        with (self.out / f"losses-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if trainer.global_step == self.stop:
            trainer.should_stop = True


def strategy_of(name: str, devices: int) -> Any:
    if name == "fully_shard":
        from lightning.pytorch.strategies import ModelParallelStrategy

        return ModelParallelStrategy(
            data_parallel_size=devices, tensor_parallel_size=1, process_group_backend="gloo",
            save_distributed_checkpoint=False,
        )  # fmt: skip
    return name


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--teacher", help="distil from it")
    parser.add_argument("--ckpt")
    parser.add_argument("--stop", type=int, help="end early, in the schedule of all steps")
    parser.add_argument("--every", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.manual_seed(0)
    data = PretrainDataModule(
        [options.store], batch_size=options.batch, num_workers=options.workers, buffer=16, clouds=[options.store],
        frames=[1, 2],
    )  # fmt: skip
    fields: dict[str, Any] = {
        "model": "prithvi_hls_tiny", "contract": data.contract.to_dict(), "model_options": {**SHAPE, "drop_path": 0.1},
        "crop": 24, "flips": "all", "lr": 1e-3, "drop_time": 0.3, "drop_location": 0.3,
    }  # fmt: skip
    if options.teacher:
        task: PretrainTask = DistilTask(options.teacher, statistics_batches=2, **fields)
    else:
        task = PretrainTask(masks={"random": 1, "tube": 1, "cloud": 1}, **fields)
    if options.devices > 1 or options.batch > 8:
        # Stochastic depth draws on each device for itself, so that only without it two devices do what one does.
        for block in task.mae.encoder.blocks:
            block.drop_path = 0.0
    keep = ModelCheckpoint(options.out, every_n_train_steps=options.every, save_last=True, save_top_k=0)
    trainer = L.Trainer(
        max_steps=options.steps, accelerator="cpu", devices=options.devices, logger=False,
        strategy=strategy_of(options.strategy, options.devices), accumulate_grad_batches=options.accumulate,
        callbacks=[Write(options.out, options.stop), keep], enable_progress_bar=False, enable_model_summary=False,
        limit_val_batches=0, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(task, datamodule=data, ckpt_path=options.ckpt, weights_only=True)
    weights = task.gathered()
    if trainer.is_global_zero:
        torch.save(weights, options.out / "weights.pt")


if __name__ == "__main__":
    main()
