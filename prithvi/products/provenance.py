"""Provenance of a result and the classes of a map, as recorded in the tags of every file that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

import prithvi
from prithvi.modelio.predictor import Mappable

LEFT_OUT = "PRITHVI_LEFT_OUT"
"""Tag that holds `Provenance.left_out`."""


@dataclass(frozen=True)
class Provenance:
    """The model, inputs and command behind a file."""

    model: str
    weights_sha256: str = ""
    inputs: tuple[str, ...] = ()
    """Paths, URLs or ids of the input scenes."""
    command: str = ""
    """The command line, or the function that was called."""
    accepted: tuple[str, ...] = ()
    """Deviations from the model's contract that the user accepted, such as `nir_broad`."""
    model_folder: str = ""
    """Folder of the model, which holds its own STAC item."""
    left_out: str = ""
    """Number of pixels treated as missing without a declared nodata value, and why."""
    software: str = f"prithvi {prithvi.__version__}"

    @classmethod
    def of(cls, model: Mappable, scene: xr.DataArray, command: str = "") -> Provenance:
        """Provenance of a model's result on a scene.

        Args:
            model: the model; its name, weights hash and folder are recorded.
            scene: a scene from `prithvi.scenes.conform`; its `source` and `accepted` attributes are recorded.
            command: the command line, or the function that was called.

        """
        return cls(model.name, model.sha256, model_folder=model.folder).of_scene(scene, command)

    def of_scene(self, scene: xr.DataArray, command: str, inputs: Sequence[str] = ()) -> Provenance:
        """A copy of this provenance with the inputs of a scene.

        Args:
            scene: a scene from `prithvi.scenes.conform`; its `source` and `accepted` attributes are recorded.
            command: the command line, or the function that was called.
            inputs: the inputs, if there are more than the scene's `source`.

        """
        source, accepted = str(scene.attrs.get("source", "")), tuple(map(str, scene.attrs.get("accepted", ())))
        return replace(self, inputs=tuple(inputs) or ((source,) if source else ()), command=command, accepted=accepted)

    @classmethod
    def from_tags(cls, tags: Mapping[str, Any]) -> Provenance:
        """Reads back what `tags` wrote; the model folder is not stored, and `software` is the running version."""
        inputs, accepted = str(tags.get("PRITHVI_INPUT", "")), str(tags.get("PRITHVI_ACCEPTED", ""))
        return cls(
            str(tags.get("PRITHVI_MODEL", "")), str(tags.get("PRITHVI_WEIGHTS_SHA256", "")),
            tuple(inputs.split(", ")) if inputs else (), str(tags.get("PRITHVI_COMMAND", "")),
            tuple(accepted.split(",")) if accepted else (), left_out=str(tags.get(LEFT_OUT, "")),
        )  # fmt: skip

    def tags(self) -> dict[str, str]:
        """Tags for a file; unknown facts are left out."""
        tags = {
            "PRITHVI_MODEL": self.model, "PRITHVI_WEIGHTS_SHA256": self.weights_sha256,
            "PRITHVI_SOFTWARE": self.software, "PRITHVI_INPUT": ", ".join(self.inputs),
            "PRITHVI_COMMAND": self.command, "PRITHVI_ACCEPTED": ",".join(self.accepted),
            LEFT_OUT: self.left_out,
        }  # fmt: skip
        return {key: value for key, value in tags.items() if value}


def classes_of(tags: Mapping[str, str]) -> tuple[dict[int, str], dict[int, int]]:
    """Class number to name (tags CLASS_<n>), and class number to label value where they differ (LABEL_VALUE_<n>)."""
    found: dict[str, dict[int, str]] = {}
    for start in ("CLASS_", "LABEL_VALUE_"):
        numbers = {key.removeprefix(start): text for key, text in tags.items() if key.startswith(start)}
        found[start] = {int(number): text for number, text in sorted(numbers.items()) if number.isdecimal()}
    values = {number: int(text) for number, text in found["LABEL_VALUE_"].items()}
    return dict(sorted(found["CLASS_"].items())), values
