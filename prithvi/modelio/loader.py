"""`prithvi.load`: a model with weights from any source; where it lies, and what is known of it without opening it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from prithvi import hub
from prithvi.bands import check_names
from prithvi.contract import Contract
from prithvi.errors import CheckpointError, ConfigError, HubError, ModelError, nearest, one_of
from prithvi.files import read_json
from prithvi.modelio import terratorch_checkpoint
from prithvi.modelio.folder import errors_of, open_folder
from prithvi.modelio.model_files import (
    SUFFIX,
    SUFFIXES,
    WEIGHTS,
    Trusted,
    asked_of_hub,
    found_here,
    is_fine_tuned,
    refuse_other_weights,
    task_models,
)
from prithvi.modelio.predictor import Predictor
from prithvi.modelio.terratorch_config import Given
from prithvi.models import Encoder, PrithviEncoder, PrithviMAE, Segmenter, build_encoder, checkpoint
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import ENCODERS, VARIANTS, Variant, variant

_OF_SCENES = (".tif", ".tiff", ".jp2", ".vrt", ".hdf", ".h5", ".nc", ".zarr", ".json", ".safe")
"""Suffixes that the name of a model on the hub does not end in."""


def load(
    source: str | Path,
    *,
    architecture: str | None = None,
    revision: str | None = None,
    num_frames: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    bands: list[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    scale: float | None = None,
    new_bands: bool = False,
    config: str | Path | None = None,
    trust: bool = False,
) -> PrithviMAE | Encoder | Predictor:
    """A model with weights, or an error; never one with some of its weights.

    Args:
        source: a name (`prithvi models list`), a hub id (owner/name or owner/name@revision), a weights
            file, a checkpoint of TerraTorch's segmentation task, a program that `prithvi export` wrote (.pt2), or a
            folder: one that `prithvi fit` wrote, or one with a published config.json and its weights.
        architecture: the model's name, for a weights file that does not say it.
        revision: branch, tag or commit on the hub.
        num_frames: dates of the input, where it differs from pretraining.
        img_size: rows and columns of the input, likewise.
        bands: common names of the input's bands; weights are mapped by name.
        mean: band means in reflectance x 10,000, for bands that the weights do not know.
        std: band standard deviations, likewise.
        scale: for a checkpoint of TerraTorch's whose YAML does not say it: reflectance times this is what its means
            and stds are of.
        new_bands: allow bands that the weights do not know, with random weights.
        config: the YAML that a checkpoint of TerraTorch's was trained with; default the one beside it.
        trust: open an exported program that was not exported here; torch may run code that such a file holds.

    Returns:
        A pretrained `PrithviMAE` in evaluation mode, an `Encoder` of another project, or a `Predictor` (a fine-tuned
        model or a program).

    Raises:
        ModelError, CheckpointError, HubError, ConfigError: what was not found or did not fit, or an option with a
            fine-tuned model or a program, which are opened as they are.

    """
    path = on_disk(source, revision)
    as_it_is = opened_as_it_is(path)
    here = revision if path == Path(source) else None  # what is not of the hub has no revisions
    changes = (architecture, here, num_frames, img_size, bands, mean, std, scale, new_bands or None, config)
    if as_it_is and any(change is not None for change in changes):
        raise ModelError(f"{path} is {as_it_is}, which is opened as it is: leave out all but its name.")
    if path.suffix == SUFFIX:
        from prithvi.modelio.program import open_program

        return open_program(path, trust or isinstance(source, Trusted))
    if as_it_is:
        return open_folder(path)
    if path.is_file() and architecture is None and (path.suffix == ".ckpt" or config is not None):
        state, hyper = checkpoint.read(path)
        if config is not None or terratorch_checkpoint.is_fine_tune(hyper):
            given = Given(bands, mean, std, scale)
            return terratorch_checkpoint.open_fine_tune(path, state, hyper, config, given)
    if config is not None or scale is not None:
        raise ModelError(f"config= and scale= are for checkpoints of TerraTorch's, and {source} is none.")
    found, weights = find(source, architecture, revision)
    checkpoint.check_size(found, weights)
    one_of(found.architecture, {**VARIANTS, **ENCODERS}, f"{source} is of the architecture", ModelError)
    names = check_names(bands or found.bands)
    if mean is None or std is None:  # then those of the weights
        own = found.contract.select(names)
        mean, std = own.mean, own.std
    changed: dict[str, Any] = {"num_frames": num_frames or found.num_frames, "img_size": img_size or found.img_size}
    changed |= {"bands": names, "in_chans": len(names), "mean": mean, "std": std}
    if found.architecture in ENCODERS:
        encoder = build_encoder(dataclasses.replace(found, **changed))
        checkpoint.load_guest(encoder, weights)
        return encoder.eval()
    model = PrithviMAE(dataclasses.replace(found, **changed))
    checkpoint.load(model, weights, file_bands=found.bands, new_bands=new_bands)
    return model.eval()


def names_model(source: str) -> bool:
    """Whether a word means a model and not a scene, by its form and what lies here; nothing is opened or fetched.

    A model is a name without a suffix that is no file or folder here, a folder with a config.json or weights, a file of
    weights or a program, or a hub id (owner/name) that has no suffix of a scene.
    """
    if "://" in source:
        return False
    here, path = found_here(source), Path(source)
    if here is not None:
        files = list(here.iterdir()) if here.is_dir() else [here]
        return any(file.name == "config.json" or file.suffix in (*SUFFIXES, SUFFIX) for file in files)
    if len(path.parts) == 1:
        return not Path(revised(source, None)[0]).suffix or path.suffix in (*SUFFIXES, SUFFIX)
    return hub.split_id(source) is not None and path.suffix.lower() not in _OF_SCENES


def opened_as_it_is(path: Path) -> str:
    """What a file or folder is called of which `load` changes nothing; empty of any other."""
    if path.suffix == SUFFIX:
        return "an exported program"
    return "a fine-tuned model" if is_fine_tuned(path) else ""


def contract_of(source: str, architecture: str | None = None) -> Contract:
    """What the weights of a source (see `load`) expect of their input.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = on_disk(source)
    if is_fine_tuned(path):
        return Contract.from_dict(read_json(path / "config.json")["contract"])
    return find(source, architecture)[0].contract


