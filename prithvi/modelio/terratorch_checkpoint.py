"""Fine-tunes made with TerraTorch: a Lightning checkpoint and the YAML it was trained with, as a `Predictor`.

The checkpoint says the model (`model_args`) and holds its weights; bands, means and stds are in the YAML's data module
alone. Nothing of it is guessed and no weight is left out: what is not known here is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from prithvi.contract import Contract
from prithvi.errors import CheckpointError, ConfigError, ModelError, nearest
from prithvi.files import sha256_once
from prithvi.modelio.predictor import Predictor, class_entries
from prithvi.modelio.terratorch_config import Given, TerraTorchRun, class_name, find_run
from prithvi.models import VARIANTS, Segmenter
from prithvi.models.checkpoint import LoadReport
from prithvi.models.zoo import configure

State = Mapping[str, Tensor]
FACTORIES = ("EncoderDecoderFactory", "PrithviModelFactory")
_OLD_NAMES = {"bands": "backbone_bands", "in_channels": "backbone_in_chans", "num_frames": "backbone_num_frames",
              "pretrained": "backbone_pretrained"}  # fmt: skip
_SHAPE = ("embed_dim", "depth", "num_heads", "mlp_ratio", "patch_size", "coords_encoding", "coords_scale_learn")
_PYRAMID = re.compile(r"head\.(?:decoder|neck\.\d+)\.(fpn[1-4]\..+)")
"""The pyramid's weights: up to TerraTorch 1.2.11 in UperNetDecoder (`scale_modules`) or in a neck, since 1.2.12 in a
neck alone. A file may say the one and hold the other, for published ones were written anew."""
_NEEDED = ("neck", "decoder", "head")
_OF_TRAINING = ("pretrained", "ckpt_path", "pretrained_bands", "new_bands", "drop_path", "padding", "in_chans")


def is_fine_tune(hyper: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's hyper-parameters are those of one of TerraTorch's tasks."""
    return isinstance(hyper.get("model_args"), Mapping) and "model_factory" in hyper


def open_fine_tune(
    path: Path, state: State, hyper: Mapping[str, Any], config: str | Path | None, given: Given
) -> Predictor:
    """A fine-tuned segmentation model of TerraTorch's with all of its weights, in evaluation mode.

    Args:
        path: the checkpoint.
        state: its tensors, as `prithvi.models.checkpoint.read` names them.
        hyper: its hyper-parameters; where it has none, the YAML says the model.
        config: the YAML it was trained with; default the one beside it, or above its `checkpoints` folder.
        given: what the files do not say.

    Raises:
        CheckpointError: a task, factory, backbone, neck or decoder that is not known here, weights that do not fit
            completely, or statistics that no file says.
        ConfigError: a YAML that is damaged, or of another model.
        MissingExtraError: TerraTorch, whose decoders are used, is not installed.

    """
    run = find_run(path, config)
    hyper = hyper if is_fine_tune(hyper) else run.task_options
    if not is_fine_tune(hyper):
        raise CheckpointError(f"{path} does not say its model: pass config= (the YAML it was made with).")
    _refuse_other_tasks(path, hyper, run)
    arguments = _arguments(path, hyper)
    asked = run.task_options.get("model_args")
    for key in ("backbone", "decoder", "num_classes"):
        if isinstance(asked, Mapping) and key in asked and asked[key] != arguments[key]:
            raise ConfigError(f"{run.file} is of another model than {path}: {key} {asked[key]}, not {arguments[key]}.")
    contract = run.contract(path, arguments.get("backbone_bands"), given)
    model, head, options = _model(path, arguments, contract)
    report = _load(path, model, state)
    names = [str(name) for name in hyper.get("class_names") or run.classes(arguments["num_classes"])]
    if len(names) != arguments["num_classes"]:
        raise CheckpointError(f"{path} has {arguments['num_classes']} classes and the class_names {', '.join(names)}.")
    pair = 2 * model.config.patch_size[1]  # to whose multiples TerraTorch pads
    return Predictor.fine_tuned(
        model.eval(), contract, head=head, head_options=options,
        classes=class_entries(names, values=run.values(len(names))),
        window=math.ceil(run.side(model.config.img_size[0]) / pair) * pair,
        coordinates=bool(run.data_options.get("use_metadata")) and bool(model.config.coords_encoding),
        provenance={
            "made with": "TerraTorch", "file": path.name, "configuration": run.file.name if run.file else "none",
            "data module": run.data or "not known", "weights": str(report),
        },
        sha256=sha256_once(path),
    )  # fmt: skip


def _refuse_other_tasks(path: Path, hyper: Mapping[str, Any], run: TerraTorchRun) -> None:
    name = class_name(hyper.get("_class_path")) or run.task
    if not name and not {"class_names", "tiled_inference_parameters"} <= set(hyper):  # made in Python, not by the CLI
        name = "another task"
    if name not in ("", "SemanticSegmentationTask"):
        raise CheckpointError(f"{path} is of {name}; of TerraTorch's tasks SemanticSegmentationTask alone opens here.")
    if hyper["model_factory"] not in FACTORIES:
        raise CheckpointError(
            f"{path} is of the model factory {hyper['model_factory']}; known here are {' and '.join(FACTORIES)}."
        )


