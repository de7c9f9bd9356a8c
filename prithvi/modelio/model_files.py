"""A model's files read without torch: their names, what they state of the input, and a program's archive looked into.

A scene is checked against them before the weights are opened.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prithvi import hub
from prithvi.contract import Contract
from prithvi.errors import CheckpointError, ConfigError, HubError, ModelError, PrithviError, SceneError
from prithvi.files import read_json, refuse_inflated, refuse_unreachable, sha256_once

if TYPE_CHECKING:
    import xarray as xr

    from prithvi.modelio.predictor import Predictor

FORMAT = "prithvi-model/1"
"""Version of the layout of a fine-tuned model's folder."""
WEIGHTS = "model.safetensors"
"""Name of the weights in a model's folder."""
PROGRAM_FORMAT = "prithvi-program/1"
SUFFIX = ".pt2"
RECORD = "prithvi.json"
"""Name of this package's record among a program's extra files."""

SHIPPED = Path(__file__).parents[1] / "weights"
"""Models that come with the package, each a folder of its name."""
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
"""Of files of weights."""
ENGINES, PRECISIONS = ("torch", "openvino", "auto"), ("float32", "bfloat16", "auto")
"""What a model can be run by (see `prithvi.mapping.engine_choice`)."""

_RECORD_BYTES = 64_000_000
"""At most; that of a model with a hundred classes has some ten thousand."""
_MEMBERS = 100_000
"""Files in the archive at most; the largest Prithvi has some two thousand."""


class Trusted(str):
    """Path of a program whose maker the user trusts (`--trust`); it travels to other processes as it is."""

    __slots__ = ()


def shipped(name: str | Path) -> Path | None:
    """The folder of a model that comes with the package, by its name; None of any other name, and of a path.

    Raises:
        ConfigError: the path is no name that a file can have, or in a folder that may not be entered.

    """
    refuse_unreachable(name)
    folder = SHIPPED / name
    named = isinstance(name, str) and Path(name).name == name
    return folder if named and (folder / "config.json").is_file() else None


def task_models() -> dict[str, dict[str, Any]]:
    """The fine-tuned models that come with the package: name to what its config.json says."""
    folders = [folder for folder in sorted(SHIPPED.iterdir()) if is_fine_tuned(folder)]
    return {folder.name: read_json(folder / "config.json") for folder in folders}


def found_here(source: str | Path) -> Path | None:
    """The file or folder of a source (see `prithvi.load`) that is on this machine without the hub; None if none is.

    A name of the package's own models is that model, and a path (`./water`, or a `Path`) what lies there. Where a
    folder of that very name lies in the working directory and holds a model, it is taken, as any folder always was.

    Warns:
        UserWarning: both are there.

    """
    path, own = Path(source), shipped(source)
    if own is None:
        return path if path.exists() else None
    if not path.is_dir() or not any(file.name == "config.json" or file.suffix in SUFFIXES for file in path.iterdir()):
        return own
    warnings.warn(
        f"{source} is taken to be the folder here ({path.resolve()}), and not the model of that name that comes with "
        f"prithvi: that is {own}; ./{source} means the folder without this note.",
        stacklevel=1,
    )
    return path


@contextlib.contextmanager
def asked_of_hub(source: str | Path) -> Iterator[None]:
    """For a block that asks the hub for what has the form of a hub id and is no folder here; what is raised says both.

    Raises:
        ModelError: its folder is here and holds a name much like it, so that it is a misspelt path.
        HubError: what the block raised.

    """
    path = Path(source)
    if "@" not in str(source) and len(path.parts) > 1 and path.parent.is_dir():
        close = difflib.get_close_matches(path.name, [each.name for each in path.parent.iterdir()], n=1)
        if close:
            raise ModelError(
                f"there is no {source} here: did you mean {path.parent / close[0]}? {source}@main asks the hub for a "
                "model of that name."
            )
    try:
        yield
    except HubError as error:
        raise HubError(f"there is no folder {source} here, and {error}") from error


def refuse_other_weights(weights: Path, plain: Mapping[str, Any]) -> str:
    """The SHA-256 of a folder's weights, if it is the one that its config.json (`plain`) records or that records none.

    Raises:
        CheckpointError: it is another file: damaged, or of another model.

    """
    found = sha256_once(weights)
    if plain.get("weights_sha256", found) != found:
        raise CheckpointError(
            f"{weights} is not the file that its config.json names: it is damaged, or of another model. Fetch the "
            "folder again or save it anew."
        )
    return found


