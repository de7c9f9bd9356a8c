"""What is inside a program file, told before torch opens it; a file that could run code is refused.

`torch.export.load` unpickles (torch 2.6 to 2.15: weights, constants and sample inputs, with `weights_only=False` or
falling back to it), opens compiled libraries that lie in the file, evaluates its size expressions as Python (sympy),
writes its names into Python source, and calls any function of torch that it names. None of that can be turned off, so
that a file is read here first: it may hold tensors as plain bytes (or as a torch file that loads with
`weights_only=True`), one graph of aten operators whose names are plain names and whose sizes are arithmetic, and the
record of this package. What remains is what the graph computes: it may be slow, want much memory or be wrong, and
torch's own kernels are as safe as they are with odd arguments. A file is not signed: who made it is for you to know.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

from prithvi.errors import CheckpointError

RECORD = "prithvi.json"
"""Name of this package's record among a program's extra files."""

# Torch 2.9 and later; 2.7 and 2.8 have torch files in place of the single tensors.
_GRAPH = "models/model.json"
_TENSORS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_TORCH_FILES = ("data/weights/model.pt", "data/constants/model.pt", "data/sample_inputs/model.pt")
_MARKS = ("archive_format", "archive_version", "byteorder", "version", ".data/version", ".data/serialization_id")
# Torch 2.6.
_OLD_GRAPH = "serialized_exported_program.json"
_OLD_TORCH_FILES = ("serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt")

_MOST_TEXT = 64_000_000
"""Bytes of a graph; that of the largest Prithvi has some 2 million."""

_NAME = re.compile(r"([A-Za-z_]\w{0,300})?", re.ASCII)
_WORD = re.compile(r"[\w.+-]{0,400}", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b|_print\b)\w+\.[A-Za-z]\w*|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|"
    r"lt|le|gt|ge|and_|or_)|torch\.sym_(int|float|not|max|min|sum)|math\.(ceil|floor|trunc|sqrt)",
    re.ASCII,
)
_SIZE = re.compile(
    r"(?!.*\*\*)(Symbol\('[su]\d{1,6}'(, (positive|nonnegative|integer)=True)*\)|Integer\(-?\d{1,12}\)|[su]?\d{1,12}+|"
    r"[ +*/(),-]|Add|Mul|FloorDiv|CeilDiv|CleanDiv|PythonMod|Mod|Max|Min)++",
    re.ASCII,
)
"""An arithmetic expression, as sympy prints it or spells it out."""
_ARGUMENTS = frozenset(
    f"as_{kind}"
    for kind in (
        "none", "tensor", "tensors", "int", "ints", "int_lists", "float", "floats", "string", "strings", "bool",
        "bools", "sym_int", "sym_ints", "sym_bool", "sym_bools", "sym_float", "sym_floats", "scalar_type",
        "memory_format", "layout", "device", "optional_tensor", "optional_tensors", "name", "expr", "nested_tensors",
    )
)  # fmt: skip
_EMPTY = ("metadata", "guards_code", "custom_obj", "custom_obj_values", "token", "treespec_namedtuple_fields")
"""Fields of the graph that hold Python or objects where they hold anything."""


def check(file: IO[bytes], path: Path) -> str:
    """The text of this package's record in a program file, after everything else in it was found harmless.

    Args:
        file: the opened file; read from its beginning.
        path: what it is called in errors.

    Raises:
        CheckpointError: no program of this package's, cut short, or with something in it that could run code.

    """
    sizes, read = _archive(file, path)
    old = _OLD_GRAPH in sizes
    record = f"extra_files/{RECORD}" if old else f"extra/{RECORD}"
    graph = _OLD_GRAPH if old else _GRAPH
    for name in (graph, record):
        if name not in sizes:
            raise CheckpointError(f"{path} has no {name}: it is not a program that 'prithvi export' wrote.")
    for name, size in sizes.items():
        if name in (graph, *_CONFIGS, record):
            if size > _MOST_TEXT:
                raise CheckpointError(f"{path} has {size:,} bytes of {name}, more than any program needs.")
            if name != record:
                _check_text(_parse(read(name), name, path), f"{path} ({name})")
        elif name in (_OLD_TORCH_FILES if old else _TORCH_FILES):
            _check_torch_file(read(name), name, path)
        elif not (name == "version" if old else _TENSORS.fullmatch(name) or name in _MARKS):
            raise _refusal(path, f"a file {name[:100]!r}")
    return read(record).decode("utf-8", errors="replace")


def _archive(file: IO[bytes], path: Path) -> tuple[dict[str, int], Callable[[str], bytes]]:
    """Names and sizes in the archive, and how to read one: by the reader that torch itself will use."""
    try:
        file.seek(0)
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
    # What zipfile raises of bytes that are no archive: by name, or as its own parts stumble over them.
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, struct.error) as error:
        raise CheckpointError(f"{path} is no program file, or was cut short ({error}): fetch it again.") from error
    names = [entry.filename for entry in entries]
    # Stored, not compressed: what comes out is no more than what lies there.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or len(set(names)) != len(names):
        raise _refusal(path, "compressed or repeated files")
    if sum(entry.file_size for entry in entries) > os.fstat(file.fileno()).st_size:
        raise _refusal(path, "files that overlap")
    # Torch does not look at the sums of what it reads.
    try:
        damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
        damaged = str(error)
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged}): fetch it again.")
    sizes = {entry.filename: entry.file_size for entry in entries}
    file.seek(0)
    try:
        reader = torch._C.PyTorchFileReader(file)
    except RuntimeError as error:
        if _OLD_GRAPH not in sizes:
            raise CheckpointError(f"{path} is no program file, or is damaged: fetch it again.") from error
        return sizes, lambda name: _read_zip(file, name, path)
    folder = names[0].partition("/")[0]
    inside = set(reader.get_all_records())
    if {f"{folder}/{name}" for name in inside} != set(names):
        raise _refusal(path, "files that only some readers see")
    return (
        {name.partition("/")[2]: size for name, size in sizes.items()},
        lambda name: _read_record(reader, name, path),
    )


def _read_zip(file: IO[bytes], name: str, path: Path) -> bytes:
    try:
        file.seek(0)
        return zipfile.ZipFile(file).read(name)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged in {name} ({error}): fetch it again.") from error


def _read_record(reader: Any, name: str, path: Path) -> bytes:
    try:
        return bytes(reader.get_record(name))
    except RuntimeError as error:
        raise CheckpointError(f"{path} is damaged in {name}: fetch it again.") from error


def _parse(content: bytes, name: str, path: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged in {name} ({type(error).__name__}): fetch it again.") from error


def _check_torch_file(content: bytes, name: str, path: Path) -> None:
    """A torch file holds tensors only: what loads with `weights_only=True` runs nothing."""
    if not content:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch says no in many ways
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise _refusal(path, f"{found.group(1) if found else 'more than tensors'} in {name}") from error


def _check_text(tree: Any, where: str) -> None:
    """Refuses what is not a plain name, number, size or operator anywhere in a parsed graph."""
    for key, value in _leaves(tree, where):
        if isinstance(value, str):
            if not _fits(key, value):
                raise CheckpointError(
                    f"{where} has {key} {value[:80]!r}, which no program of this package holds; it was not opened."
                )
        elif key == "use_pickle" and value is not False:
            raise CheckpointError(f"{where} has pickled tensors, which could run code; it was not opened.")


def _fits(key: str, value: str) -> bool:
    if key in ("in_spec", "out_spec"):
        return _is_plain_tree(value)
    if key in ("as_string", "as_strings"):
        return len(value) <= 400 and value.isprintable()
    if key == "target" and value.startswith("torch.ops.aten.") and not _is_operator(*value.split(".")[3:5]):
        return False
    pattern = {"target": _OPERATOR, "expr_str": _SIZE, "name": _NAME, "as_name": _NAME}.get(key, _WORD)
    return pattern.fullmatch(value) is not None


def _is_operator(name: str, overload: str = "") -> bool:
    """Whether torch.ops.aten.NAME.OVERLOAD is an operator; one that this torch does not have counts as one."""
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    return found is None or isinstance(found, torch._ops.OpOverload)


def _leaves(tree: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every key of a dictionary as a string, and every value that holds no others with the key it lies under."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            for inner, below in value.items():
                yield "field", inner
                if (inner in _EMPTY and below) or (inner.startswith("as_") and inner not in _ARGUMENTS):
                    raise CheckpointError(
                        f"{where} has {inner}, which no program of this package holds; it was not opened."
                    )
                waiting.append((inner, below))
        elif isinstance(value, list):
            waiting += [(key, below) for below in value]
        else:
            yield key, value


def _is_plain_tree(text: str) -> bool:
    """Whether a description of arguments is made of tuples, lists and dictionaries; others name modules to import."""
    if not text:
        return True
    try:
        waiting = [json.loads(text)]
    except (ValueError, RecursionError):
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            kind = value.get("type")
            if not set(value) <= {"type", "context", "children_spec"} or kind not in (
                None, "builtins.tuple", "builtins.list", "builtins.dict",
            ):  # fmt: skip
                return False
            context = value.get("context")
            if context not in (None, "null", "[]") and not (kind == "builtins.dict" and _is_names(context)):
                return False
            waiting += value.get("children_spec") or []
        elif isinstance(value, list):
            waiting += value
        elif not isinstance(value, int):
            return False
    return True


def _is_names(context: Any) -> bool:
    return isinstance(context, str) and re.fullmatch(r'\["\w+"(, "\w+")*\]', context, re.ASCII) is not None


def _refusal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} holds {what}, which could run code or fill the disk; it was not opened.")
