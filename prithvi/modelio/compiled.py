"""A model compiled by OpenVINO for windows of one shape, which is called as the model itself is.

The computation comes from torch.export, so that OpenVINO gets what `prithvi export` writes. What was compiled is kept
as a file in `.compiled` of the model's folder, or in the user's cache where that cannot be written:

WEIGHTS-SHAPE-PRECISION-openvinoVERSION-prithviVERSION-MACHINE.blob

OpenVINO imports a file whose bytes were changed without a word, and a file may come from somebody else. So a file is
used only if this user has made it on this machine under this very name, and is made again otherwise.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, local
from typing import Any

import torch
from torch import Tensor, nn

import prithvi
from prithvi.errors import ConfigError, ModelError, OutputError, PrithviError, first_line
from prithvi.files import atomic_file
from prithvi.modelio.predictor import Predictor, Scorer
from prithvi.modelio.program import Program, cache_folder, example_inputs, made_here, remember, shapes_of, traced

TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
"""How far scores may be from torch's in float32 for a model to be used: in float32 the largest difference, in parts of
the largest score; in bfloat16, which has eight binary digits and single pixels that are far off, that of root mean
squares."""
_HINT = {"float32": "f32", "bfloat16": "bf16"}
_FIRST_CALL = Lock()


def openvino_version() -> str:
    """Of the OpenVINO that is installed; empty without one."""
    return importlib.metadata.version("openvino") if importlib.util.find_spec("openvino") is not None else ""


def _openvino() -> Any:
    """The package, without its reports.

    By itself `import openvino` (2026.4.1) starts a process that tells a server of Google's of it, and numbers the user
    in `~/intel`, unless that user has opted out. Without `openvino_telemetry` it takes a stub of its own instead.

    The first two inferences of a process, begun at the same moment on two threads, can wait for each other for ever in
    its binding, which sets up its table of number types without letting go of Python's lock. So that is done here.
    """
    if "openvino" not in sys.modules:
        reports = {name: module for name, module in sys.modules.items() if name == "openvino_telemetry"}
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            importlib.import_module("openvino")
        finally:
            del sys.modules["openvino_telemetry"]
            sys.modules.update(reports)
    openvino = importlib.import_module("openvino")
    with _FIRST_CALL:
        openvino.Type.f32.to_dtype()
    return openvino


class Compiled(nn.Module):
    """A model's module by OpenVINO on the CPU, for windows of the model's size; any number of them, from any thread.

    It is compiled, or read from its file, when it is first called. A copy that was pickled compiles anew.

    Args:
        model: whose module.
        precision: `float32` or `bfloat16`.
        together: windows that are computed together; where fewer are left the rest is filled up.
        callers: threads that it is called from at once; each gets its part of the threads that torch has.

    """

    def __init__(self, model: Predictor, precision: str, together: int, callers: int = 1) -> None:
        super().__init__()
        self.source, self.precision, self.together, self.callers = model, precision, together, callers
        self.threads = torch.get_num_threads()
        self._begin()

    def _begin(self) -> None:
        self.lock, self.requests = Lock(), local()
        self.network: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("lock", "requests", "network")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.threads = torch.get_num_threads()
        self._begin()

    def ready(self) -> Compiled:
        """Itself, compiled.

        Raises:
            ModelError: OpenVINO cannot convert the model, or its scores are others than torch's.

        """
        with self.lock:
            if self.network is None:
                with torch.inference_mode(False), torch.no_grad():
                    self.network = _from_file(self) or _made(self)
        return self

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """See `Predictor.module`."""
        import numpy as np

        if self.network is None:
            self.ready()
        if not hasattr(self.requests, "own"):  # each thread has a request of its own, which holds its memory
            self.requests.own = self.network.create_infer_request()
        shapes = shapes_of(self.source)
        inputs = []
        # Of a model without dates and places these are passed over, as the module it was compiled from does.
        given = (images, temporal_coords, location_coords)[: len(shapes)]
        for value, shape in zip(given, shapes, strict=True):
            # NaN counts as unknown, as in an exported program.
            inputs.append(images.new_full((len(images), *shape), math.nan) if value is None else value)
            if inputs[-1].shape[1:] != shape:
                raise ModelError(f"this model was compiled for {shape} and is given {tuple(inputs[-1].shape[1:])}.")
        found = []
        for first in range(0, len(images), self.together):
            part = [value[first : first + self.together].to(torch.float32) for value in inputs]
            number = len(part[0])
            if number < self.together:
                part = [
                    torch.cat([value, value[:1].expand(self.together - number, *value.shape[1:])]) for value in part
                ]
            answer = self.requests.own.infer([value.contiguous().numpy() for value in part], share_inputs=True)[0]
            found.append(torch.from_numpy(np.array(answer[:number], np.float32)))
        return found[0] if len(found) == 1 else torch.cat(found)


def _settings(of: Compiled) -> dict[str, Any]:
    """A stream for each caller; not bound to cores, where another process may be at work."""
    return {
        "INFERENCE_PRECISION_HINT": _HINT[of.precision],
        "INFERENCE_NUM_THREADS": of.threads,
        "NUM_STREAMS": min(of.callers, of.threads),
        "ENABLE_CPU_PINNING": False,
    }


def _made(of: Compiled) -> Any:
    """Converts and compiles a model, compares it with torch, and keeps it where that can be done."""
    openvino = _openvino()
    model, version = of.source, openvino_version()
    what = f"the head {model.head!r}" if model.head else f"the model {model.name!r}"
    try:
        with _quiet():
            network = openvino.Core().compile_model(_converted(of, what), "CPU", _settings(of))
    except PrithviError as error:
        raise ModelError(f"{error} OpenVINO cannot run it: map with --engine torch.") from error
    except Exception as error:  # what has no counterpart in OpenVINO fails in many ways
        raise ModelError(
            f"OpenVINO {version} cannot convert {what} ({first_line(error)}): map with --engine torch."
        ) from error
    difference = _difference(of, network)
    if not difference <= TOLERANCE[of.precision]:
        raise ModelError(
            f"OpenVINO {version} gives {what} other scores in {of.precision} than torch in float32 (by "
            f"{difference:.1g} of them; {TOLERANCE[of.precision]:g} is allowed): map with --engine torch."
        )
    name = file_name(of)
    for folder in _folders(model) if name else ():
        try:
            with atomic_file(folder / name) as written:
                written.write_bytes(network.export_model().getvalue())
                digest = _digest(name, written.read_bytes())
        except OutputError:
            continue
        remember(digest)
        break
    return network


def _converted(of: Compiled, what: str) -> Any:
    """The model as OpenVINO's.

    By its frontend and not by `openvino.convert_model`, which tells its makers of each conversion; see `_openvino`.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    program = traced(of.source, what, of.together)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder.from_exported_program(program)  # has to live until `convert` is done
    converted = frontend.convert(frontend.load(decoder))
    converted.reshape({number: [of.together, *shape] for number, shape in enumerate(shapes_of(of.source))})
    return converted


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of OpenVINO's converter, which it gives to the root logger and to torch's tracer."""
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(silent)  # without any handler the first warning would install one for good
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(silent)


def _difference(of: Compiled, network: Any) -> float:
    """How far a compiled model is from torch's float32 on a few made-up windows, see `TOLERANCE`; NaN is too far."""
    inputs = example_inputs(of.source, of.together)
    with torch.inference_mode():
        expected = of.source.module.cpu()(*inputs)
        found = torch.from_numpy(network([value.numpy() for value in inputs])[0].copy())
    missing = expected.isnan()  # a module of somebody else may say so where it is given no data
    if found.shape != expected.shape or not torch.equal(found.isnan(), missing) or missing.all():
        return math.nan
    off, scores = (found - expected)[~missing], expected[~missing]
    if of.precision == "float32":
        return float(off.abs().max() / scores.abs().max().clamp(min=1e-30))
    return float(off.square().mean().sqrt() / scores.square().mean().sqrt().clamp(min=1e-30))


