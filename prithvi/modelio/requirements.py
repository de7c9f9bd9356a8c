"""What a model's files state about its input, read without torch: a scene is checked before the weights are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from prithvi import hub
from prithvi.contract import Contract
from prithvi.errors import HubError, PrithviError, SceneError
from prithvi.jsontext import read_json
from prithvi.modelio import programfile

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "prithvi-model/1"
"""Version of the layout of a fine-tuned model's folder."""


class Sized(Protocol):
    """What a scene's size is compared with."""

    @property
    def patch(self) -> int:
        """The smallest side of a scene, in pixels."""

    @property
    def frames(self) -> int:
        """Number of dates."""


@dataclass(frozen=True)
class Requirements:
    """What a scene must be for a model."""

    contract: Contract
    frames: int
    """Number of dates."""
    patch: int
    """The smallest side, in pixels."""


def check_size(model: Sized, scene: xr.DataArray) -> None:
    """Whether a scene is large enough for a model and has as many dates as it takes.

    Raises:
        SceneError: it is not, or has not.

    """
    where, sizes = scene.attrs.get("source", "the scene"), scene.sizes
    if min(sizes["y"], sizes["x"]) < model.patch:
        raise SceneError(
            f"{where} has {sizes['y']} x {sizes['x']} pixels, fewer than one patch of the model "
            f"({model.patch} x {model.patch})."
        )
    if sizes["time"] != model.frames:
        raise SceneError(
            f"{where} has {sizes['time']} {'date' if sizes['time'] == 1 else 'dates'}, and the model wants "
            f"{model.frames}."
        )


def requirements_of(source: str) -> Requirements | None:
    """What a fine-tuned model or an exported program (see `prithvi.load`) asks of a scene.

    None of any other source, and of files that are missing or damaged: `prithvi.load` then says what is wrong.

    Raises:
        HubError: a model of the hub whose config.json cannot be fetched.

    """
    try:
        if source.endswith(programfile.SUFFIX):
            facts = programfile.read_record(Path(source))["facts"]
            return Requirements(Contract.from_dict(facts["contract"]), int(facts["frames"]), int(facts["patch"]))
        if not Path(source).is_dir() and hub.split_id(source) is None:
            return None
        plain = config_of(source)
        if plain.get("format") != FORMAT:
            return None
        shape = plain["pretrained_cfg"]
        patch = max(shape["patch_size"][1:])
        return Requirements(Contract.from_dict(plain["contract"]), int(shape["num_frames"]), int(patch))
    except HubError:
        raise
    except (PrithviError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def config_of(source: str) -> dict[str, Any]:
    """What the config.json of a folder or of a model on the hub says; no weights are fetched for it.

    Raises:
        ConfigError, HubError: there is none.

    """
    folder, known = Path(source), hub.split_id(source)
    if not folder.exists() and known is not None:
        folder = hub.fetch(known[0], "config.json", known[1]).parent
    return read_json(folder / "config.json")


def is_fine_tuned(folder: Path) -> bool:
    """Whether a folder is one that `prithvi.modelio.save` wrote."""
    return (folder / "config.json").is_file() and read_json(folder / "config.json").get("format") == FORMAT
