"""A model for maps as one file of torch.export: the standardisation inside, what mapping needs to know beside it.

NAME.pt2      written by torch.export.save; torch.export.load opens it without this package
prithvi.json  among its extra files: `format`, torch's version and the facts of `Predictor.facts`
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prithvi.errors import CheckpointError, ConfigError, ModelError, OutputError, PrithviError, first_line
from prithvi.files import atomic_file, sha256_once
from prithvi.modelio.model_files import PROGRAM_FORMAT, RECORD, SUFFIX, read_record
from prithvi.modelio.predictor import Predictor

MOST_WINDOWS = 1 << 20
"""Most windows of a call of a program: torch 2.6 exports no size without a limit."""
_exported: set[str] = set()
"""Hashes of what this process has made: programs, and compiled models."""


class Program(nn.Module):
    """An opened program, called as any module of a `Predictor` is: dates and places may be missing.

    Args:
        graph: the program's own module.
        shapes: see `shapes_of`.

    """

    def __init__(self, graph: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.graph, self.shapes = graph, shapes

    def forward(
        self, images: Tensor, temporal_coords: Tensor | None = None, location_coords: Tensor | None = None
    ) -> Tensor:
        """See `Predictor.module`; the images are of the program's own size.

        Raises:
            ModelError: inputs of another shape, or dates and places that the program does not take.

        """
        if len(self.shapes) == 1 and (temporal_coords is not None or location_coords is not None):
            raise ModelError("this exported program takes neither dates nor places: it was trained without them.")
        given = [("images", images), ("dates", temporal_coords), ("places", location_coords)][: len(self.shapes)]
        inputs = []
        for (name, value), shape in zip(given, self.shapes, strict=True):
            if value is None:  # NaN counts as unknown, and adds nothing
                value = images.new_full((len(images), *shape), math.nan)
            if value.ndim == 0 or len(value) < 1 or value.shape != (len(images), *shape):
                raise ModelError(
                    f"the {name} have shape {tuple(value.shape)}; this exported program takes (batch, "
                    f"{', '.join(map(str, shape))})."
                )
            inputs.append(value.to(torch.float32))
        logits: Tensor = self.graph(*inputs)
        return logits

    def train(self, mode: bool = True) -> Program:
        """Nothing changes: what is exported is the model in evaluation mode, and torch refuses to be asked."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Program:
        """Moves what `nn.Module.to` leaves where it was: constants of the graph and the devices that it names."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        places = {tensor.device for tensor in (*self.parameters(), *self.buffers())}
        if len(places) == 1:
            _move(self.graph, places.pop())
        return self


def _move(graph: nn.Module, device: torch.device) -> None:
    for module in graph.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                setattr(module, name, value.to(device))
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                if isinstance(node.kwargs.get("device"), torch.device):
                    node.update_kwarg("device", device)
                node.args = tuple(device if isinstance(value, torch.device) else value for value in node.args)
            module.recompile()


def export(model: Predictor, path: str | Path) -> Path:
    """Writes a model as a program: any number of windows at once, each of the model's own size.

    Args:
        model: it stays as it is.
        path: NAME.pt2; an older file is replaced when the new one is whole.

    Raises:
        ConfigError: the model gives no answer for every pixel.
        ModelError: torch cannot export it.
        OutputError: the file cannot be written, or is not called NAME.pt2.

    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise OutputError(f"{path} is no name for a program: torch opens only NAME{SUFFIX}.")
    model.mappable()
    what = f"the head {model.head!r}" if model.head else f"the model {model.name!r}"
    if isinstance(model.module, Program):
        raise ModelError(f"{what} is an exported program already: copy its file.")
    program = traced(model, what)
    record = {"format": PROGRAM_FORMAT, "torch": str(torch.__version__), "facts": model.facts()}
    with atomic_file(path) as written:
        try:
            torch.export.save(program, str(written), extra_files={RECORD: json.dumps(record, indent=2)})
        except RuntimeError as error:  # torch's writer, on a full disk
            raise OutputError(f"{path} cannot be written ({first_line(error)}).") from error
        written.chmod(0o644)
    remember(sha256_once(path))
    return path


def traced(model: Predictor, what: str, windows: int | None = None) -> Any:
    """The model as a `torch.export.ExportedProgram` that holds no more than it needs.

    Args:
        model: it stays as it is.
        what: it is called in errors.
        windows: that it takes at once; None for any number.

    Raises:
        ModelError: torch cannot export it.

    """
    import torch.export

    # Of a program its graph: torch (2.15) exports one within another module, and cannot open what comes of it.
    inner = model.module.graph if isinstance(model.module, Program) else model.module.eval()
    module = copy.deepcopy(inner).cpu().requires_grad_(False)
    # Two windows: a batch of one would be taken for a size that never changes.
    inputs = [torch.zeros(windows or 2, *shape) for shape in shapes_of(model)]
    batch = torch.export.Dim("batch", min=1, max=MOST_WINDOWS)
    sizes = tuple({0: batch} for _ in inputs) if windows is None else None
    try:
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # where torch prints the graph of what failed
            program = torch.export.export(module, tuple(inputs), dynamic_shapes=sizes, strict=False)
    except PrithviError:
        raise
    except Exception as error:  # a model can fail to be traced in any way
        raise ModelError(f"torch {torch.__version__} cannot export {what}: {first_line(error)}.") from error
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, torch.fx.GraphModule):
            _thin(graph_module)
    with contextlib.suppress(ValueError):  # of torch 2.6, which wants them
        program.example_inputs = None  # which torch would pickle into the file
    return program


