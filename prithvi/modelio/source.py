"""Where a model lies: a name, file, folder or hub id to files on this machine, and the shape that they state."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prithvi import hub
from prithvi.errors import CheckpointError, ConfigError, HubError, ModelError, nearest
from prithvi.files import sha256_once
from prithvi.jsontext import read_json
from prithvi.modelio import programfile
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import VARIANTS, Variant, variant

WEIGHTS = "model.safetensors"
SHIPPED = Path(__file__).parents[1] / "weights"
"""Models that come with the package, each a folder of its name."""
_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt")


def on_disk(source: str | Path, revision: str | None = None) -> Path:
    """The file or folder of a source (see `prithvi.load`) on this machine, fetched from the hub if it is not here.

    A published variant is one weights file, any other model of the hub a folder in the cache.

    Raises:
        ModelError: there is no such source, or no weights of that name are published.
        HubError: it cannot be fetched, or its weights are not those that its config.json names.

    """
    path = Path(source)
    if path.exists():
        return path
    name, revision = revised(str(source), revision)
    known = published(name)
    if known is not None and known.hub_id is None and (SHIPPED / name / "config.json").is_file():
        return SHIPPED / name
    if known is not None:
        if known.hub_id is None or known.filename is None:
            raise ModelError(
                f"no weights of {name} are published: prithvi.models.build({name!r}) makes one with random weights."
            )
        return hub.fetch(known.hub_id, known.filename, revision)
    if hub.split_id(name) is None or path.suffix in (*_SUFFIXES, programfile.SUFFIX):
        raise ModelError(f"there is no model, file, folder or hub id {str(source)!r}: {nearest(str(source), VARIANTS)}")
    config = hub.fetch(name, "config.json", revision)
    plain, revision = read_json(config), config.parent.name  # the rest of the same commit
    if "format" not in plain and plain.get("architecture", next(iter(VARIANTS))) not in VARIANTS:
        raise ModelError(f"{source} is of the architecture {plain['architecture']!r}, which is none of prithvi's.")
    hub.fetch(name, WEIGHTS, revision, sha256=plain.get("weights_sha256"))
    for more in ("README.md", "item.json", "metrics.json"):
        with contextlib.suppress(HubError):  # nothing that works needs them
            hub.fetch(name, more, revision)
    return config.parent


def find(source: str | Path, architecture: str | None = None, revision: str | None = None) -> tuple[ModelConfig, Path]:
    """The configuration and the weights file of a source.

    Args:
        source: see `prithvi.load`.
        architecture: the model's name, for files that do not say it.
        revision: branch, tag or commit on the hub.

    Raises:
        ModelError, CheckpointError, ConfigError, HubError: what was not found or does not say what it is.

    """
    path = on_disk(source, revision)
    if path.is_file():
        known = published(revised(str(source), None)[0])
        if known is None and architecture is None:
            raise ModelError(
                f"{path} holds weights but not their shape: say architecture= (a name of 'prithvi models list')."
            )
        return (known or variant(str(architecture))).config, path
    files = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES]
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        found = f"several weights files ({names}); name one of them" if files else "no weights file"
        raise CheckpointError(f"{path} holds {found}.")
    if architecture is not None and not (path / "config.json").is_file():
        return variant(architecture).config, files[0]
    return _published_config(path / "config.json", architecture), files[0]


def published(name: str) -> Variant | None:
    """The variant of that name or hub id."""
    return VARIANTS.get(name) or next((found for found in VARIANTS.values() if found.hub_id == name), None)


def revised(source: str, revision: str | None) -> tuple[str, str | None]:
    """`NAME@REVISION` as both; a revision that is given beside it must be the same."""
    name, _, told = source.partition("@")
    if told and revision not in (None, told):
        raise ModelError(f"{source} and revision={revision!r} are two revisions: give one.")
    return name, told or revision


def _published_config(path: Path, architecture: str | None) -> ModelConfig:
    """A config.json over the defaults of the variant it names."""
    plain = read_json(path)
    name = architecture or plain.get("architecture")
    if name is None:
        raise ModelError(f"{path} does not say its architecture: say architecture= (a name of 'prithvi models list').")
    try:
        told = ModelConfig.from_dict({**plain, "architecture": name}).to_dict()
        given = set(plain.get("pretrained_cfg", plain)) | {"architecture"}
    except (TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{path} holds a value of another kind than its field: {error}.") from error
    own = {key: value for key, value in told.items() if key in given}
    return ModelConfig.from_dict({**variant(str(name)).config.to_dict(), **own})


def check_size(config: ModelConfig, weights: Path) -> None:
    """Refuses a shape that is far larger than its weights file, before memory is asked for it.

    Raises:
        ConfigError: it is.

    """
    held = weights.stat().st_size if weights.is_file() else 0
    if config.at_least > max(held, 100_000_000):
        raise ConfigError(
            f"the configuration beside {weights} asks for {config.at_least:.2g} numbers, and the file holds {held:,} "
            "bytes: it is damaged, or not meant to be opened."
        )


def sha256(path: Path) -> str:
    """The SHA-256 of a weights file.

    Raises:
        CheckpointError: it is not there.

    """
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    return sha256_once(path)