def record_of(source: str) -> dict[str, Any]:
    """The training record in a pretrained model's folder; empty where there is none."""
    path = on_disk(source) / "config.json"
    return dict(read_json(path).get("training", {})) if path.is_file() else {}


def load_weights(
    model: PrithviMAE | PrithviEncoder | Segmenter, source: str, new_bands: bool = False
) -> checkpoint.LoadReport:
    """Loads the weights of a source (see `load`) into a model of the same shape, and says what fitted.

    Args:
        model: an autoencoder, an encoder alone, or an encoder and a head, whose per-pixel branch is then loaded too.
        source: see `load`.
        new_bands: allow bands that the weights do not know, with the model's random weights.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = on_disk(source)
    if (path / WEIGHTS).is_file():
        plain, weights = read_json(path / "config.json"), path / WEIGHTS
        named = {key: value for key, value in plain.items() if key in ("architecture", "pretrained_cfg")}
        with errors_of(path):
            config = ModelConfig.from_dict(named)
        refuse_other_weights(weights, plain)
    else:
        config, weights = find(source, model.config.architecture)
    guest = getattr(model, "encoder", None)
    if model.config.architecture in ENCODERS and isinstance(guest, Encoder):
        return checkpoint.load_guest(guest, weights)
    return checkpoint.load(model, weights, file_bands=config.bands, new_bands=new_bands)


def labels_of(source: str) -> tuple[tuple[str, ...], Tensor, Tensor] | None:
    """Names, weight and bias of the labels that a source's autoencoder learned beside the reconstruction, if it did.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = on_disk(source)
    if not (path / WEIGHTS).is_file() or is_fine_tuned(path):
        return None
    names = _published_config(path / "config.json", None).labels
    state, _ = checkpoint.read(path / WEIGHTS)
    weight, bias = (state.get(f"pixel_decoder.labels.{name}") for name in ("weight", "bias"))
    return None if not names or weight is None or bias is None else (names, weight, bias)