def _from_file(of: Compiled) -> Any:
    """What was compiled before; None where there is no such file of this user's."""
    openvino, name = _openvino(), file_name(of)
    for folder in _folders(of.source) if name else ():
        with contextlib.suppress(OSError):
            content = (folder / name).read_bytes()
            if made_here(_digest(name, content)):
                with contextlib.suppress(RuntimeError):
                    return openvino.Core().import_model(content, "CPU", _settings(of))
    return None


def _folders(model: Predictor) -> list[Path]:
    """Where a compiled model may lie."""
    beside = [Path(model.folder) / ".compiled"] if model.folder and Path(model.folder).is_dir() else []
    return [*beside, cache_folder("compiled")]


def _digest(name: str, content: bytes) -> str:
    """Of a file with its name, so that one under another's name is none."""
    return hashlib.sha256(name.encode() + b"\0" + hashlib.sha256(content).digest()).hexdigest()


def file_name(of: Compiled) -> str:
    """The name of the file that keeps a compiled model; none for a module of another kind, whose code has no name."""
    model = of.source
    if not isinstance(model.module, (Scorer, Program)):
        return ""
    core = _openvino().Core()
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    told = hashlib.sha256(json.dumps([machine, torch.__version__]).encode()).hexdigest()[:8]
    size = "x".join(map(str, (of.together, *shapes_of(model)[0])))
    return (
        f"{_weights(model)[:16]}-{size}-{of.precision}-openvino{openvino_version()}-prithvi{prithvi.__version__}-"
        f"{told}.blob"
    )


def _weights(model: Predictor) -> str:
    """A hash of all that the scores depend on, as it is in memory: weights, constants, and the shape of the model."""
    facts: dict[str, Any] = {**model.facts(), "head": model.head, "options": model.head_options}
    if isinstance(model.module, Scorer):
        facts["config"] = model.model.config.to_dict()
    else:
        facts["code"] = str(getattr(model.module.graph, "code", ""))
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, module in model.module.named_modules():
        tensors = {**module._parameters, **module._buffers, **vars(module)}
        for key in sorted(key for key, value in tensors.items() if isinstance(value, Tensor)):
            value = tensors[key].detach().cpu().contiguous()
            digest.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_openvino() -> None:
    """Raises ConfigError where OpenVINO is not installed."""
    if not openvino_version():
        raise ConfigError("OpenVINO is not installed: pip install 'prithvi[openvino]', or map with --engine torch.")
