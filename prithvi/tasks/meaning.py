"""What the weights of a checkpoint mean: bands, statistics and outputs, without which they fit and measure nonsense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prithvi.contract import Contract, Quantity
from prithvi.errors import ConfigError

_KEY = "prithvi"
_OF_FOLDERS = ("means", "standard deviations", "clip", "quantity")
"""What a model folder is measured with, whatever the configuration says."""


def state(contract: Contract, checkpoint: dict[str, Any]) -> None:
    """Notes in a checkpoint what its model's input is standardised by, whether that came from data or weights."""
    checkpoint[_KEY] = {**checkpoint.get(_KEY, {}), "contract": contract.to_dict()}


def refuse_another(
    name: str, checkpoint: Mapping[str, Any], contract: Contract, options: Mapping[str, Any], measuring: bool = True
) -> None:
    """Compares a checkpoint with the task that it is to be loaded into.

    Args:
        name: of the checkpoint, for the error.
        checkpoint: as Lightning reads it. One of an older version says less; what it does not say is not compared.
        contract: of the task's input.
        options: the task's hyper-parameters.
        measuring: whether it is to be measured, or trained on.

    Raises:
        ConfigError: other bands, scale, statistics, classes (or another order) or quantity.

    """
    before, found = checkpoint.get("hyper_parameters", {}), checkpoint.get(_KEY, {}).get("contract")
    if found is None and before.get("statistics", "data") == "data":  # of before contracts were noted
        found = before.get("contract")
    then, now = _told(found, before), _told(contract.to_dict(), options)
    for what in (what for what in then if then[what] != now.get(what, then[what])):
        way = ", or begin a run from its weights (model.init)"
        if measuring:
            way = ", or test the model folder of its run, which has its own" if what in _OF_FOLDERS else ""
        raise ConfigError(
            f"{name} was trained with the {what} {then[what]}, and this configuration has {now[what]}: say the "
            f"same{way}."
        )


def _told(contract: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, str]:
    """What weights mean, by name and in words; numbers to six digits, which survive YAML and JSON."""
    told = {}
    if contract:
        its = Contract.from_dict(contract)
        told = {"bands": ", ".join(its.bands), "scale": f"{its.scale:.6g}"}
        told |= {"means": _row(its.mean), "standard deviations": _row(its.std), "clip": _row(its.clip or ())}
    if options.get("classes"):
        told["classes"] = ", ".join(map(str, options["classes"]))
    if options.get("quantity"):
        quantity = Quantity(**options["quantity"])
        told["quantity"] = f"{quantity.name} (mean {quantity.mean:.6g}, std {quantity.std:.6g})"
    return told


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values) or "none"
