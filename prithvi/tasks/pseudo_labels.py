"""Labels that a masked autoencoder learns beside the reconstruction: classes, and kinds of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prithvi.contract import IGNORE
from prithvi.errors import ConfigError, one_of


def label_names(classes: Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Class names in their order, those that are kinds of another class behind its name: `land/trees`.

    Args:
        classes: names in the order of the stores' class numbers.
        groups: name of a class to the names of its kinds.

    Raises:
        ConfigError: a group or kind that is no class, or a kind of two classes.

    """
    parents: dict[str, str] = {}
    for group, kinds in groups.items():
        one_of(group, classes, "label_groups has no class")
        for kind in kinds:
            one_of(kind, classes, f"label_groups of {group} has no class")
            if kind in parents or kind in groups:
                raise ConfigError(f"label_groups has {kind} twice: it is a kind of one class, and has no kinds itself.")
            parents[kind] = group
    return tuple(f"{parents[name]}/{name}" if name in parents else name for name in classes)


def label_loss(scores: Tensor, label: Tensor, names: Sequence[str]) -> Tensor:
    """Cross-entropy of the classes plus that of the kinds, per labelled pixel; 0 (with a gradient) if there is none.

    Args:
        scores: (B, label, Y, X) scores.
        label: (B, Y, X) class numbers, `IGNORE` where unlabelled.
        names: names as `label_names` gives them.

    """
    # A pixel of a kind counts for its class too. The classes share one softmax and the kinds of each class another, so
    # that a label of a class without its kind teaches nothing about kinds.
    position = {name: number for number, name in enumerate(names)}
    classes = [number for name, number in position.items() if "/" not in name]
    kept = label != IGNORE
    total, counted = scores.sum() * 0.0, kept.sum().clamp(min=1)
    parent = torch.tensor([position[name.partition("/")[0]] for name in names], device=label.device)
    target = torch.where(kept, parent[label.clamp(min=0).long()], IGNORE)
    for group in [classes, *_kinds(names).values()]:
        place = torch.full((len(names),), IGNORE, device=label.device)
        place[group] = torch.arange(len(group), device=label.device)
        own = target if group is classes else label
        own = torch.where(own != IGNORE, place[own.clamp(min=0).long()], IGNORE)
        total = total + torch.nn.functional.cross_entropy(
            scores[:, group].float(), own, ignore_index=IGNORE, reduction="sum"
        )
    return total / counted


def _kinds(names: Sequence[str]) -> dict[str, list[int]]:
    """Class to the numbers of its kinds, for classes that have any."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        group, _, kind = name.partition("/")
        if kind:
            found.setdefault(group, []).append(number)
    return found
