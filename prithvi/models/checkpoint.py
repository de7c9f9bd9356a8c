"""Weights files in every layout in use, read without executing code and loaded completely or not at all.

Layouts: version 1 with flat names, version 2 with `encoder.` and `decoder.` prefixes, either of them nested under
`model` or `state_dict`; Lightning checkpoints of this package and of TerraTorch; safetensors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prithvi.bands import check_names
from prithvi.errors import MALFORMED, CheckpointError, ConfigError, first_line
from prithvi.files import refuse_inflated
from prithvi.models.branch import channels_of
from prithvi.models.config import ModelConfig
from prithvi.models.encoder import Encoder, PrithviEncoder
from prithvi.models.mae import PrithviMAE
from prithvi.models.segmenter import Segmenter


class InertName(str):
    """Stand-in for an enum member of another package in a checkpoint's hyper-parameters; keeps only its value."""


class InertRecord:
    """Stand-in for a plain record of another package, such as the options of an auxiliary head."""


# TerraTorch checkpoints pickle instances of these classes among their hyper-parameters. Mapping the names to inert
# stand-ins lets torch's weights_only unpickler accept the files without importing TerraTorch.
_ENUMS = ("HLSBands", "OpticalBands", "SARBands")
_STAND_INS: list[Any] = [(InertName, f"terratorch.datasets.{part}{name}") for part in ("utils.", "") for name in _ENUMS]
_STAND_INS.append((InertRecord, "terratorch.models.model.AuxiliaryHead"))


@dataclass
class LoadReport:
    """How every tensor of a file and every parameter of a model was treated."""

    source: str
    matched: list[str] = field(default_factory=list)
    """Tensors loaded unchanged."""
    mapped: list[str] = field(default_factory=list)
    """Tensors whose bands were selected or reordered by name."""
    recomputed: list[str] = field(default_factory=list)
    """Position codes of a different grid, recomputed for the model's grid."""
    fresh: list[str] = field(default_factory=list)
    """Newly initialised parameters: bands that the caller allowed, and what published files have not:
    the gate of `blend_fill` and the per-pixel branch."""
    unused: list[str] = field(default_factory=list)
    """Tensors that this model does not need, such as the decoder when only an encoder is loaded."""
    left_over: list[str] = field(default_factory=list)
    """Unexpected tensors of the file, which match no parameter."""
    missing: list[str] = field(default_factory=list)
    """Parameters of the model that the file lacks."""
    wrong_shape: list[str] = field(default_factory=list)
    """Tensors whose shape differs from the parameter's, with both shapes."""

    @property
    def complete(self) -> bool:
        """Whether no tensor is missing, left over or of the wrong shape."""
        return not (self.left_over or self.missing or self.wrong_shape)

    def compare(self, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Notes which parameters (`own`) the tensors that were found match, and which are missing or left over."""
        treated = {entry.partition(" ")[0] for entry in (*self.mapped, *self.recomputed, *self.fresh)}
        for name, parameter in own.items():
            if name not in found:
                self.missing.append(name)
            elif found[name].shape != parameter.shape:
                self.wrong_shape.append(f"{name} {tuple(found[name].shape)} for {tuple(parameter.shape)}")
            elif name not in treated:
                self.matched.append(name)
        self.left_over += [name for name in found if name not in own]

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
        CheckpointError: the file is missing or damaged, holds objects other than tensors and plain values, or is not
            a Prithvi model.

    """
    path, content = Path(path), _content_of(Path(path))
    hyper = content.get("hyper_parameters") or content.get("prithvi") or {}
    tensors: Mapping[str, Any] = content
    for key in ("state_dict", "model"):
        if isinstance(tensors.get(key), Mapping):
            tensors = tensors[key]
    state = {str(key): value for key, value in tensors.items() if isinstance(value, Tensor)}
    return _published_names(state, path), dict(hyper)


def _content_of(path: Path) -> Mapping[str, Any]:
    """What a weights file holds, by name."""
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a table of named tensors.")
    return content


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


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: the file is missing, damaged or truncated.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): fetch it again.") from error


# What torch and its unpickler stumble over in a file that is not whole.
_DAMAGE = (RuntimeError, EOFError, OSError, AssertionError, MemoryError, struct.error, *MALFORMED)


def _read_pickle(path: Path) -> Any:
    import pickle

    refuse_inflated(path, CheckpointError)  # torch would unpack whatever it holds into memory
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
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is damaged or cut short ({first_line(error)}): fetch it again.") from error


