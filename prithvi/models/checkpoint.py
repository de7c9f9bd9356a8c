"""Weights files in every layout in use, read without running code and loaded completely or not at all.

Layouts: version 1 with flat names, version 2 with `encoder.` and `decoder.`, either nested under
`model` or `state_dict`, Lightning checkpoints of ours and of TerraTorch's, safetensors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prithvi.bands import check_names
from prithvi.errors import CheckpointError
from prithvi.models.encoder import PrithviEncoder
from prithvi.models.mae import PrithviMAE


class InertName(str):
    """Stands in for an enum member of another package in a checkpoint's hyper-parameters: its value, no more."""


class InertRecord:
    """Stands in for a plain record of another package, such as an auxiliary head's options."""


_STAND_INS: list[Any] = [
    (InertRecord, "terratorch.models.model.AuxiliaryHead"),
    *(
        (InertName, f"terratorch.datasets.{module}{enum}")
        for module in ("utils.", "")
        for enum in ("HLSBands", "OpticalBands", "SARBands")
    ),
]


@dataclass
class LoadReport:
    """What became of every tensor of a file and of every parameter of the model."""

    source: str
    matched: list[str] = field(default_factory=list)
    """Loaded as they are."""
    mapped: list[str] = field(default_factory=list)
    """Loaded in part or in another order, by band name, or under another name."""
    recomputed: list[str] = field(default_factory=list)
    """Position codes of another grid, computed for this one."""
    fresh: list[str] = field(default_factory=list)
    """What the file does not know and starts anew: bands that the caller allowed, and the gate of `blend_fill`."""
    unused: list[str] = field(default_factory=list)
    """Parts of the file that this model has no use for, such as the decoder when only an encoder was asked for."""
    left_over: list[str] = field(default_factory=list)
    """Tensors of the file that should have fitted somewhere and did not."""
    missing: list[str] = field(default_factory=list)
    """Parameters of the model that the file lacks."""
    wrong_shape: list[str] = field(default_factory=list)
    """Tensors whose shape differs, with both shapes."""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, left over or misshapen."""
        return not (self.left_over or self.missing or self.wrong_shape)

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} tensors matched"]
        for name in ("mapped", "recomputed", "fresh", "missing", "wrong_shape", "left_over"):
            entries: list[str] = getattr(self, name)
            if entries:
                shown = ", ".join(entries[:6]) + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")
                lines.append(f"{len(entries)} {name.replace('_', ' ')} ({shown})")
        if self.unused:
            lines.append(f"{len(self.unused)} not needed")
        return "; ".join(lines)


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a weights file under their version 2 names, and its hyper-parameters (empty if it has none).

    Raises:
        CheckpointError: missing, damaged, holding anything but tensors and plain values, or no Prithvi model.

    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a table of named tensors.")
    hyper = content.get("hyper_parameters") or content.get("prithvi") or {}
    tensors: Mapping[str, Any] = content
    for key in ("state_dict", "model"):
        if isinstance(tensors.get(key), Mapping):
            tensors = tensors[key]
    state = {str(key): value for key, value in tensors.items() if isinstance(value, Tensor)}
    return _published_names(state, path), dict(hyper)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is not there, damaged or cut short.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): fetch it again.") from error


def _read_pickle(path: Path) -> Any:
    import pickle

    try:
        with torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise CheckpointError(f"{path} is not a weights file that torch can read: fetch it again.") from error
        raise CheckpointError(
            f"{path} holds {found.group(1)}, which is code and not weights; it was not run. Ask its author for a "
            "safetensors file or a plain state_dict."
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        struct.error,
    ) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({_first_line(error)}): fetch it again.") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _published_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Any known naming to `encoder.*` and `decoder.*`; what belongs to neither keeps its name under `other.`."""
    plain = {re.sub(r"(^module\.|_timm_module\.|_orig_mod\.)", "", key): value for key, value in state.items()}
    class_tokens = [key for key in plain if key.split(".")[-1] == "cls_token"]
    if len(class_tokens) != 1:
        raise CheckpointError(
            f"{path} holds {len(class_tokens)} class tokens (cls_token) among its {len(plain)} tensors; "
            "a Prithvi model has exactly one."
        )
    encoder = class_tokens[0].removesuffix("cls_token")
    mask_tokens = [key for key in plain if key.split(".")[-1] == "mask_token"]
    decoder = mask_tokens[0].removesuffix("mask_token") if mask_tokens else None
    named = {}
    for key, value in plain.items():
        if encoder != decoder and decoder is not None and key.startswith(decoder) and not encoder.startswith(key):
            inside = key.startswith(encoder) and len(encoder) > len(decoder)
            named[f"encoder.{key[len(encoder) :]}" if inside else f"decoder.{key[len(decoder) :]}"] = value
        elif key.startswith(encoder):
            name = key[len(encoder) :]
            of_decoder = "decoder" in name or "_dec." in name or name == "mask_token"
            named[f"decoder.{name}" if of_decoder and encoder == decoder else f"encoder.{name}"] = value
        else:
            named[f"other.{key}"] = value
    return named


