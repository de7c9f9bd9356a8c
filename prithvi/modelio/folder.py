"""A whole model as one folder: weights, shape, contract, classes, where it came from.

model.safetensors   encoder.* and head.*
config.json         everything else; `format` names the version of this layout
metrics.json        metrics that were measured, of a fine-tuned model
README.md           the same for people, with the hub's metadata (prithvi/modelio/card.py)
item.json           the same for catalogs: a STAC item (prithvi/modelio/item.py)

A model on the hub is such a folder; `owner/name` and `owner/name@revision` stand for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prithvi.contract import Contract, Quantity
from prithvi.errors import CheckpointError, ConfigError, ModelError, OutputError, PrithviError, first_line
from prithvi.files import atomic_folder, dumps, read_json, sha256_once
from prithvi.modelio.card import figures_of, fitted_card, pretrained_card
from prithvi.modelio.item import fitted_item, pretrained_item
from prithvi.modelio.model_files import FORMAT, WEIGHTS, refuse_other_weights
from prithvi.modelio.predictor import ClassEntry, Predictor
from prithvi.models import PrithviMAE, Segmenter, checkpoint
from prithvi.models.config import ModelConfig


def save(fitted: Predictor, folder: str | Path) -> Path:
    """Writes a fine-tuned model; an older folder of that name is replaced only when the new one is whole.

    Raises:
        OutputError: the folder cannot be written, or is there and holds something else.
        ModelError: an exported program or a module of another kind, which has no model folder.

    """

    def texts(digest: str) -> dict[str, str]:
        fitted.sha256 = digest
        figures = figures_of(fitted.provenance)
        return {
            "config.json": dumps(_config(fitted), indent=2),
            **({"metrics.json": dumps(figures, indent=2)} if figures else {}),
            "README.md": fitted_card(fitted),
            "item.json": dumps(fitted_item(fitted), indent=2),
        }

    return _write(Path(folder), fitted.model, texts)


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

    def texts(digest: str) -> dict[str, str]:
        config = {
            "architecture": model.config.architecture, "num_features": model.config.embed_dim,
            "pretrained_cfg": _shape(model.config), "weights_sha256": digest, "training": training,
        }  # fmt: skip
        return {
            "config.json": dumps(config, indent=2),
            "README.md": pretrained_card(model, training, card),
            "item.json": dumps(pretrained_item(model, digest, training), indent=2),
        }

    return _write(Path(folder), model, texts)


def _write(folder: Path, model: Segmenter | PrithviMAE, texts: Callable[[str], dict[str, str]]) -> Path:
    """Writes weights and the texts that are made once their SHA-256 is known."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if folder.exists() and not (folder / "config.json").is_file():
        raise OutputError(f"{folder} is there and holds no model: choose another name.")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_folder(folder) as work:
        try:
            save_file(state, work / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # it tells neither which file nor by an error of the system
            raise OutputError(f"{folder} cannot be written ({first_line(error)}): is the disk full?") from error
        for name, text in texts(sha256_once(work / WEIGHTS)).items():
            (work / name).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        for file in work.iterdir():
            file.chmod(0o644)  # safetensors' writer keeps others from reading
    return folder


def _config(fitted: Predictor) -> dict[str, Any]:
    config, facts = fitted.model.config, fitted.facts()
    stated = ("contract", "classes", "quantity", "window", "coordinates", "temperature")
    return {
        "format": FORMAT,
        "task": fitted.task,
        "architecture": config.architecture,
        "pretrained_cfg": _shape(config),
        "head": {"name": fitted.head, "options": fitted.head_options},
        **{key: facts[key] for key in stated},
        "weights_sha256": fitted.sha256,
        "provenance": fitted.provenance,
    }


def _shape(config: ModelConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if key != "architecture"}


def open_folder(folder: str | Path) -> Predictor:
    """The model in a folder that `save` wrote, in evaluation mode.

    Raises:
        ConfigError: config.json is damaged or of another version.
        CheckpointError: the weights do not fit it completely, or are not the file that it names.

    """
    folder = Path(folder)
    plain, weights = read_json(folder / "config.json"), folder / WEIGHTS
    if plain.get("format") != FORMAT:
        raise ConfigError(
            f"{folder}/config.json has the format {plain.get('format')!r}; this version reads {FORMAT!r}."
        )
    with errors_of(folder):
        config = ModelConfig.from_dict({key: plain[key] for key in ("architecture", "pretrained_cfg")})
        classes = tuple(ClassEntry(**entry) for entry in plain["classes"])
        quantity = Quantity(**plain["quantity"]) if plain.get("quantity") else None
        window, head, options = plain["window"], plain["head"]["name"], plain["head"]["options"]
        if not isinstance(window, int) or not 1 <= window <= 10_000:
            raise ConfigError("window must be 1 to 10,000 pixels.")
        checkpoint.check_size(config, weights)
        model = Segmenter(config, 1 if quantity is not None else len(classes), head, options)
        fitted = Predictor.fine_tuned(
            model, Contract.from_dict(plain["contract"]), window=window, head=head, head_options=options,
            classes=classes, quantity=quantity, coordinates=plain["coordinates"],
            temperature=float(plain.get("temperature", 1.0)), provenance=plain.get("provenance", {}),
            task=plain.get("task", "segmentation"), folder=str(folder),
        )  # fmt: skip
    state, report = checkpoint.read_safetensors(weights), checkpoint.LoadReport(str(weights))
    report.compare(model.state_dict(), state)
    if not report.complete:
        raise CheckpointError(f"{weights} does not fit its config.json: {report}.")
    model.load_state_dict(state)
    fitted.sha256 = refuse_other_weights(weights, plain)
    model.eval()
    return fitted


@contextmanager
def errors_of(folder: Path) -> Iterator[None]:
    """Turns what a damaged config.json leads to into one sentence that names it."""
    file = f"{folder}/config.json"
    try:
        yield
    except (ConfigError, ModelError) as error:
        raise (error if file in str(error) else type(error)(f"{file}: {error}")) from error
    except PrithviError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(f"{file} is not complete: {type(error).__name__} {error}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} holds a value that does not fit: {error}.") from error
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(f"no model can be built after {file}: {first_line(error)}.") from error