def _published_names(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Renames tensors of any known layout to `encoder.*` and `decoder.*`; all others get the prefix `other.`."""
    # Layouts differ in their prefixes, so prefixes are found rather than listed: every encoder has exactly one
    # cls_token and every decoder one mask_token, and whatever precedes those words is the prefix. Three cases follow:
    # - separate prefixes (version 2: `encoder.`, `decoder.`): each key goes by its prefix;
    # - nested prefixes (an encoder inside of the decoder's prefix): the longer prefix decides;
    # - one common prefix (version 1, flat): the decoder's tensors are recognised by "decoder", "_dec." or mask_token.
    plain = {re.sub(r"(^module\.|_timm_module\.|_orig_mod\.)", "", key): value for key, value in state.items()}
    # The branch of our own models lies beside the encoder; of a fine-tuned one in its head, and it may be all there is.
    plain = {re.sub(r"(^|\.)head\.branch\.", r"\1branch.", key): value for key, value in plain.items()}
    class_tokens = [key for key in plain if key.split(".")[-1] == "cls_token"]
    if not class_tokens and _BRANCH_INPUT in plain:
        return {key if key.startswith("branch.") else f"other.{key}": value for key, value in plain.items()}
    if len(class_tokens) != 1:
        raise CheckpointError(
            f"{path} holds {len(class_tokens)} class tokens (cls_token) among its {len(plain)} tensors; "
            "a Prithvi model has exactly one."
        )
    encoder = class_tokens[0].removesuffix("cls_token")
    mask_tokens = [key for key in plain if key.split(".")[-1] == "mask_token"]
    decoder = mask_tokens[0].removesuffix("mask_token") if mask_tokens else None
    root, named = encoder.removesuffix("encoder."), {}
    for key, value in plain.items():
        if key.startswith(tuple(root + part for part in _BESIDE)):
            named[key.removeprefix(root)] = value
        elif encoder != decoder and decoder is not None and key.startswith(decoder) and not encoder.startswith(key):
            inside = key.startswith(encoder) and len(encoder) > len(decoder)
            named[f"encoder.{key[len(encoder) :]}" if inside else f"decoder.{key[len(decoder) :]}"] = value
        elif key.startswith(encoder):
            name = key[len(encoder) :]
            of_decoder = "decoder" in name or "_dec." in name or name == "mask_token"
            named[f"decoder.{name}" if of_decoder and encoder == decoder else f"encoder.{name}"] = value
        else:
            named[f"other.{key}"] = value
    return named


def weight_bytes(module: nn.Module) -> Iterator[bytes]:
    """Names and values of all weights in the order of their names, for a digest."""
    for name, values in sorted(module.state_dict().items()):
        yield name.encode()
        yield values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def load(
    model: PrithviMAE | PrithviEncoder | Segmenter,
    path: str | Path,
    file_bands: Sequence[str] | None = None,
    new_bands: bool = False,
) -> LoadReport:
    """Loads a weights file into a model, completely or not at all.

    Args:
        model: an autoencoder, or an encoder alone (then the file's decoder and heads are not needed); or an encoder
            with its head, whose per-pixel branch is loaded too if both have one.
        path: the weights file.
        file_bands: common names of the bands the file was trained on, used if the file does not record them; default
            the model's bands.
        new_bands: whether bands that the file lacks may keep the model's random weights.

    Raises:
        CheckpointError: the file cannot be read or does not fit; the model is then unchanged.

    """
    # Every parameter of the model is looked up in the file: taken as it is, or with its bands rearranged by name, or
    # (position codes, which are computed and not learned) kept as the model has it for its own grid. All results are
    # collected before the model is touched, so that a file that does not fit leaves it unchanged.
    state, hyper = read(path)
    config = model.config
    file_bands = _stated_bands(hyper) or file_bands
    parts = _parts_of(model)
    wanted = {f"{prefix}{key}": value for prefix, part in parts.items() for key, value in part.state_dict().items()}
    known = check_names(file_bands) if file_bands is not None else config.bands
    fresh = [band for band in config.bands if band not in known]
    if fresh and not new_bands:
        raise CheckpointError(
            f"{path} was trained on {', '.join(known)} and has no weights for {', '.join(fresh)}: leave them out, or "
            "let them begin with random weights (new_bands=True; --model.new_bands true of prithvi fit)."
        )
    report = LoadReport(str(path), fresh=fresh)
    for key, own in wanted.items():
        if key not in state:
            # Published files have no gate and no branch; newly initialised, a gate leaves interpolation as it is, and a
            # correction is 0.
            if key in _GATE or key.startswith(_BESIDE):
                state[key] = own
                report.fresh.append(key)
        elif key in _BY_BAND and known != config.bands:
            state[key] = _map_bands(key, state[key], own, known, config.bands, report)
        elif key == _BRANCH_INPUT and known != config.bands:
            inputs = channels_of(known), channels_of(config.bands)
            state[key] = _map_bands(key, state[key], own, *inputs, report)
        elif key.endswith("pos_embed") and state[key].shape != own.shape and state[key].shape[-1] == own.shape[-1]:
            state[key] = own
            report.recomputed.append(key)
    for key in list(state):
        if key not in wanted and (key.startswith((*_GATE, *_BESIDE)) or not key.startswith(tuple(parts))):
            report.unused.append(key)
            del state[key]
    report.compare(wanted, state)
    if not report.complete:
        raise CheckpointError(f"{path} does not fit {config.architecture}, and nothing was loaded: {report}.")
    for prefix, part in parts.items():
        part.load_state_dict({key.removeprefix(prefix): state[key] for key in wanted if key.startswith(prefix)})
    return report


def load_guest(encoder: Encoder, path: str | Path) -> LoadReport:
    """Loads published weights of another project, or fine-tuned ones, into its encoder: all of them or none.

    Raises:
        CheckpointError: the file cannot be read or does not fit; the encoder is then unchanged.

    """
    path, content = Path(path), _content_of(Path(path))
    found = encoder.own_state({str(key): value for key, value in content.items() if isinstance(value, Tensor)})
    report = LoadReport(str(path))
    report.compare(encoder.state_dict(), found)
    report.unused = ["tensors"] * (len(content) - len(found))
    if not report.complete:
        raise CheckpointError(f"{path} does not fit {encoder.config.architecture}, and nothing was loaded: {report}.")
    encoder.load_state_dict(found)
    return report


def _parts_of(model: PrithviMAE | PrithviEncoder | Segmenter) -> dict[str, nn.Module]:
    """Prefix of tensors in a file to the part of a model that they belong to."""
    if isinstance(model, PrithviMAE):
        return {"": model}
    if isinstance(model, PrithviEncoder):
        return {"encoder.": model}
    encoder, branch = model.encoder, getattr(model.head, "branch", None)
    found: dict[str, nn.Module] = {} if encoder is None else {"encoder.": encoder}
    return found if branch is None else {**found, "branch.": branch}


def _stated_bands(hyper: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Bands recorded in the hyper-parameters, by TerraTorch or by this package; None if there are none."""
    arguments, contract = hyper.get("model_args"), hyper.get("contract")
    named = arguments.get("backbone_bands") if isinstance(arguments, Mapping) else None
    if named is None and isinstance(contract, Mapping):
        named = contract.get("bands")
    return check_names([str(name) for name in named]) if isinstance(named, (list, tuple)) and named else None


_GATE = ("decoder.decoder_gate.weight", "decoder.decoder_gate.bias")
_CORRECTION = ("pixel_decoder.correct.weight", "pixel_decoder.correct.bias")
_BESIDE = ("branch.", "pixel_decoder.")
_BRANCH_INPUT = "branch.pixels.convolutions.0.weight"
_PREDICTION = ("decoder.decoder_pred.weight", "decoder.decoder_pred.bias")
_BY_BAND = ("encoder.patch_embed.proj.weight", *_PREDICTION, *_GATE, *_CORRECTION)


def _map_bands(
    key: str, value: Tensor, own: Tensor, known: Sequence[str], wanted: Sequence[str], report: LoadReport
) -> Tensor:
    """`value` with the file's bands in the model's order; new bands keep the model's weights (`own`)."""
    in_embedding = key.startswith(("encoder.", "branch."))
    if value.shape[1] != len(known) if in_embedding else value.shape[0] % len(known):
        return value  # other bands than stated: the caller reports a wrong shape
    result = own.clone()
    # The embedding (D, band, t, y, x) has its bands in axis 1. Outputs of the decoder run (t, y, x, band), so axis 0
    # splits into (pixel, band), and bands are again in axis 1.
    target = result if in_embedding else result.view(-1, len(wanted), *own.shape[1:])
    source = value if in_embedding else value.reshape(-1, len(known), *value.shape[1:])
    if target.shape[0] != source.shape[0] or target.shape[2:] != source.shape[2:]:
        return value
    for place, band in enumerate(wanted):
        if band in known:
            target[:, place] = source[:, list(known).index(band)]
    report.mapped.append(f"{key} from {len(known)} to {len(wanted)} bands")
    return result
