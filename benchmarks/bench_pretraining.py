"""Samples a second of a whole pretraining step (forward, backward, AdamW), ours and TerraTorch's PrithviMAE.

    python benchmarks/bench_pretraining.py [--rounds 7] [--device cpu|cuda]

Same weights, images, masks, mask ratio and optimiser; the first losses are compared before anything is timed. Rounds
alternate between all ways, and a way's figure is its best round, so that another process's burst hits none alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from prithvi.models import PrithviMAE, build
from prithvi.models.flops import training_flops
from prithvi.models.masking import hide
from prithvi.process import settings_kept

CASES = {  # name: model, dates, side, batch, steps a round
    "tiny (64 px, 1 date, batch 32)": ("prithvi_hls_tiny", 1, 64, 32, 6),
    "tiny (224 px, 1 date, batch 2)": ("prithvi_hls_tiny", 1, 224, 2, 3),
    "published tiny (224 px, 1 date, batch 8)": ("prithvi_eo_v2_tiny_tl", 1, 224, 8, 3),
    "100M (224 px, 4 dates, batch 2)": ("prithvi_eo_v2_100_tl", 4, 224, 2, 1),
}
GPU_CASES = {
    "100M (224 px, 4 dates, batch 64)": ("prithvi_eo_v2_100_tl", 4, 224, 64, 10),
    "300M (224 px, 4 dates, batch 32)": ("prithvi_eo_v2_300_tl", 4, 224, 32, 10),
}


def theirs_like(model: PrithviMAE) -> Any:
    with settings_kept():  # both sides at full float32 precision, which the import lowers
        from terratorch.models.backbones.prithvi_mae import PrithviMAE as Theirs

    theirs = Theirs(**dataclasses.asdict(model.config))
    theirs.load_state_dict(model.state_dict(), strict=True)
    return theirs


def step_of(loss: Callable[[], torch.Tensor], model: torch.nn.Module) -> Callable[[], torch.Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.05)

    def step() -> torch.Tensor:
        found = loss()
        found.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return found.detach()

    return step


def ways(model: PrithviMAE, images: torch.Tensor, coordinates: tuple[torch.Tensor, torch.Tensor], compiled: bool,
         bf16: bool) -> dict[str, Callable[[], torch.Tensor]]:  # fmt: skip
    """Name to one training step, each with its own copy of the model."""
    import copy

    device, patches = images.device, len(model.encoder.pos_embed[0]) - 1

    def ours(fraction: float, own: PrithviMAE) -> Callable[[], torch.Tensor]:
        def loss() -> torch.Tensor:
            noise = torch.rand(len(images), patches, device=device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                return own.hidden_error(images, hide(noise, 0.75).fewer(fraction), None, *coordinates).loss

        return step_of(loss, own)

    def peers(theirs: Any) -> Callable[[], torch.Tensor]:
        def loss() -> torch.Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                return theirs(images, *coordinates, mask_ratio=0.75)[0]["loss"]

        return step_of(loss, theirs)

    found = {
        "TerraTorch": peers(theirs_like(model).to(device)),
        "ours": ours(1.0, copy.deepcopy(model)),
        "ours, decode 0.5": ours(0.5, copy.deepcopy(model)),
    }
    if compiled:
        found["TerraTorch, compiled"] = peers(torch.compile(theirs_like(model).to(device)))
        own = copy.deepcopy(model)
        for block in (*own.encoder.blocks, *own.decoder.decoder_blocks):
            block.compile()
        found["ours, compiled"] = ours(1.0, own)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--peak-tflops", type=float, default=790.0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    gpu = options.device == "cuda"
    for name, (shape, frames, side, batch, steps) in (GPU_CASES if gpu else CASES).items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        # What TerraTorch has too: the published objective, without the filling that ours starts from.
        model = build(shape, num_frames=frames, img_size=side, blend_fill=False).to(options.device)
        images = torch.randn(batch, 6, frames, side, side, device=options.device)
        dates = torch.tensor([[2020.0, 30.0 * date] for date in range(frames)]).expand(batch, -1, -1)
        place = torch.tensor([[40.0, 3.0]]).expand(batch, -1)
        coordinates = (dates.to(options.device), place.to(options.device))
        steppers = ways(model, images, coordinates, options.compile or gpu, gpu)
        first = {}
        for way, step in steppers.items():
            torch.manual_seed(1)
            first[way] = float(step())
        whole = {way: loss for way, loss in first.items() if "decode" not in way}
        assert max(whole.values()) - min(whole.values()) < (2e-2 if gpu else 1e-5), whole
        best = dict.fromkeys(steppers, float("inf"))
        for _ in range(options.rounds):
            for way, step in steppers.items():
                began = time.perf_counter()
                for _ in range(steps):
                    step()
                if gpu:
                    torch.cuda.synchronize()
                best[way] = min(best[way], (time.perf_counter() - began) / steps)
        print(f"{name}; first loss {first['TerraTorch']:.6f} and {first['ours']:.6f}")
        for way, seconds in best.items():
            fraction = 0.5 if "decode" in way else 1.0
            done = batch * training_flops(model.config, frames, side, fraction) / seconds
            share = f", {done / options.peak_tflops / 1e12:.2f} of {options.peak_tflops:.0f} TFLOP/s" if gpu else ""
            ratio = best["TerraTorch"] / seconds
            print(f"  {way:22} {batch / seconds:9.2f} samples/s, {ratio:5.2f} x TerraTorch{share}", flush=True)


if __name__ == "__main__":
    main()
