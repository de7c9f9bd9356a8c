"""`prithvi.load`: a model with weights from any source, and what can be known of one without opening it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prithvi.contract import Contract
from prithvi.errors import ModelError, nearest
from prithvi.jsontext import read_json
from prithvi.modelio import programfile, terratorch_checkpoint
from prithvi.modelio.folder import open_folder
from prithvi.modelio.predictor import Predictor
from prithvi.modelio.requirements import is_fine_tuned
from prithvi.modelio.source import WEIGHTS, check_size, find, on_disk
from prithvi.models import PrithviEncoder, PrithviMAE, build, checkpoint
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import VARIANTS


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
) -> PrithviMAE | Predictor:
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
        A pretrained `PrithviMAE` in evaluation mode, or a `Predictor` (a fine-tuned model or a program).

    Raises:
        ModelError, CheckpointError, HubError, ConfigError: what was not found or did not fit.

    """
    path = on_disk(source, revision)
    if is_fine_tuned(path):
        return open_folder(path)
    if path.suffix == programfile.SUFFIX:
        from prithvi.modelio.program import open_program

        changes = (architecture, revision, num_frames, img_size, bands, mean, std, scale, new_bands or None, config)
        if any(change is not None for change in changes):
            raise ModelError(f"{path} is an exported program, which is opened as it is: leave out all but its name.")
        return open_program(path, trust or isinstance(source, programfile.Trusted))
    if path.is_file() and architecture is None and (path.suffix == ".ckpt" or config is not None):
        state, hyper = checkpoint.read(path)
        if config is not None or terratorch_checkpoint.is_fine_tune(hyper):
            return terratorch_checkpoint.open_fine_tune(path, state, hyper, config, bands, mean, std, scale)
    if config is not None or scale is not None:
        raise ModelError(f"config= and scale= are for checkpoints of TerraTorch's, and {source} is none.")
    found, weights = find(source, architecture, revision)
    check_size(found, weights)
    name = found.architecture
    if name not in VARIANTS:
        raise ModelError(f"{source} is of the architecture {name!r}: {nearest(name, VARIANTS)}")
    options = found.to_dict()
    for key in ("architecture", "bands", "in_chans", "mean", "std", "num_frames", "img_size"):
        options.pop(key)
    if mean is None or std is None:  # then those of the weights
        own = found.contract if bands is None else found.contract.select(bands)
        mean, std = own.mean, own.std
    model = build(
        name, num_frames or found.num_frames, img_size or found.img_size, bands or list(found.bands),
        mean=tuple(mean), std=tuple(std), **options,
    )  # fmt: skip
    checkpoint.load(model, weights, file_bands=found.bands, new_bands=new_bands)
    return model.eval()


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


def load_weights(model: PrithviMAE | PrithviEncoder, source: str, new_bands: bool = False) -> checkpoint.LoadReport:
    """Loads the weights of a source (see `load`) into a model of the same shape, and says what fitted.

    Args:
        model: an autoencoder, or an encoder alone.
        source: see `load`.
        new_bands: allow bands that the weights do not know, with the model's random weights.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = on_disk(source)
    if (path / WEIGHTS).is_file():
        plain, weights = read_json(path / "config.json"), path / WEIGHTS
        named = {key: value for key, value in plain.items() if key in ("architecture", "pretrained_cfg")}
        config = ModelConfig.from_dict(named)
    else:
        config, weights = find(source, model.config.architecture)
    return checkpoint.load(model, weights, file_bands=config.bands, new_bands=new_bands)
