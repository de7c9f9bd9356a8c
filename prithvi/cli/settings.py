"""Configuration files and options of `prithvi fit`: found, and every key checked before anything heavy is built."""

from __future__ import annotations

import difflib
import functools
import importlib
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from prithvi.catalog import config_path
from prithvi.cli.options import TRUST
from prithvi.errors import ConfigError, nearest
from prithvi.files import read_yaml, table

_PACKAGES = ("prithvi", "lightning", "pytorch_lightning", "torch", "torchmetrics", "terratorch")
"""Packages whose classes any configuration may name."""
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_CONFIG = ("-c", "--config")
_HEAD = ("--model.head", "--model.init_args.head")
_CHECKPOINTS = ("best", "last", "hpc", "registry")  # words that Lightning knows
_SECTIONS = ("trainer", "model", "data", "optimizer", "lr_scheduler")
_TOP = (*_SECTIONS, "seed_everything", "ckpt_path", "weights_only", "verbose")


def with_shipped(arguments: Iterable[str]) -> list[str]:
    """`--config=FILE` and `--ckpt_path=FILE` in two words, and a config named without a path (flood, or
    configs/flood.yaml outside a checkout) as the shipped one; without --debug, an option of the whole command line.
    """
    words: list[str] = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        words += [name, value] if sign and name in (*_CONFIG, "--ckpt_path") else [argument]
    pairs = itertools.pairwise(["", *(word for word in words if word != "--debug")])
    return [str(shipped(Path(word))) if before in _CONFIG else word for before, word in pairs]


def with_own_head_options(arguments: Sequence[str]) -> list[str]:
    """Some options, with `--model.head_options {}` after a `--model.head` that is another than the files' head.

    Options of a head in a file are of the head that the file names. Those that are given after the head stay.
    """
    words = [part for argument in arguments for part in _in_two(argument)]
    at = [number for number, word in enumerate(words) if word in _HEAD]
    if not at or at[-1] + 1 == len(words):
        return list(arguments)
    before, after = words[: at[-1] + 2], words[at[-1] + 2 :]
    given = any(word.startswith(tuple(f"{name}_options" for name in _HEAD)) for word in after)
    if given or head_of(before) == head_of(words[: at[-1]]):
        return list(arguments)
    return [*before, "--model.head_options", "{}", *after]


def head_of(arguments: Sequence[str]) -> str:
    """The head that some options and their configuration files name; the task's own default if none does."""
    found = "fcn"
    words = [part for argument in arguments for part in _in_two(argument)]
    for word, after in itertools.pairwise(words):
        if word in _CONFIG:
            model = table(f"{after}, model", read_yaml(after).get("model"))
            found = str(table(f"{after}, model", model.get("init_args")).get("head", found))
        elif word in _HEAD:
            found = after
    return found


def without_head(arguments: Sequence[str]) -> list[str]:
    """Some options without the head that they name; files stay as they are."""
    words = [part for argument in arguments for part in _in_two(argument)]
    return [word for before, word in itertools.pairwise(["", *words]) if word not in _HEAD and before not in _HEAD]


def _in_two(argument: str) -> list[str]:
    name, sign, value = argument.partition("=")
    return [name, value] if sign and name in _HEAD else [argument]


def shipped(named: Path) -> Path:
    """A configuration file, or the shipped one of that name where there is none.

    Raises:
        ConfigError: there is neither.

    """
    if named.exists():
        return named
    if named.parent not in (Path(), Path("configs")):
        raise ConfigError(f"there is no configuration file {named}.")
    return config_path(named.stem)


def config_files(arguments: Sequence[str]) -> list[str]:
    """The configuration files among some options."""
    return [after for word, after in itertools.pairwise(arguments) if word in _CONFIG]


