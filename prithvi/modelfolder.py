"""A whole model as one folder: weights, shape, contract, classes, where it came from. And `prithvi.load`.

model.safetensors   encoder.* and head.*
config.json         everything else; `format` names the version of this layout
metrics.json        figures that were measured, of a fine-tuned model
README.md           the same for people, with the hub's metadata (prithvi/modelcard.py)
item.json           the same for catalogs: a STAC item (prithvi/modelitem.py)

A model on the hub is such a folder; `owner/name` and `owner/name@revision` stand for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prithvi import terratorch_files
from prithvi.contract import Contract, Quantity
from prithvi.errors import CheckpointError, ConfigError, ModelError, OutputError, PrithviError, nearest
from prithvi.files import atomic_folder
from prithvi.fitted import ClassEntry, FittedModel, Mappable, check_classes
from prithvi.jsontext import dumps
from prithvi.modelcard import figures_of, fitted_card, pretrained_card
from prithvi.modelitem import fitted_item, pretrained_item
from prithvi.models import PrithviEncoder, PrithviMAE, Segmenter, build, checkpoint
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import VARIANTS
from prithvi.modelsource import check_size, find, on_disk, read_json, sha256

FORMAT = "prithvi-model/1"


def save(fitted: FittedModel, folder: str | Path) -> Path:
    """Writes a model folder; an older one of that name is replaced only when the new one is whole.

    Raises:
        OutputError: the folder cannot be written, or is there and holds something else.

    """

    def write(work: Path) -> None:
        _write_weights(fitted.model, work)
        fitted.sha256 = sha256(work / "model.safetensors")
        _write_text(work / "config.json", dumps(_describe(fitted), indent=2))
        if figures := figures_of(fitted.provenance):
            _write_text(work / "metrics.json", dumps(figures, indent=2))
        _write_text(work / "README.md", fitted_card(fitted))
        _write_text(work / "item.json", dumps(fitted_item(fitted), indent=2))

    return _write_folder(Path(folder), write)


def save_pretrained(model: PrithviMAE, folder: str | Path, training: dict[str, Any], card: str = "") -> Path:
    """Writes a pretrained model as the published ones lie on the hub: weights, config.json, a card, a STAC item.

    Args:
        model: the model.
        folder: an older one of that name is replaced only when the new one is whole.
        training: the record of how it was made (data, steps, seed, command, date), kept in config.json.
        card: more text for the card, such as tables of results.

    Raises:
        OutputError: the folder cannot be written, or is there and holds something else.

    """
    config = model.config

    def write(work: Path) -> None:
        _write_weights(model, work)
        digest = sha256(work / "model.safetensors")
        shape = {key: value for key, value in config.to_dict().items() if key != "architecture"}
        plain = {
            "architecture": config.architecture, "num_features": config.embed_dim, "pretrained_cfg": shape,
            "weights_sha256": digest, "training": training,
        }  # fmt: skip
        _write_text(work / "config.json", dumps(plain, indent=2))
        _write_text(work / "README.md", pretrained_card(model, training, card))
        _write_text(work / "item.json", dumps(pretrained_item(model, digest, training), indent=2))

    return _write_folder(Path(folder), write)


def _write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Writes a folder beside its place and puts it there when it is whole."""
    if folder.exists() and not (folder / "config.json").is_file():
        raise OutputError(f"{folder} is there and holds no model: choose another name.")
    with atomic_folder(folder) as work:
        write(work)
        for file in work.iterdir():
            file.chmod(0o644)  # safetensors' writer keeps others from reading
    return folder


def _write_weights(model: Segmenter | PrithviMAE, work: Path) -> None:
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, work / "model.safetensors", metadata={"format": "pt"})


