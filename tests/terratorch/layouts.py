"""Fine-tunes of the installed TerraTorch's, each with the scores that TerraTorch gives: files to open elsewhere.

    python -m tests.terratorch.layouts FOLDER

writes NAME.ckpt and NAME.pt (the scores of `images()`) of each layout that this TerraTorch has. Those in `files/` were
written so by the version in the folder's name; `make matrix` writes and opens them on several versions.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import torch

from tests.terratorch.conftest import BANDS, their_warnings

SHAPE = {"backbone": "prithvi_eo_tiny", "backbone_embed_dim": 16, "backbone_num_heads": 2, "backbone_img_size": 16,
         "backbone_patch_size": [1, 4, 4]}  # fmt: skip
BLOCKS = [{"name": "SelectIndices", "indices": [0, 1, 2, 3]}, {"name": "ReshapeTokensToImage"}]
PYRAMID = [*BLOCKS, {"name": "LearnedInterpolateToPyramidal"}]
UPERNET = {"decoder": "UperNetDecoder", "decoder_channels": 4, "decoder_pool_scales": [1, 2]}
SCALED = {**UPERNET, "decoder_scale_modules": True}
LAYOUTS: dict[str, dict[str, Any]] = {
    "upernet": {**UPERNET, "necks": BLOCKS, "backbone_depth": 4},
    "upernet-neck": {**UPERNET, "necks": PYRAMID, "backbone_depth": 4},
    "upernet-scaled": {**SCALED, "necks": BLOCKS, "backbone_depth": 4},
    "upernet-scaled-alone": {**SCALED, "backbone_depth": 4},
    "upernet-scaled-five": {**SCALED, "backbone_depth": 5},  # it takes the first four
    "upernet-scaled-neck": {**SCALED, "necks": PYRAMID, "backbone_depth": 4},  # twice
    "unet-neck": {"decoder": "UNetDecoder", "decoder_channels": [8, 8, 4, 4], "necks": PYRAMID, "backbone_depth": 4},
    "fcn": {"decoder": "FCNDecoder", "decoder_channels": 4, "decoder_num_convs": 2, "backbone_depth": 2},
    "linear": {"decoder": "LinearDecoder", "decoder_upsampling_size": 4, "decoder_num_classes": 3, "backbone_depth": 2},
    "mlp": {"decoder": "MLPDecoder", "necks": BLOCKS, "backbone_depth": 4},
}


def images() -> torch.Tensor:
    """(2, 6, 1, 16, 16) standardised images, the same everywhere, in float64 so that scores of any size compare."""
    return torch.sin(torch.arange(2 * 6 * 16 * 16, dtype=torch.float64) ** 1.5).reshape(2, 6, 1, 16, 16)


def has_scale_modules() -> bool:
    """Whether the installed UperNetDecoder has the option, which 1.2.12 dropped."""
    with their_warnings():
        from terratorch.models.decoders import UperNetDecoder
    return "scale_modules" in inspect.signature(UperNetDecoder).parameters


def write(name: str, folder: Path) -> Path:
    """A checkpoint of that layout with weights like trained ones, and the scores of TerraTorch's own model."""
    with their_warnings():
        import lightning as L
        from terratorch.tasks import SemanticSegmentationTask

        torch.manual_seed(0)
        task = SemanticSegmentationTask(
            model_factory="EncoderDecoderFactory",
            model_args={**SHAPE, "backbone_bands": BANDS, **LAYOUTS[name], "num_classes": 3},
        )
        with torch.no_grad():
            for tensor in task.model.state_dict().values():  # so that no norm is 1, no bias and no mean 0
                if tensor.is_floating_point():
                    tensor.add_(0.05 * torch.rand_like(tensor))
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(task)
        folder.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(folder / f"{name}.ckpt", weights_only=True)
        with torch.no_grad():
            scores = task.double().eval().model(images()).output
    torch.save(scores, folder / f"{name}.pt")
    return folder / f"{name}.ckpt"


if __name__ == "__main__":
    for _name in LAYOUTS:
        if has_scale_modules() or "scaled" not in _name:
            write(_name, Path(sys.argv[1]))