def check(arguments: Sequence[str]) -> None:
    """Every key of the files and options against what exists, before anything heavy is built.

    Raises:
        ConfigError: one that does not exist, with the nearest.

    """
    classes = {"trainer": "lightning.Trainer"}
    files = config_files(arguments)
    if not files and not any(argument.startswith("--model") for argument in arguments):
        raise ConfigError("no configuration was given: prithvi fit -c configs/flood.yaml --data.root DIR")
    refuse_strange_classes(arguments)
    for file in files:
        _check_file(file, classes)
    for word, after in itertools.pairwise([*arguments, ""]):
        option, _, value = word.partition("=")
        checkpoint = value or after
        if option == "--ckpt_path" and checkpoint not in _CHECKPOINTS and not Path(checkpoint).is_file():
            raise ConfigError(f"there is no checkpoint {checkpoint}.")
        # --section.key, --section.init_args.key or --section.key+, with or without =VALUE
        section, _, rest = option.removeprefix("--").partition(".")
        key = rest.removeprefix("init_args.").split(".")[0].rstrip("+") if option.startswith("--") else ""
        if key and section in classes and key not in ("class_path", "dict_kwargs"):
            _refuse_unknown(f"the option {option}", [key], _options_of(classes[section]))
        elif key:
            _refuse_unknown(f"the option {option}", [section], _TOP)


def refuse_strange_classes(arguments: Sequence[str]) -> None:
    """Refuses configuration files that name classes of packages which nobody said to trust, before any is imported.

    Raises:
        ConfigError: one does.

    """
    # A section may be a file of its own on the command line, as --model FILE.
    pairs = [word.partition("=")[::2] if "=" in word else (word, after)
             for word, after in itertools.pairwise([*arguments, ""])]  # fmt: skip
    parts = [value for word, value in pairs if word.removeprefix("--") in _SECTIONS and Path(value).is_file()]
    for file in (*config_files(arguments), *parts):
        _refuse_strange(file, read_yaml(file))


def _refuse_strange(file: str, plain: Any, key: str = "", of_trainer: bool = False) -> None:
    if isinstance(plain, Mapping):
        for name, value in plain.items():
            _refuse_strange(file, value, str(name), of_trainer or name == "trainer")
    elif isinstance(plain, list):
        for value in plain:
            _refuse_strange(file, value, key, of_trainer)
    # Loggers, callbacks, optimizers and the like may be named by their class alone.
    elif (
        isinstance(plain, str)
        and _CLASS.fullmatch(plain)
        and (key == "class_path" or key in _SECTIONS or (of_trainer and key != "default_root_dir"))
    ):
        package = plain.partition(".")[0]
        trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
        if package not in (*_PACKAGES, *trusted):
            raise ConfigError(
                f"{file} names {plain}, and importing and making it runs code of the package {package}: if you trust "
                f"it, prithvi --trust-classes {package} ..., or {TRUST}={package} in the environment."
            )


def _check_file(file: str, classes: dict[str, str]) -> None:
    """A configuration; the classes that it names for model and data are added to `classes`."""
    plain = read_yaml(file)
    _refuse_unknown(file, plain, _TOP)
    trainer = table(f"{file}, trainer", plain.get("trainer"))
    _refuse_unknown(f"{file}, trainer", trainer, _options_of(classes["trainer"]))
    for section in ("model", "data"):
        where = f"{file}, {section}"
        part = table(where, plain.get(section))
        _refuse_unknown(where, part, ("class_path", "init_args", "dict_kwargs"))
        if "class_path" in part:
            classes[section] = _checked_class(where, part)
    callbacks = trainer.get("callbacks") or []
    for part in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(part, dict) and "class_path" in part:
            _checked_class(f"{file}, {part['class_path']}", part)


def _checked_class(where: str, part: Mapping[str, Any]) -> str:
    """The path of the class that is to be made, whose arguments were checked."""
    path = str(part["class_path"])
    _refuse_unknown(where, table(where, part.get("init_args")), _options_of(path))
    return path


@functools.cache
def _options_of(class_path: str) -> tuple[str, ...]:
    """Names of a constructor's arguments, with those that it hands on; kept, since each option asks."""
    module, _, name = class_path.rpartition(".")
    if not module:
        return ()  # a short name, which LightningCLI looks up itself
    try:
        found = getattr(importlib.import_module(module), name)
        return tuple(jsonargparse.ArgumentParser().add_class_arguments(found, fail_untyped=False))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no class {class_path!r}: {error}.") from error


def _refuse_unknown(where: str, keys: Iterable[str], known: Sequence[str]) -> None:
    for key in keys:
        if known and key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else nearest(key, known)
            raise ConfigError(f"{where}: there is no setting {key!r}; {hint}")
