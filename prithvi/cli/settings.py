"""Configuration files and options of `prithvi fit`: found, and every key checked before anything heavy is built."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prithvi.catalog import config_path
from prithvi.errors import ConfigError, nearest

_TOP = (
    "seed_everything",
    "trainer",
    "model",
    "data",
    "ckpt_path",
    "weights_only",
    "optimizer",
    "lr_scheduler",
    "verbose",
)


def with_shipped(arguments: list[str]) -> list[str]:
    """`--config=FILE` in two words, and a config named without a path (flood, or configs/flood.yaml outside a
    checkout) as the shipped one.
    """
    words: list[str] = []
    for argument in arguments:
        name, sign, value = argument.partition("=")
        words += [name, value] if sign and name in ("-c", "--config") else [argument]
    for index, argument in enumerate(words[:-1]):
        if argument in ("-c", "--config"):
            words[index + 1] = str(shipped(Path(words[index + 1])))
    return words


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


def files_of(arguments: Sequence[str]) -> list[Any]:
    """What the configuration files among some options hold."""
    files = [arguments[place + 1] for place, word in enumerate(arguments[:-1]) if word in ("-c", "--config")]
    return [yaml.safe_load(Path(file).read_text(encoding="utf-8")) for file in files]


def check(arguments: Sequence[str]) -> None:
    """Every key of the files and options against what exists, before anything heavy is built.

    Raises:
        ConfigError: one that does not exist, with the nearest.

    """
    classes: dict[str, str] = {}
    files = [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument in ("-c", "--config")]
    if not files and not any(argument.startswith("--model") for argument in arguments):
        raise ConfigError("no configuration was given: prithvi fit -c configs/flood.yaml --data.root DIR")
    for file in files:
        try:
            plain = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} cannot be read ({error}).") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" (line {mark.line + 1})" if mark else ""
            raise ConfigError(f"{file} is not YAML{line}: {getattr(error, 'problem', error)}.") from error
        _check_table(file, _table(file, plain), classes)
    for index, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, _, value = argument[2:].partition("=")
        value = value or (arguments[index + 1] if index + 1 < len(arguments) else "")
        if name == "ckpt_path" and value not in ("best", "last", "hpc", "registry") and not Path(value).is_file():
            raise ConfigError(f"there is no checkpoint {value}.")
        _check_option(name, classes)


def _check_option(name: str, classes: Mapping[str, str]) -> None:
    """One `--section.key` of the command line."""
    section, _, rest = name.partition(".")
    key = rest.removeprefix("init_args.").split(".")[0].rstrip("+")
    where = f"the option --{name}"
    if key and section in classes and key not in ("class_path", "dict_kwargs"):
        _refuse_unknown(where, [key], _options_of(classes[section]))
    elif key and section == "trainer":
        _refuse_unknown(where, [key], _options_of("lightning.Trainer"))
    elif key and section not in _TOP:
        _refuse_unknown(where, [section], _TOP)


def _check_table(file: str, plain: Mapping[str, Any], classes: dict[str, str]) -> None:
    _refuse_unknown(file, plain, _TOP)
    trainer = _table(f"{file}, trainer", plain.get("trainer"))
    _refuse_unknown(f"{file}, trainer", trainer, _options_of("lightning.Trainer"))
    for section in ("model", "data"):
        where = f"{file}, {section}"
        part = _table(where, plain.get(section))
        _refuse_unknown(where, part, ("class_path", "init_args", "dict_kwargs"))
        if "class_path" in part:
            classes[section] = str(part["class_path"])
            _refuse_unknown(where, _table(where, part.get("init_args")), _options_of(classes[section]))
    callbacks = trainer.get("callbacks") or []
    for part in callbacks if isinstance(callbacks, list) else [callbacks]:
        if isinstance(part, dict) and "class_path" in part:
            where = f"{file}, {part['class_path']}"
            _refuse_unknown(where, _table(where, part.get("init_args")), _options_of(str(part["class_path"])))


def _table(where: str, part: Any) -> dict[str, Any]:
    """A section of a configuration, empty where it is not there."""
    if part is None:
        return {}
    if not isinstance(part, dict) or not all(isinstance(key, str) for key in part):
        raise ConfigError(f"{where} must be a table of settings; it is {part!r}.")
    return part


def _options_of(class_path: str) -> list[str]:
    """Names of a constructor's arguments; an empty list where it takes any."""
    module, _, name = class_path.rpartition(".")
    if not module:
        return []  # a short name, which LightningCLI looks up itself
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"there is no class {class_path!r}: {error}.") from error
    names: dict[str, None] = {}
    for owner in found.__mro__:  # a class that takes **options hands them to the one that it is made from
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters.values()
        names |= {each.name: None for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            return list(names)
    return []


def _refuse_unknown(where: str, keys: Iterable[str], known: Sequence[str]) -> None:
    for key in keys:
        if known and key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else nearest(key, known)
            raise ConfigError(f"{where}: there is no setting {key!r}; {hint}")