@dataclass(frozen=True)
class Requirements:
    """What a scene must be for a model."""

    contract: Contract
    frames: int
    """Number of dates."""
    patch: int
    """The smallest side, in pixels."""
    window: int = 0
    """Side of the squares that the model is run on, in pixels; 0 where it is not known."""
    classes: bool = True
    """Whether it predicts classes; a quantity otherwise."""
    name: str = "the model"
    task: str = "segmentation"
    """See `Predictor.task`."""


def check_size(model: Requirements | Predictor, scene: xr.DataArray) -> None:
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
        dates = "date" if sizes["time"] == 1 else "dates"
        raise SceneError(f"{where} has {sizes['time']} {dates}, and the model wants {model.frames}.")


def check_engine(engine: str, precision: str | None) -> None:
    """Raises ConfigError where there is no such engine or precision."""
    for name, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known and value is not None:
            raise ConfigError(f"there is no {name} {value!r}: say {', '.join(known[:-1])} or {known[-1]}.")


def requirements_of(source: str) -> Requirements | None:
    """What a fine-tuned model or an exported program (see `prithvi.load`) asks of a scene.

    None of any other source, and of files that are missing or damaged: `prithvi.load` then says what is wrong.

    Raises:
        HubError, ModelError: a model of the hub whose config.json cannot be fetched, or a misspelt folder.

    """
    try:
        if source.endswith(SUFFIX):
            facts = read_record(Path(source))["facts"]
            return Requirements(
                Contract.from_dict(facts["contract"]), int(facts["frames"]), int(facts["patch"]), int(facts["window"]),
                bool(facts["classes"]), str(facts["name"]),
            )  # fmt: skip
        plain = config_of(source)
        if plain.get("format") != FORMAT:
            return None
        shape = plain["pretrained_cfg"]
        patch = max(shape["patch_size"][1:])
        return Requirements(
            Contract.from_dict(plain["contract"]), int(shape["num_frames"]), int(patch), int(plain["window"]),
            bool(plain["classes"]), str(plain["architecture"]), str(plain.get("task", "segmentation")),
        )  # fmt: skip
    except (HubError, ModelError):
        raise
    except (PrithviError, KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def config_of(source: str) -> dict[str, Any]:
    """What the config.json of a folder, of one of the package's models or of one on the hub says, without its weights.

    Raises:
        ConfigError, HubError: there is none.

    """
    here = found_here(source)
    folder, known = here or Path(source), hub.split_id(source) if "/" in source and here is None else None
    if known is not None:
        with asked_of_hub(source):
            folder = hub.fetch(known[0], "config.json", known[1]).parent
    return read_json(folder / "config.json")


def is_fine_tuned(folder: Path) -> bool:
    """Whether a folder is one that `prithvi.modelio.save` wrote."""
    return (folder / "config.json").is_file() and read_json(folder / "config.json").get("format") == FORMAT


def read_record(path: Path) -> dict[str, Any]:
    """The record in a program: `format`, `torch` and `facts` (see `Predictor.facts`).

    The archive's sizes are checked first. Its files are stored and not compressed and do not overlap, so that opening
    it takes no more memory than it has bytes; and they have the check sums beside them, which torch does not compare.

    Raises:
        CheckpointError: not there, not a program of this package's, damaged, or sizes that no program has.
        ConfigError: the record is damaged or of another version.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = {entry.filename for entry in entries}
            if len(names) < len(entries) or len(entries) > _MEMBERS:
                raise CheckpointError(f"{path} holds repeated or too many files, as no program does.")
            refuse_inflated(path, CheckpointError)
            # NAME/extra/ is torch 2.7 and later, extra_files/ torch 2.6.
            ends = (f"/extra/{RECORD}", f"extra_files/{RECORD}")
            records = [entry for entry in entries if entry.filename.endswith(ends)]
            if len(records) != 1 or records[0].file_size > _RECORD_BYTES:
                raise CheckpointError(f"{path} has no {RECORD}: it is not a program that 'prithvi export' wrote.")
            damaged = archive.testzip()
            if damaged is not None:
                raise CheckpointError(f"{path} is damaged ({damaged}): fetch it again.")
            text = archive.read(records[0])
    except CheckpointError:
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    # What zipfile raises of bytes that are no archive: by name, or as its own parts stumble over them.
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error, RuntimeError) as error:
        raise CheckpointError(f"{path} is no program file, or was cut short ({error}): fetch it again.") from error
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} has a damaged {RECORD}: export the model again.") from error
    found = record.get("format") if isinstance(record, dict) else None
    if found != PROGRAM_FORMAT:
        raise ConfigError(f"{path} has the format {found!r}; this version reads {PROGRAM_FORMAT!r}.")
    return dict(record)
