"""What makes a training step on a CPU cheaper: bfloat16, channels last, frozen features, smaller crops.

    python benchmarks/bench_cpu_training.py [--rounds 7]              CPU time of a step
    python benchmarks/bench_cpu_training.py --learn 3 [--steps 150]   the demo's task, three seeds: is the IoU alike?

The ways go by turns. Steps are of the shipped sample's training columns, on one thread: forward, backward and AdamW,
without reading. Wall time would say nothing beside other work, so CPU time is told, and the ratio to float32 within a
round.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, default_collate

from prithvi.cli.demo import _Chip
from prithvi.tasks import SegmentationTask

CASES: dict[str, tuple[dict[str, Any], int]] = {
    "our small default, fused, 8 of 64": ({"model": "prithvi_hls_tiny", "head": "fused", "window": 64}, 8),
    "our small default, fused, 2 of 128": ({"model": "prithvi_hls_tiny", "head": "fused", "window": 128}, 2),
    "published tiny, light, 4 of 224": ({"model": "prithvi_eo_v2_tiny_tl", "head": "light", "window": 224}, 4),
    "published tiny, fcn, 1 of 224": ({"model": "prithvi_eo_v2_tiny_tl", "head": "fcn", "window": 224}, 1),
    "published tiny, light, 12 of 128": ({"model": "prithvi_eo_v2_tiny_tl", "head": "light", "window": 128}, 12),
}
"""The task's options, and samples a step."""
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"bfloat16": True},
    "channels last": {"channels_last": True},
    "both": {"bfloat16": True, "channels_last": True},
    "frozen": {"frozen": True},
    "frozen, bfloat16": {"frozen": True, "bfloat16": True},
}


def stepper(
    chip: _Chip, options: dict[str, Any], batch_size: int, bfloat16: bool = False, channels_last: bool = False,
    frozen: bool = False,
) -> Callable[[], float]:  # fmt: skip
    """A function that makes a training step and gives its loss."""
    L.seed_everything(0, verbose=False)
    contract, finetune = chip.layout.contract.to_dict(), "frozen" if frozen else "full"
    task = SegmentationTask(chip.names, chip.colors, contract=contract, finetune=finetune, **options).train()
    if channels_last:
        for module in task.model.head.modules():  # an encoder has none, but for its patches' one
            if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                module.to(memory_format=torch.channels_last)
    samples = chip.part("train", options["window"], batch_size)
    batch = default_collate([samples[index] for index in range(batch_size)])
    optimizer = torch.optim.AdamW([value for value in task.parameters() if value.requires_grad], 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = task.loss_of(batch, task(batch))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def speed(rounds: int, only: str) -> None:
    """The table of steps."""
    chip = _Chip()
    print("| model, head, samples | way | ms a step (CPU) | float32 / way | range |\n|---|---|---|---|---|")
    for name, (options, batch_size) in CASES.items():
        if only not in name:
            continue
        steps = {way: stepper(chip, options, batch_size, **more) for way, more in WAYS.items()}
        taken: dict[str, list[float]] = defaultdict(list)
        for turn in range(rounds + 1):
            for way, step in steps.items():
                begun = time.process_time()
                for _ in range(3):
                    step()
                if turn:
                    taken[way].append((time.process_time() - begun) / 3)
        for way, seconds in taken.items():
            ratios = [exact / own for exact, own in zip(taken["float32"], seconds, strict=True)]
            middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
            cost = 1000 * statistics.median(seconds)
            print(f"| {name} | {way} | {cost:.0f} | {middle:.2f} | {low:.2f} to {high:.2f} |", flush=True)


def learn(seeds: int, steps: int, precisions: list[str], checks: int = 12) -> None:
    """Water IoU of the best check on the validation columns and of its model on the test columns, by precision."""
    chip = _Chip()
    print("| weights | seed | precision | CPU s | best step | val IoU | test IoU |\n|---|---|---|---|---|---|---|")
    for init in (None, "prithvi_hls_tiny"):
        for seed in range(seeds):
            for precision in precisions:
                L.seed_everything(seed, verbose=False)
                task = SegmentationTask(
                    chip.names, chip.colors, model="prithvi_hls_tiny", contract=chip.layout.contract.to_dict(),
                    init=init, statistics="data" if init is None else "init", head="fused", window=64, lr=1e-3,
                )  # fmt: skip
                best = ModelCheckpoint(monitor="val/IoU_water", mode="max", save_weights_only=True)
                trainer = L.Trainer(
                    max_steps=steps, accelerator="cpu", precision=precision, logger=False, callbacks=[best],
                    enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                    val_check_interval=max(1, steps // checks), gradient_clip_val=1.0,
                )  # fmt: skip
                begun = time.process_time()
                trainer.fit(task, DataLoader(chip.part("train", 64, steps * 8), 8), DataLoader(chip.part("val"), 1))
                used, weights = time.process_time() - begun, "random" if init is None else "pretrained"
                found = torch.load(best.best_model_path, weights_only=True)
                task.load_state_dict(found["state_dict"])
                exact = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
                (tested,) = exact.test(task, DataLoader(chip.part("test"), 1), verbose=False)
                print(
                    f"| {weights} | {seed} | {precision} | {used:.0f} | {found['global_step']} | "
                    f"{float(best.best_model_score):.4f} | {tested['test/IoU_water']:.4f} |",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--learn", type=int, default=0, help="seeds to train")
    parser.add_argument("--steps", type=int, nargs="+", default=[150])
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if not arguments.learn:
        speed(arguments.rounds, arguments.only)
    for steps in arguments.steps if arguments.learn else []:
        print(f"\n{steps} steps")
        learn(arguments.learn, steps, arguments.precisions)


if __name__ == "__main__":
    main()
