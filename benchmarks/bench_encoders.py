"""Encoders of other projects behind our interface: how far from their own forward, and chips a second.

    python benchmarks/bench_encoders.py

Needs the olmoearth extra. Weights are random ones of the published shapes. Both sides get the same chips in digital
numbers and do all that they do themselves (normalising, months, tokens of the last block), in turn, on one thread; the
quickest of several rounds counts. Our own small encoders and Prithvi's tiny one stand beside. Differences are the
largest of all tokens, whose standard deviation is 1.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from prithvi.coords import year_and_day
from prithvi.models import ENCODERS, Standardise, build_encoder, configure
from prithvi.models.olmoearth import NAMES

OURS = ("prithvi_hls_tiny", "prithvi_hls_small", "prithvi_eo_v2_tiny_tl")
DATES = np.array(["2021-07-15"], "datetime64[D]")


def their_forward(name: str, patch: int) -> tuple[torch.nn.Module, Callable[[np.ndarray], torch.Tensor]]:
    """OlmoEarth's model, and what its documentation does with (B, band, T, Y, X) digital numbers."""
    from olmoearth_pretrain_minimal import Normalizer, OlmoEarthPretrain_v1
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

    version, size = NAMES[name]
    torch.manual_seed(0)
    whole, normal = OlmoEarthPretrain_v1(size, version).eval(), Normalizer()

    def forward(pixels: np.ndarray) -> torch.Tensor:
        images = normal.normalize(Modality.SENTINEL2_L2A, pixels.transpose(0, 3, 4, 2, 1))
        sample = MaskedOlmoEarthSample(
            timestamps=torch.tensor([15, 6, 2021]).expand(len(pixels), 1, 3),
            sentinel2_l2a=torch.from_numpy(images).float(),
            sentinel2_l2a_mask=torch.zeros(*images.shape[:4], 1, dtype=torch.long),
        )
        answer = whole.encoder(sample, patch_size=patch, input_res=10, fast_pass=True)["tokens_and_masks"]
        tokens: torch.Tensor = answer.sentinel2_l2a[..., 0, :].permute(0, 3, 1, 2, 4).flatten(1, 3)
        return tokens

    return whole, forward


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    dates = torch.from_numpy(year_and_day(DATES))[None].expand(asked.batch, -1, -1)
    print(f"chips of {asked.side} x {asked.side}, {asked.batch} at once, torch {torch.__version__}")
    print("name                    parameters  patch  difference  chips a second: ours  theirs")
    for name in (*ENCODERS, *OURS):
        config = configure(name, 1, asked.side)
        encoder, patch = build_encoder(config).eval(), config.patch_size[1]
        standardise = Standardise(config.contract)
        shape = asked.batch, config.in_chans, 1, asked.side, asked.side
        pixels = np.random.default_rng(0).integers(0, 6000, shape).astype(np.float32)

        def ours(pixels: np.ndarray, encoder=encoder, standardise=standardise) -> torch.Tensor:  # noqa: ANN001
            tokens: torch.Tensor = encoder(standardise(torch.from_numpy(pixels)), dates).tokens[:, 1:]
            return tokens

        sides, difference = [ours], float("nan")
        with torch.inference_mode():
            if name in ENCODERS:
                whole, forward = their_forward(name, patch)
                encoder.load_state_dict(encoder.own_state(whole.model.state_dict()))
                difference = float((ours(pixels) - forward(pixels)).abs().max())
                sides.append(forward)
            seconds: list[list[float]] = [[] for _ in sides]
            for _ in range(asked.rounds):
                for side, spent in zip(sides, seconds, strict=True):
                    start = time.perf_counter()
                    side(pixels)
                    spent.append(time.perf_counter() - start)
        speeds = [asked.batch / min(spent) for spent in seconds]
        size = sum(value.numel() for value in encoder.parameters()) / 1e6
        told = "  ".join(f"{speed:8.1f}" for speed in speeds)
        print(f"{name:22} {size:8.2f} M {patch:6}  {difference:10.1e}              {told}", flush=True)


if __name__ == "__main__":
    main()
