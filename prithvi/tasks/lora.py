"""Full fine-tuning, a frozen encoder, or low-rank adapters (LoRA, with peft)."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from prithvi.errors import needs, one_of
from prithvi.models import Encoder

ModelT = TypeVar("ModelT", bound=nn.Module)
FINETUNE = ("full", "frozen", "lora")


def prepare(encoder: Encoder, finetune: str, rank: int) -> None:
    """Prepares an encoder for a kind of fine-tuning: freezes weights and adds adapters as needed.

    Args:
        encoder: the encoder, changed in place.
        finetune: `full`, `frozen`, or `lora`: a frozen encoder with low-rank adapters of the attention of each block
            (query, key, value and projection; Hu et al. 2021).
        rank: rank of the adapters, which are scaled by alpha / rank = 2.

    Raises:
        ConfigError: an unknown kind.
        MissingExtraError: peft is not installed.

    """
    if one_of(finetune, FINETUNE, "finetune has no") != "full":
        encoder.requires_grad_(False)
    if finetune == "lora":
        with needs("finetune: lora", "lora"):
            from peft import LoraConfig, inject_adapter_in_model
        adapters = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(encoder.adapted))
        inject_adapter_in_model(adapters, encoder)


def merged(model: ModelT) -> ModelT:
    """A copy of a model with all adapters merged into the weights, which leaves a plain model."""
    model = copy.deepcopy(model)
    adapted = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    for name, module in adapted:
        parent, _, child = name.rpartition(".")
        module.merge()
        setattr(model.get_submodule(parent), child, module.base_layer)
    return model