def load(
    model: PrithviMAE | PrithviEncoder,
    path: str | Path,
    file_bands: Sequence[str] | None = None,
    new_bands: bool = False,
) -> LoadReport:
    """Loads a weights file into a model, completely or not at all.

    Args:
        model: a whole autoencoder, or an encoder alone (then the file's decoder and heads are not needed).
        path: the file.
        file_bands: common names of the bands the file was trained on, where it does not say so itself; default the
            model's own bands.
        new_bands: whether bands that the file lacks may start from the model's random weights.

    Raises:
        CheckpointError: the file cannot be read or does not fit; the model is then as it was.

    """
    state, hyper = read(path)
    config = model.config
    file_bands = _stated_bands(hyper) or file_bands
    whole = isinstance(model, PrithviMAE)
    wanted = model.state_dict() if whole else {f"encoder.{key}": value for key, value in model.state_dict().items()}
    known = check_names(file_bands) if file_bands is not None else config.bands
    fresh = [band for band in config.bands if band not in known]
    if fresh and not new_bands:
        raise CheckpointError(
            f"{path} was trained on {', '.join(known)} and has no weights for {', '.join(fresh)}: leave them out, or "
            "allow new random weights for them (new_bands=True)."
        )
    report = LoadReport(str(path))
    report.fresh = fresh
    loaded: dict[str, Tensor] = {}
    for key, own in wanted.items():
        if key not in state:
            if key in _GATE:  # of ours alone: a published file has none, and a fresh one leaves filling as it is
                loaded[key] = own
                report.fresh = [*report.fresh, key]
            else:
                report.missing.append(key)
            continue
        value = state[key]
        if known != config.bands and key in _BY_BAND:
            value = _map_bands(key, value, own, known, config.bands, report)
        if value.shape == own.shape:
            loaded[key] = value
            if not any(entry.startswith(f"{key} ") for entry in report.mapped):
                report.matched.append(key)
        elif key.endswith("pos_embed") and value.shape[-1] == own.shape[-1]:
            loaded[key] = own
            report.recomputed.append(key)
        else:
            report.wrong_shape.append(f"{key} {tuple(value.shape)} for {tuple(own.shape)}")
    for key in state:
        if key not in wanted:
            unused = (not whole and not key.startswith("encoder.")) or key in _GATE
            (report.unused if unused else report.left_over).append(key)
    if not report.complete:
        raise CheckpointError(f"{path} does not fit {config.architecture}, and nothing was loaded: {report}.")
    model.load_state_dict(loaded if whole else {key.removeprefix("encoder."): value for key, value in loaded.items()})
    return report


def _stated_bands(hyper: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Bands in the hyper-parameters of TerraTorch's checkpoints and of ours; None where they say none."""
    arguments, contract = hyper.get("model_args"), hyper.get("contract")
    named = arguments.get("backbone_bands") if isinstance(arguments, Mapping) else None
    if named is None and isinstance(contract, Mapping):
        named = contract.get("bands")
    return check_names([str(name) for name in named]) if isinstance(named, (list, tuple)) and named else None


_GATE = ("decoder.decoder_gate.weight", "decoder.decoder_gate.bias")
_BY_BAND = ("encoder.patch_embed.proj.weight", "decoder.decoder_pred.weight", "decoder.decoder_pred.bias", *_GATE)


def _map_bands(
    key: str, value: Tensor, own: Tensor, known: Sequence[str], wanted: Sequence[str], report: LoadReport
) -> Tensor:
    """`value` with the bands of the file laid out in the model's order; bands that are new keep the model's weights."""
    in_embedding = key.startswith("encoder.")
    if (value.shape[1] if in_embedding else value.shape[0]) % len(known) or (
        in_embedding and value.shape[1] != len(known)
    ):
        return value  # not the bands that were said: reported as a wrong shape
    result = own.clone()
    # Patch values of the decoder run (t, y, x, band); the embedding has its bands in axis 1.
    target = result if in_embedding else result.view(-1, len(wanted), *own.shape[1:])
    source = value if in_embedding else value.reshape(-1, len(known), *value.shape[1:])
    if target.shape[0] != source.shape[0] or target.shape[2:] != source.shape[2:]:
        return value
    for place, band in enumerate(wanted):
        if band in known:
            target[:, place] = source[:, list(known).index(band)]
    report.mapped.append(f"{key} from {len(known)} to {len(wanted)} bands")
    return result