def _arguments(path: Path, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """`model_args` in plain values under EncoderDecoderFactory's names."""
    plain: dict[str, Any] = _plain(hyper["model_args"])
    if hyper["model_factory"] == "PrithviModelFactory":
        plain = {_OLD_NAMES.get(key, key): value for key, value in plain.items()}
    for part in ("backbone", "decoder", "head"):
        plain |= {f"{part}_{key}": value for key, value in (plain.pop(f"{part}_kwargs", None) or {}).items()}
    for key in ("backbone", "decoder", "num_classes"):
        if key not in plain:
            raise CheckpointError(f"{path}: its model_args lack {key}, so that its model is not known.")
    if not isinstance(plain["num_classes"], int) or plain["num_classes"] < 2:
        raise CheckpointError(f"{path} has num_classes {plain['num_classes']}; two or more are wanted.")
    return plain


def _plain(value: Any) -> Any:
    """Lists for tuples and strings for the inert stand-ins of enums, so that JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, str) else value


def _parts(arguments: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments with that prefix, without it, and all others."""
    own = {key.removeprefix(prefix): value for key, value in arguments.items() if key.startswith(prefix)}
    return own, {key: value for key, value in arguments.items() if not key.startswith(prefix)}


def _model(path: Path, arguments: Mapping[str, Any], contract: Contract) -> tuple[Segmenter, str, dict[str, Any]]:
    """The model with random weights, the name of its head and the options of that."""
    shape, rest = _parts(arguments, "backbone_")
    decoder, rest = _parts(rest, "decoder_")
    head, rest = _parts(rest, "head_")
    name = str(rest.pop("backbone")).removeprefix("terratorch_")
    variant = f"prithvi_{name.removeprefix('hlsvit_')}" if name.startswith("hlsvit_") else name
    if variant not in VARIANTS:
        raise CheckpointError(f"{path} has the backbone {name!r}: {nearest(variant, VARIANTS)}")
    known = {*_SHAPE, *_OF_TRAINING, "bands", "num_frames", "img_size", "out_indices"}
    unknown = {f"backbone_{key}": value for key, value in shape.items() if key not in known}
    unknown |= {key: value for key, value in rest.items() if key not in ("decoder", "num_classes", "necks", "rescale")}
    for key, value in unknown.items():
        if value not in (None, False):
            raise CheckpointError(f"{path} was made with {key} ({value}), which is not supported here.")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in shape.items() if key in _SHAPE}
    factor = 10_000.0 / contract.scale
    try:
        config = configure(
            variant, shape.get("num_frames", 1), shape.get("img_size"), contract.bands,
            mean=tuple(value * factor for value in contract.mean), std=tuple(value * factor for value in contract.std),
            **fields,
        )  # fmt: skip
        title = str(rest["decoder"]).removeprefix("terratorch_")
        if not title.endswith("Decoder") and not title.startswith("smp_"):
            title = f"smp_{title}"  # TerraTorch looks for a name without its source there too
        options = {**decoder, **{f"head_{key}": value for key, value in head.items()}}
        options |= _layers(rest.get("necks") or [], shape.get("out_indices") or list(range(config.depth)))
        return Segmenter(config, rest["num_classes"], title, options), title, options
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _layers(necks: list[dict[str, Any]], given: list[int]) -> dict[str, Any]:
    """Which blocks the necks or, without any, the decoder gets: all that the backbone gives, unless a neck selects."""
    for number, neck in enumerate(necks):
        if neck.get("name") == "SelectIndices":
            chosen = {**neck, "indices": [given[index] for index in neck["indices"]]}
            return {"necks": [*necks[:number], chosen, *necks[number + 1 :]]}
    return {"indices": given, "necks": necks}


def _load(path: Path, model: Segmenter, state: State) -> LoadReport:
    """Every weight of encoder, neck, decoder and head, or an error; auxiliary heads served the training alone."""
    prefix = "other.model." if any(key.startswith("other.model.") for key in state) else "other."
    report, found = LoadReport(str(path)), {}
    own = model.state_dict()
    named = {key: key if key.startswith("encoder.") else f"head.{key.removeprefix(prefix)}" for key in state}
    free = {match[1]: name for name in own.keys() - set(named.values()) if (match := _PYRAMID.fullmatch(name))}
    for key, value in state.items():
        name, part = named[key], named[key].split(".")[1]
        if name not in own and (match := _PYRAMID.fullmatch(name)) and match[1] in free:
            name = free.pop(match[1])
            report.mapped.append(name)
        if name in own or name.startswith("encoder.") or (key.startswith(prefix) and part in _NEEDED):
            found[name if name in own else key] = value
        else:
            report.unused.append(key)
    report.compare(own, found)
    if not report.complete:
        raise CheckpointError(f"{path} does not fit the model it says it is, and nothing was loaded: {report}.")
    model.load_state_dict(found)
    return report
