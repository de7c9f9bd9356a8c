"""How much of a pretrained encoder a fine-tuning moves: all of it, nothing, or low-rank additions (LoRA, by peft)."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from prithvi.errors import MissingExtraError, one_of
from prithvi.models import PrithviEncoder

ModelT = TypeVar("ModelT", bound=nn.Module)
FINETUNE = ("full", "frozen", "lora")


def prepare(encoder: PrithviEncoder, finetune: str, rank: int) -> None:
    """Leaves those of an encoder's weights trainable that a fine-tuning of this kind moves.

    Args:
        encoder: changed in place.
        finetune: `full`, `frozen`, or `lora`: the encoder stays and each block's attention (query, key, value and
            projection) gets an addition of low rank (Hu et al. 2021).
        rank: of the additions; they are scaled by 2.

    Raises:
        ConfigError: no such way.
        MissingExtraError: peft is not installed.

    """
    if one_of(finetune, FINETUNE, "finetune has no") != "full":
        encoder.requires_grad_(False)
    if finetune == "lora":
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise MissingExtraError("finetune: lora", "lora") from error
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["attn.qkv", "attn.proj"]), encoder
        )


def merged(model: ModelT) -> ModelT:
    """A copy with each low-rank addition added to the weights it belongs to, as if it had been trained whole."""
    model = copy.deepcopy(model)
    adapted = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    for name, module in adapted:
        parent, _, child = name.rpartition(".")
        module.merge()
        setattr(model.get_submodule(parent), child, module.base_layer)
    return model
