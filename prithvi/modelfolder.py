"""A whole model as one folder: weights, shape, contract, classes, where it came from. And `prithvi.load`.

model.safetensors   encoder.* and head.*
config.json         everything else; `format` names the version of this layout
README.md           the same for people
item.json           the same for catalogs: a STAC item (prithvi/modelitem.py)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prithvi import hub, terratorch_files
from prithvi.contract import Contract, Quantity
from prithvi.errors import CheckpointError, ConfigError, ModelError, OutputError, PrithviError, nearest
from prithvi.fitted import ClassEntry, FittedModel, Mappable
from prithvi.modelitem import fitted_item, pretrained_item
from prithvi.models import PrithviEncoder, PrithviMAE, Segmenter, build, checkpoint
from prithvi.models.config import ModelConfig
from prithvi.models.zoo import VARIANTS

FORMAT = "prithvi-model/1"


def save(fitted: FittedModel, folder: str | Path) -> Path:
    """Writes a model folder; an older one of that name is replaced only when the new one is whole.

    Raises:
        OutputError: the folder cannot be written, or is there and holds something else.

    """

    def write(work: Path) -> None:
        _write_weights(fitted.model, work)
        fitted.sha256 = _sha256(work / "model.safetensors")
        _write_text(work / "config.json", json.dumps(_describe(fitted), indent=2))
        _write_text(work / "README.md", _card(fitted))
        _write_text(work / "item.json", json.dumps(fitted_item(fitted), indent=2))

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
        sha256 = _sha256(work / "model.safetensors")
        shape = {key: value for key, value in config.to_dict().items() if key != "architecture"}
        plain = {
            "architecture": config.architecture, "num_features": config.embed_dim, "pretrained_cfg": shape,
            "weights_sha256": sha256, "training": training,
        }  # fmt: skip
        _write_text(work / "config.json", json.dumps(plain, indent=2))
        _write_text(work / "README.md", _pretrained_card(model, training, card))
        _write_text(work / "item.json", json.dumps(pretrained_item(model, sha256, training), indent=2))

    return _write_folder(Path(folder), write)


def _write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Writes a folder beside its place and puts it there when it is whole."""
    if folder.exists() and not (folder / "config.json").is_file():
        raise OutputError(f"{folder} is there and holds no model: choose another name.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}).") from error
    try:
        write(work)
        work.chmod(0o755)
        for file in work.iterdir():
            file.chmod(0o644)
        old = work.with_name(f"{work.name}-old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(work, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _write_weights(model: Segmenter | PrithviMAE, work: Path) -> None:
    from safetensors.torch import save_file

    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, work / "model.safetensors", metadata={"format": "pt"})


def _write_text(path: Path, text: str) -> None:
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _pretrained_card(model: PrithviMAE, training: dict[str, Any], more: str) -> str:
    config, contract = model.config, model.contract
    million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    lines = [
        f"# {config.architecture}",
        "",
        f"A masked autoencoder of {million:.2f} million parameters: patches of "
        f"{' x '.join(map(str, config.patch_size))} (time, y, x), encoder {config.embed_dim} wide and {config.depth} "
        f"deep, decoder {config.decoder_embed_dim} wide and {config.decoder_depth} deep.",
        "",
        f"Input: {', '.join(contract.bands)}; reflectance x {contract.scale:g}"
        + (f", clipped to {contract.clip[0]:g} .. {contract.clip[1]:g}" if contract.clip else "")
        + f", {contract.level or 'surface or top-of-atmosphere'}; squares of {config.img_size[0]} pixels.",
        "",
        f'Use: `prithvi.load("{config.architecture}")` for the shipped weights, `prithvi.load(THIS_FOLDER)` for these.',
        "",
        "| how it was made | |",
        "|---|---|",
        *(f"| {key} | {_in_cell(value)} |" for key, value in training.items()),
        "",
        more,
    ]
    return "\n".join(lines)