def on_disk(source: str | Path, revision: str | None = None, whole: bool = False) -> Path:
    """The file or folder of a source (see `prithvi.load`) on this machine, fetched from the hub if it is not here.

    A published variant is one weights file, any other model of the hub a folder in the cache.

    Args:
        source: see `prithvi.load`.
        revision: branch, tag or commit on the hub.
        whole: the card, the STAC item and the figures are wanted, too, where the hub has them; else a model is given
            without those that cannot be fetched.

    Raises:
        ModelError: there is no such source, a misspelt one, or no weights of that name are published.
        HubError: it cannot be fetched, or its weights are not those that its config.json names.

    """
    here = found_here(source)
    if here is not None:
        return here
    path, (name, revision) = Path(source), revised(str(source), revision)
    known = published(name)
    if known is not None:
        if known.hub_id is None or known.filename is None:
            raise ModelError(
                f"no weights of {name} are published: prithvi.models.build({name!r}) makes one with random weights."
            )
        return hub.fetch(known.hub_id, known.filename, revision)
    if hub.split_id(name) is None or path.suffix in (*SUFFIXES, SUFFIX):
        told = nearest(str(source), [*VARIANTS, *ENCODERS, *task_models()])
        raise ModelError(f"there is no model, file, folder or hub id {str(source)!r}: {told}")
    with asked_of_hub(source):
        config = hub.fetch(name, "config.json", revision)
    plain, revision = read_json(config), config.parent.name  # the rest of the same commit
    if "format" not in plain and plain.get("architecture", next(iter(VARIANTS))) not in VARIANTS:
        raise ModelError(f"{source} is of the architecture {plain['architecture']!r}, which is none of prithvi's.")
    hub.fetch(name, WEIGHTS, revision, sha256=plain.get("weights_sha256"))
    for more in ("README.md", "item.json", "metrics.json"):
        if hub.known_absent(name, more, revision):
            continue
        try:
            hub.fetch(name, more, revision)
        except HubError as error:  # nothing that works needs them
            if whole and not hub.lacks(name, more, revision, error):
                raise
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
        if known is None and architecture is None and path.suffix not in SUFFIXES:
            raise ModelError(
                f"{path} is no model, which is a name of 'prithvi models list', a folder that 'prithvi fit' wrote, a "
                f"hub id, or a file of weights ({', '.join(SUFFIXES)}): a scene stands after the model."
            )
        if known is None and architecture is None:
            raise ModelError(
                f"{path} holds weights but not their shape: say architecture= (a name of 'prithvi models list')."
            )
        return (known or variant(str(architecture))).config, path
    files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
    if len(files) != 1:
        names = ", ".join(file.name for file in files)
        inside = [str(each.parent) for each in sorted(path.glob("*/config.json"))]
        found = f"several weights files ({names}); name one of them." if files else "no weights file."
        told = f" Did you mean {' or '.join(inside)}?" if inside and not files else ""
        raise CheckpointError(f"{path} holds {found}{told}")
    if architecture is not None and not (path / "config.json").is_file():
        return variant(architecture).config, files[0]
    config = _published_config(path / "config.json", architecture)
    refuse_other_weights(files[0], read_json(path / "config.json"))
    return config, files[0]


def published(name: str) -> Variant | None:
    """The variant of that name or hub id."""
    known = {**VARIANTS, **ENCODERS}
    return known.get(name) or next((found for found in known.values() if found.hub_id == name), None)


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
        # A file that does not mention the branch was written before there was one.
        given = {"pixel_width": 0, **plain.get("pretrained_cfg", plain), "architecture": name}
        return ModelConfig.from_dict({**variant(str(name)).config.to_dict(), **given})
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{path} holds a value of another kind than its field: {error}.") from error
