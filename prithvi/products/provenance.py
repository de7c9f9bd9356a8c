"""Where a result comes from, as it stands in every file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

import prithvi
from prithvi.modelio.predictor import Mappable

LEFT_OUT = "PRITHVI_LEFT_OUT"
"""The tag of `Provenance.left_out`."""


@dataclass(frozen=True)
class Provenance:
    """What made a file, and out of what."""

    model: str
    weights_sha256: str = ""
    inputs: tuple[str, ...] = ()
    """Files, addresses or ids of what was mapped."""
    command: str = ""
    """What was typed, or the function that was called."""
    accepted: tuple[str, ...] = ()
    """What the user let pass (`nir_broad`)."""
    model_folder: str = ""
    """Where the model's own record lies."""
    left_out: str = ""
    """How many pixels were taken as missing that nobody declares so, and why."""
    software: str = f"prithvi {prithvi.__version__}"

    @classmethod
    def of(cls, model: Mappable, scene: xr.DataArray, command: str = "") -> Provenance:
        """Of a model's result on a scene, see `of_scene`.

        Args:
            model: with its name and the hash of its weights.
            scene: what it was run on.
            command: what was typed.

        """
        return cls(model.name, model.sha256, model_folder=model.folder).of_scene(scene, command)

    def of_scene(self, scene: xr.DataArray, command: str, inputs: Sequence[str] = ()) -> Provenance:
        """The same for a scene.

        Args:
            scene: what `prithvi.scenes.conform` gives; its `source` and `accepted` are taken.
            command: what was typed, or the function that was called.
            inputs: what it was made of, if that is more than the scene's source.

        """
        source, accepted = str(scene.attrs.get("source", "")), tuple(map(str, scene.attrs.get("accepted", ())))
        return replace(self, inputs=tuple(inputs) or ((source,) if source else ()), command=command, accepted=accepted)

    @classmethod
    def from_tags(cls, tags: Mapping[str, Any]) -> Provenance:
        """Out of what `tags` gave."""
        inputs, accepted = str(tags.get("PRITHVI_INPUT", "")), str(tags.get("PRITHVI_ACCEPTED", ""))
        return cls(
            str(tags.get("PRITHVI_MODEL", "")), str(tags.get("PRITHVI_WEIGHTS_SHA256", "")),
            tuple(inputs.split(", ")) if inputs else (), str(tags.get("PRITHVI_COMMAND", "")),
            tuple(accepted.split(",")) if accepted else (), left_out=str(tags.get(LEFT_OUT, "")),
        )  # fmt: skip

    def tags(self) -> dict[str, str]:
        """As a file's tags; what is not known has none."""
        tags = {
            "PRITHVI_MODEL": self.model, "PRITHVI_WEIGHTS_SHA256": self.weights_sha256,
            "PRITHVI_SOFTWARE": self.software, "PRITHVI_INPUT": ", ".join(self.inputs),
            "PRITHVI_COMMAND": self.command, "PRITHVI_ACCEPTED": ",".join(self.accepted),
            LEFT_OUT: self.left_out,
        }  # fmt: skip
        return {key: value for key, value in tags.items() if value}