def _in_cell(value: Any) -> str:
    if isinstance(value, list):
        return "<br>".join(_in_cell(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_in_cell(entry)}" for key, entry in value.items())
    return str(value)


def _describe(fitted: FittedModel) -> dict[str, Any]:
    config = fitted.model.config
    return {
        "format": FORMAT,
        "task": fitted.task,
        "architecture": config.architecture,
        "pretrained_cfg": {key: value for key, value in config.to_dict().items() if key != "architecture"},
        "head": {"name": fitted.head, "options": fitted.head_options},
        "contract": fitted.contract.to_dict(),
        "classes": [{"value": c.value, "name": c.name, "color": c.color} for c in fitted.classes],
        "quantity": fitted.quantity.to_dict() if fitted.quantity is not None else None,
        "window": fitted.window,
        "coordinates": fitted.coordinates,
        "temperature": fitted.temperature,
        "weights_sha256": fitted.sha256,
        "provenance": fitted.provenance,
    }


def _card(fitted: FittedModel) -> str:
    contract = fitted.contract
    lines = [
        f"# {fitted.model.config.architecture}, fine-tuned: "
        + (str(fitted.quantity) if fitted.quantity is not None else ", ".join(c.name for c in fitted.classes)),
        "",
        f"Input: {', '.join(contract.bands)}; reflectance x {contract.scale:g}"
        + (f", {contract.level}" if contract.level else "")
        + (f", {contract.resolution:g} m" if contract.resolution else "")
        + f"; windows of {fitted.window} pixels.",
        "",
        "Use: `prithvi map THIS_FOLDER SCENE -o DIR`, or `prithvi.load(THIS_FOLDER)` in Python.",
        "",
        "| how it was made | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in fitted.provenance.items()),
    ]
    return "\n".join(lines) + "\n"


def open_folder(folder: str | Path) -> FittedModel:
    """The model in a folder that `save` wrote.

    Raises:
        ConfigError: config.json is damaged or of another version.
        CheckpointError: the weights do not fit it completely.

    """
    folder = Path(folder)
    plain = _read_json(folder / "config.json")
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
        model = Segmenter(config, outputs, plain["head"]["name"], plain["head"]["options"])
        fitted = FittedModel(
            model=model, contract=Contract.from_dict(plain["contract"]), classes=classes, head=plain["head"]["name"],
            head_options=plain["head"]["options"], window=plain["window"], coordinates=plain["coordinates"],
            temperature=float(plain.get("temperature", 1.0)),
            provenance=plain.get("provenance", {}), sha256=_sha256(folder / "model.safetensors"),
            task=plain.get("task", "segmentation"), quantity=quantity, folder=str(folder),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{folder}/config.json is not complete: {type(error).__name__} {error}.") from error
    except ValueError as error:
        if isinstance(error, PrithviError):
            raise
        raise ConfigError(f"{folder}/config.json holds a value that does not fit: {error}.") from error
    if (
        not isinstance(fitted.window, int)
        or fitted.window < 1
        or [c.value for c in classes] != list(range(len(classes)))
    ):
        raise ConfigError(
            f"{folder}/config.json: window must be a number of pixels, and class values 0, 1, 2 in order."
        )
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
        source: a name (`prithvi models list`), a hub id (owner/name), a weights file, a checkpoint of TerraTorch's
            segmentation task, a program that `prithvi export` wrote (.pt2), or a folder: one that `prithvi fit` wrote,
            or one with a published config.json and its weights.
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
    path = Path(source)
    if (path / "config.json").is_file() and _read_json(path / "config.json").get("format") == FORMAT:
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
    found, weights = _find(str(source), architecture, revision)
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
    path = Path(source)
    if (path / "config.json").is_file() and _read_json(path / "config.json").get("format") == FORMAT:
        return Contract.from_dict(_read_json(path / "config.json")["contract"])
    return _find(source, architecture, None)[0].contract


def record_of(source: str) -> dict[str, Any]:
    """The training record in a pretrained model's folder; empty where there is none."""
    path = Path(source) / "config.json"
    return dict(_read_json(path).get("training", {})) if path.is_file() else {}


def load_weights(model: PrithviMAE | PrithviEncoder, source: str, new_bands: bool = False) -> checkpoint.LoadReport:
    """Loads the weights of a source (see `load`) into a model of the same shape, and says what fitted.

    Args:
        model: an autoencoder, or an encoder alone.
        source: see `load`.
        new_bands: allow bands that the weights do not know, with the model's random weights.

    Raises:
        CheckpointError, ModelError, HubError: see `load`.

    """
    path = Path(source)
    if path.is_dir() and (path / "model.safetensors").is_file():
        plain = _read_json(path / "config.json")
        named = {key: value for key, value in plain.items() if key in ("architecture", "pretrained_cfg")}
        bands = ModelConfig.from_dict(named).bands
        return checkpoint.load(model, path / "model.safetensors", file_bands=bands, new_bands=new_bands)
    config, weights = _find(source, model.config.architecture, None)
    return checkpoint.load(model, weights, file_bands=config.bands, new_bands=new_bands)


def _find(source: str, architecture: str | None, revision: str | None) -> tuple[ModelConfig, Path]:
    """The configuration and the weights file of a source; see `load`."""
    path = Path(source)
    if path.is_file():
        if architecture is None:
            raise ModelError(
                f"{path} holds weights but not their shape: say architecture= (a name of 'prithvi models list')."
            )
        return _variant_config(architecture), path
    if path.is_dir():
        files = [
            file for file in sorted(path.iterdir()) if file.suffix in (".pt", ".pth", ".bin", ".safetensors", ".ckpt")
        ]
        if len(files) != 1:
            found = (
                f"several weights files ({', '.join(file.name for file in files)}); name one of them"
                if files
                else "no weights file"
            )
            raise CheckpointError(f"{path} holds {found}.")
        if architecture is not None and not (path / "config.json").is_file():
            return _variant_config(architecture), files[0]
        return _published_config(path / "config.json", architecture), files[0]
    known = VARIANTS.get(source) or next((v for v in VARIANTS.values() if v.hub_id == source), None)
    if known is not None:
        shipped = Path(__file__).parent / "weights" / source
        if known.hub_id is None and (shipped / "config.json").is_file():
            return _published_config(shipped / "config.json", None), shipped / "model.safetensors"
        if known.hub_id is None or known.filename is None:
            raise ModelError(
                f"no weights of {source} are published: prithvi.models.build({source!r}) makes one with random weights."
            )
        return known.config, hub.fetch(known.hub_id, known.filename, revision)
    if source.count("/") == 1 and not source.startswith((".", "/")):
        config = _published_config(hub.fetch(source, "config.json", revision), architecture)
        return config, hub.fetch(source, "model.safetensors", revision)
    raise ModelError(f"there is no model, file, folder or hub id {source!r}: {nearest(source, VARIANTS)}")


def _variant_config(name: str) -> ModelConfig:
    from prithvi.models.zoo import variant

    return variant(name).config


def _published_config(path: Path, architecture: str | None) -> ModelConfig:
    """A config.json over the defaults of the variant it names."""
    plain = _read_json(path)
    name = architecture or plain.get("architecture")
    if name is None:
        raise ModelError(f"{path} does not say its architecture: say architecture= (a name of 'prithvi models list').")
    try:
        told = ModelConfig.from_dict({**plain, "architecture": name}).to_dict()
        given = set(plain.get("pretrained_cfg", plain)) | {"architecture"}
    except (TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{path} holds a value of another kind than its field: {error}.") from error
    return ModelConfig.from_dict(
        {**_variant_config(str(name)).to_dict(), **{k: v for k, v in told.items() if k in given}}
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path.parent} holds no {path.name}.")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} holds a {type(plain).__name__}, not a table.")
    return plain


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