def _thin(graph_module: torch.fx.GraphModule) -> None:
    """Takes out where each step was written (folders of this computer), and checks of dtypes that autocast changes."""
    for node in list(graph_module.graph.nodes):
        if "_assert_tensor_metadata" in str(node.target):
            graph_module.graph.erase_node(node)
        else:
            node.meta = {key: value for key, value in node.meta.items() if key in ("val", "unbacked_bindings")}
    graph_module.recompile()


def open_program(path: str | Path, trust: bool = False) -> Predictor:
    """A program that `export` wrote, ready for mapping; needs torch alone of what training needs.

    Args:
        path: NAME.pt2.
        trust: open it wherever it comes from. Torch may run code that such a file holds.

    Raises:
        CheckpointError: the file is not there, damaged, none of ours, of another torch, or neither trusted nor exported
            by this user on this machine.
        ConfigError: its record is damaged, or speaks of another model than the file holds.

    """
    import torch.export

    path = Path(path)
    record = read_record(path)
    if not trust and not made_here(sha256_once(path)):
        raise CheckpointError(
            f"{path} was not exported by you on this machine, and torch may run code that such a file holds: if you "
            "trust who made it, open it with --trust (trust=True in Python)."
        )
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # without the traceback that torch prints before it fails
    try:
        program = torch.export.load(path)
        graph = program.module()
    except Exception as error:  # each version of torch has its own ways to fail on another's files
        raise CheckpointError(
            f"{path} was written by torch {str(record.get('torch'))[:60]}, and torch {torch.__version__} cannot open "
            f"it ({first_line(error)}): export the model again with this torch, or fetch the file again."
        ) from error
    finally:
        log.setLevel(level)
    try:
        predictor = Predictor.from_facts(graph, record.get("facts"))
    except (PrithviError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} ({RECORD}): {error}") from error
    _check_fits(program, predictor, path)
    predictor.module = Program(graph.requires_grad_(False), shapes_of(predictor))
    return predictor


def _check_fits(program: Any, model: Predictor, path: Path) -> None:
    """Whether the record speaks of what the program takes and gives."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = (*program.graph_signature.user_inputs, *program.graph_signature.user_outputs)
    found = [tuple(getattr(values.get(name), "shape", ()))[1:] for name in names]
    outputs = 1 if model.quantity is not None else len(model.classes)
    wanted = [*shapes_of(model), (outputs, model.window, model.window)]
    if found != wanted:
        said = [", ".join(" x ".join(map(str, shape)) for shape in shapes) for shapes in (found, wanted)]
        raise ConfigError(
            f"{path} holds a program from and to {said[0]}, and its {RECORD} speaks of {said[1]}: export "
            "the model again."
        )


def shapes_of(model: Predictor) -> list[tuple[int, ...]]:
    """Shapes of a model's inputs for one window: (band, T, Y, X) images and, if it takes them, dates and places."""
    images = len(model.contract.bands), model.frames, model.window, model.window
    return [images, (model.frames, 2), (2,)] if model.coordinates else [images]


def example_inputs(model: Predictor, windows: int, seed: int = 0) -> list[Tensor]:
    """Inputs for a model: random pixels around the contract's means, some without data, dates and places.

    Args:
        model: what it takes.
        windows: how many.
        seed: of the numbers.

    """
    draw = torch.Generator().manual_seed(seed)
    images, *coordinates = (torch.randn(windows, *shape, generator=draw) for shape in shapes_of(model))
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (model.contract.mean, model.contract.std))
    images = mean + std * images
    images[torch.rand(images.shape, generator=draw) < 0.05] = math.nan
    if coordinates:  # around a day of summer 2020, and around the equator
        dates, places = coordinates
        coordinates = [torch.tensor([2020.0, 180.0]) + torch.tensor([2.0, 60.0]) * dates, 40.0 * places]
    return [images, *coordinates]


def largest_difference(model: Predictor, program: Predictor, windows: int = 3, seed: int = 0) -> float:
    """The largest difference between the scores of two modules on the same random pixels, some without data.

    Args:
        model: the one; both are run on the CPU.
        program: the other, of the same facts.
        windows: how many are scored at once.
        seed: of the pixels, dates and places.

    """
    inputs = example_inputs(model, windows, seed)
    with torch.inference_mode():
        one, other = (found.module.cpu()(*inputs) for found in (model, program))
        difference = (one - other).abs().max()
    return float(difference) if torch.isfinite(difference) else math.inf


def remember(digest: str) -> None:
    """Keeps the hash of what was made here, in this process and, where it can, in a cache."""
    _exported.add(digest)
    with contextlib.suppress(OSError, ValueError):
        (cache_folder("exported") / digest).touch()


def made_here(digest: str) -> bool:
    """Whether this user has made, on this machine, what has this hash."""
    if digest in _exported:
        return True
    with contextlib.suppress(OSError, ValueError):
        return (cache_folder("exported") / digest).is_file()
    return False


def cache_folder(name: str) -> Path:
    """A folder in huggingface_hub's cache of assets: `exported` has empty files, each named by a hash."""
    from huggingface_hub import cached_assets_path, constants

    return cached_assets_path("prithvi", name, assets_dir=constants.HF_ASSETS_CACHE)