def _write_text(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _describe(fitted: FittedModel) -> dict[str, Any]:
    config = fitted.model.config
    return {
        "format": FORMAT,
        "task": fitted.task,
        "architecture": config.architecture,
        "pretrained_cfg": {key: value for key, value in config.to_dict().items() if key != "architecture"},
        "head": {"name": fitted.head, "options": fitted.head_options},
        "contract": fitted.contract.to_dict(),
        "classes": [entry.to_dict() for entry in fitted.classes],
        "quantity": fitted.quantity.to_dict() if fitted.quantity is not None else None,
        "window": fitted.window,
        "coordinates": fitted.coordinates,
        "temperature": fitted.temperature,
        "weights_sha256": fitted.sha256,
        "provenance": fitted.provenance,
    }


def open_folder(folder: str | Path) -> FittedModel:
    """The model in a folder that `save` wrote.

    Raises:
        ConfigError: config.json is damaged or of another version.
        CheckpointError: the weights do not fit it completely.

    """
    folder = Path(folder)
    plain = read_json(folder / "config.json")
    if plain.get("format") != FORMAT:
        raise ConfigError(
            f"{folder}/config.json has the format {plain.get('format')!r}; this version reads {FORMAT!r}."
        )
    try:
        config = ModelConfig.from_dict(
            {"architecture": plain["architecture"], "pretrained_cfg": plain["pretrained_cfg"]}
        )
        classes = tuple(ClassEntry(**entry) for entry in plain["classes"])
        quantity = Quantity(**plain["quantity"]) if plain.get("quantity") else None
        outputs = 1 if quantity is not None else len(classes)
        check_size(config, folder / "model.safetensors")
        model = Segmenter(config, outputs, plain["head"]["name"], plain["head"]["options"])
        fitted = FittedModel(
            model=model, contract=Contract.from_dict(plain["contract"]), classes=classes, head=plain["head"]["name"],
            head_options=plain["head"]["options"], window=plain["window"], coordinates=plain["coordinates"],
            temperature=float(plain.get("temperature", 1.0)),
            provenance=plain.get("provenance", {}), sha256=sha256(folder / "model.safetensors"),
            task=plain.get("task", "segmentation"), quantity=quantity, folder=str(folder),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{folder}/config.json is not complete: {type(error).__name__} {error}.") from error
    except ValueError as error:
        if isinstance(error, PrithviError):
            raise
        raise ConfigError(f"{folder}/config.json holds a value that does not fit: {error}.") from error
    except (RuntimeError, MemoryError) as error:
        told = str(error).partition("\n")[0]
        raise ConfigError(f"no model can be built after {folder}/config.json: {told}.") from error
    if not isinstance(fitted.window, int) or not 1 <= fitted.window <= 10_000:
        raise ConfigError(f"{folder}/config.json: window must be 1 to 10,000 pixels.")
    try:
        check_classes(classes)
    except ConfigError as error:
        raise ConfigError(f"{folder}/config.json: {error}") from error
    state, own = checkpoint.read_safetensors(folder / "model.safetensors"), model.state_dict()
    wrong = sorted(set(state) ^ set(own)) or [key for key in own if state[key].shape != own[key].shape]
    if wrong:
        raise CheckpointError(f"{folder}/model.safetensors does not fit its config.json: {', '.join(wrong[:5])}.")
    model.load_state_dict(state)
    model.eval()
    return fitted


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
) -> PrithviMAE | FittedModel | Mappable:
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

    Returns:
        A `PrithviMAE` in evaluation mode, a `FittedModel` for a fine-tuned one, or the `Mappable` of a program.

    Raises:
        ModelError, CheckpointError, HubError, ConfigError: what was not found or did not fit.

    """
    path = on_disk(source, revision)
    if (path / "config.json").is_file() and read_json(path / "config.json").get("format") == FORMAT:
        return open_folder(path)
    if path.suffix == ".pt2":
        from prithvi.exported import open_program

        changes = (architecture, revision, num_frames, img_size, bands, mean, std, scale, new_bands or None, config)
        if any(change is not None for change in changes):
            raise ModelError(f"{path} is an exported program, which is opened as it is: leave out all but its name.")
        return open_program(path)
    if path.is_file() and architecture is None and (path.suffix == ".ckpt" or config is not None):
        state, hyper = checkpoint.read(path)
        if config is not None or terratorch_files.is_fine_tune(hyper):
            return terratorch_files.open_fine_tune(path, state, hyper, config, bands, mean, std, scale)
    if config is not None or scale is not None:
        raise ModelError(f"config= and scale= are for checkpoints of TerraTorch's, and {source} is none.")
    found, weights = find(str(source), architecture, revision)
    check_size(found, weights)
    name = found.architecture
    if name not in VARIANTS:
        raise ModelError(f"{source} is of the architecture {name!r}: {nearest(name, VARIANTS)}")
    options = found.to_dict()
    for key in ("architecture", "bands", "in_chans", "mean", "std", "num_frames", "img_size"):
        options.pop(key)
    model = build(
        name, num_frames or found.num_frames, img_size or found.img_size, bands or list(found.bands),
        **_statistics(found, bands, mean, std), **options,
    )  # fmt: skip
    checkpoint.load(model, weights, file_bands=found.bands, new_bands=new_bands)
    return model.eval()


def _statistics(
    config: ModelConfig, bands: Sequence[str] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, Any]:
    """Mean and std of the bands asked for: as given, else the weights' own."""
    if mean is not None and std is not None:
        return {"mean": tuple(mean), "std": tuple(std)}
    own = config.contract if bands is None else config.contract.select(bands)
    return {"mean": own.mean, "std": own.std}


def initialise(encoder: PrithviEncoder, source: str) -> checkpoint.LoadReport:
    """Loads published or own weights into an encoder that is to be fine-tuned, and says what fitted.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    return load_weights(encoder, source)


def contract_of(source: str, architecture: str | None = None) -> Contract:
    """What the weights of a source (see `load`) expect of their input.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = on_disk(source)
    if (path / "config.json").is_file() and read_json(path / "config.json").get("format") == FORMAT:
        return Contract.from_dict(read_json(path / "config.json")["contract"])
    return find(source, architecture, None)[0].contract


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
    if path.is_dir() and (path / "model.safetensors").is_file():
        plain = read_json(path / "config.json")
        named = {key: value for key, value in plain.items() if key in ("architecture", "pretrained_cfg")}
        bands = ModelConfig.from_dict(named).bands
        return checkpoint.load(model, path / "model.safetensors", file_bands=bands, new_bands=new_bands)
    config, weights = find(source, model.config.architecture, None)
    return checkpoint.load(model, weights, file_bands=config.bands, new_bands=new_bands)
