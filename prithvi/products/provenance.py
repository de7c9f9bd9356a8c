"""Provenance of a result and the classes of a map, as recorded in the tags of every file that is written; and what
tells one input from another, so that a run is only resumed on the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import prithvi
from prithvi.errors import ConfigError, without_secrets
from prithvi.scenes import transform_of
from prithvi.scenes.file_states import states_of_rasters
from prithvi.scenes.info import name_of
from prithvi.scenes.paths import shown
from prithvi.scenes.pixels import source_of

if TYPE_CHECKING:  # it imports torch
    from prithvi.modelio.predictor import Predictor

LEFT_OUT = "PRITHVI_LEFT_OUT"
"""Tag that holds `Provenance.left_out`."""
ENGINE_TAGS = {"engine": "PRITHVI_ENGINE", "precision": "PRITHVI_PRECISION"}
"""Tags that hold `Provenance.engine` and `Provenance.precision`."""

_WHOLE = re.compile(r"[0-9]{1,9}")


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
    engine: str = ""
    """What ran the model, with its version, where that is not torch in its usual precision; and below the precision."""
    precision: str = ""

    def __post_init__(self) -> None:
        """Files outlive logins: addresses are kept without them."""
        object.__setattr__(self, "inputs", tuple(map(shown, self.inputs)))
        object.__setattr__(self, "command", without_secrets(self.command))

    @classmethod
    def of(cls, model: Predictor, scene: xr.DataArray, command: str = "") -> Provenance:
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

    def run_by(self, facts: Mapping[str, str]) -> Provenance:
        """A copy with `engine` and `precision`, as far as these facts say them."""
        return replace(self, engine=facts.get("engine", ""), precision=facts.get("precision", ""))

    @classmethod
    def from_tags(cls, tags: Mapping[str, Any]) -> Provenance:
        """Reads back what `tags` wrote; the model folder is not stored, and `software` is the running version."""
        told, accepted = str(tags.get("PRITHVI_INPUT", "")), str(tags.get("PRITHVI_ACCEPTED", ""))
        inputs = json.loads(told) if told.startswith('["') else told.split(", ") if told else ()
        return cls(
            str(tags.get("PRITHVI_MODEL", "")), str(tags.get("PRITHVI_WEIGHTS_SHA256", "")),
            tuple(inputs), str(tags.get("PRITHVI_COMMAND", "")),
            tuple(accepted.split(",")) if accepted else (), left_out=str(tags.get(LEFT_OUT, "")),
            engine=str(tags.get(ENGINE_TAGS["engine"], "")), precision=str(tags.get(ENGINE_TAGS["precision"], "")),
        )  # fmt: skip

    def tags(self) -> dict[str, str]:
        """Tags for a file; unknown facts are left out."""
        # A list with commas between, or in JSON where a path itself has such a comma.
        inputs = ", ".join(self.inputs)
        if any(", " in path or path.startswith('["') for path in self.inputs):
            inputs = json.dumps(self.inputs, ensure_ascii=False)
        tags = {
            "PRITHVI_MODEL": self.model, "PRITHVI_WEIGHTS_SHA256": self.weights_sha256,
            "PRITHVI_SOFTWARE": self.software, "PRITHVI_INPUT": inputs,
            "PRITHVI_COMMAND": self.command, "PRITHVI_ACCEPTED": ",".join(self.accepted),
            LEFT_OUT: self.left_out, **{tag: getattr(self, name) for name, tag in ENGINE_TAGS.items()},
        }  # fmt: skip
        return {key: value for key, value in tags.items() if value}


def classes_of(tags: Mapping[str, str]) -> tuple[dict[int, str], dict[int, int]]:
    """Class number to name (tags CLASS_<n>), and class number to label value where they differ (LABEL_VALUE_<n>)."""
    found: dict[str, dict[int, str]] = {}
    for start in ("CLASS_", "LABEL_VALUE_"):
        numbers = {key.removeprefix(start): text for key, text in tags.items() if key.startswith(start)}
        found[start] = {int(number): text for number, text in sorted(numbers.items()) if _WHOLE.fullmatch(number)}
    values = {number: int(text) for number, text in found["LABEL_VALUE_"].items() if _WHOLE.fullmatch(text.lstrip("-"))}
    return dict(sorted(found["CLASS_"].items())), values


def can_resume(scene: xr.DataArray, asked: bool) -> bool:
    """Whether a later run can tell that it is of the same pixels. Those of a lazy scene that was calculated (`where`,
    arithmetic, other libraries' readers) would have to be computed for that.

    Args:
        scene: whose pixels.
        asked: whether this run is to be resumed.

    Raises:
        ConfigError: it cannot tell, and is asked to.

    """
    known = source_of(scene) is not None or scene.chunks is None
    if asked and not known:
        raise ConfigError(
            f"{name_of(scene)} is calculated lazily, so that nobody can tell whether an interrupted run had the same "
            "pixels: leave resume out, or take it into memory (.compute())."
        )
    return known


def checksum(array: xr.DataArray) -> str:
    """The SHA-256 of an array with its dates, of which only some rows are computed at once."""
    times = array["time"].values.tolist() if "time" in array.coords else []
    digest = hashlib.sha256(f"{array.dtype} {dict(array.sizes)} {times}".encode())
    for first in range(0, array.sizes["y"], 1024):
        digest.update(np.ascontiguousarray(array.isel(y=slice(first, first + 1024)).values).data.cast("B"))
    return digest.hexdigest()


def identity(scene: xr.DataArray) -> dict[str, Any]:
    """What tells a scene from another: its files and those behind them, their bands and what becomes of these, or what
    it holds in memory. Plain JSON values.
    """
    pixels = source_of(scene)
    planes = [plane for step in pixels.planes for plane in step] if pixels is not None else []
    paths = list(dict.fromkeys(plane.path for plane in planes))
    return {
        "source": str(scene.attrs.get("source", "")),
        "planes": [{**plane.facts(), "path": shown(plane.path)} for plane in planes],
        "states": {shown(path): state for path, state in states_of_rasters(paths).items()},
        "times": [str(time) for time in scene["time"].values] if "time" in scene.coords else [],
        **layout_of(scene),
        **content_of(scene),
    }


def content_of(scene: xr.DataArray) -> dict[str, str]:
    """What stands in a key for pixels in memory, which no file tells of; nothing for any others."""
    return {"pixels": checksum(scene)} if source_of(scene) is None and scene.chunks is None else {}


def layout_of(scene: xr.DataArray) -> dict[str, Any]:
    """Size, place and units of a scene, as plain JSON values."""
    transform = list(transform_of(scene))[:6]
    return {
        "shape": list(scene.shape),
        "transform": transform,
        **{key: scene.attrs.get(key) for key in ("gain", "bias")},
    }
