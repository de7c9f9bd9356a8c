"""What a service serves, and what it allows: the command line over a YAML file over defaults."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from prithvi.errors import ConfigError, PrithviError, one_of
from prithvi.files import read_yaml
from prithvi.modelio.model_files import FORMAT, SUFFIX, Requirements, config_of, found_here, requirements_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RefusedError(PrithviError):
    """A request that the service does not take.

    Args:
        message: what was found and what to do, without a path of the machine.
        status: of HTTP.
        code: OGC's word for it.

    """

    def __init__(self, message: str, status: int = 400, code: str = "InvalidParameterValue") -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Served:
    """A model that is served."""

    name: str
    source: str
    """Its folder."""
    needs: Requirements | None
    """What a fine-tuned one wants of a scene; None of a pretrained one, whose embeddings and fills are served."""
    bands: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """Of a service."""

    models: tuple[Served, ...]
    state: Path = Path("service")
    """Folder of the jobs and their results."""
    host: str = "127.0.0.1"
    port: int = 5000
    url: str = ""
    """Where clients find it; default http://HOST:PORT."""
    folders: tuple[Path, ...] = ()
    """Scenes may lie in these."""
    hosts: tuple[str, ...] = ()
    """Scenes may come from these: names, *.NAME for all below one, * for every public host."""
    private_hosts: tuple[str, ...] = ()
    """Of `hosts` those that may have private addresses."""
    max_pixels: int = 150_000_000
    """Of a scene or of the asked box, times its dates."""
    workers: int = 1
    queue: int = 10
    """Jobs that wait beside those that run."""
    idle: float = 300.0
    """Seconds after which a worker without a job ends, and the model's memory with it."""
    timeout: float = 3600.0
    """Seconds of a job."""
    keep: float = 7.0
    """Days of a finished job and its results."""
    device: str | None = None
    engine: str = "torch"
    batch_size: int | None = None

    @property
    def address(self) -> str:
        """Without a slash at the end."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else f"[{self.host}]" if ":" in self.host else self.host
        return (self.url or f"http://{host}:{self.port}").rstrip("/")


_TYPES: dict[str, Any] = {
    "state": Path, "host": str, "port": int, "url": str, "max_pixels": int, "workers": int, "queue": int,
    "idle": float, "timeout": float, "keep": float, "device": str, "engine": str, "batch_size": int,
}  # fmt: skip
_LISTS = ("folders", "hosts", "private_hosts")
_LEAST = {"port": 1, "max_pixels": 1, "workers": 1, "queue": 0, "idle": 0, "timeout": 1, "keep": 0, "batch_size": 1}


def settings_of(models: Sequence[str], file: Path | None, given: Mapping[str, Any]) -> Settings:
    """Settings that were checked.

    Args:
        models: folders or names of models, or NAME=FOLDER; those of the file if there are none.
        file: YAML with the fields of `Settings`.
        given: fields from the command line, which count more; None is not given.

    Raises:
        ConfigError: an unknown field, a wrong value, no model, or a folder that is not there.

    """
    told = read_yaml(file) if file is not None else {}
    for name in told:
        one_of(name, [field.name for field in dataclasses.fields(Settings)], f"{file}: a service has no")
    told = {**told, **{name: value for name, value in given.items() if value is not None}}
    names = list(models) or [str(model) for model in _many("models", told.get("models"))]
    if not names:
        raise ConfigError("no model was given: prithvi serve MODEL..., or models: in the file.")
    served = [_served(name) for name in names]
    twice = sorted({model.name for model in served if [other.name for other in served].count(model.name) > 1})
    if twice:
        raise ConfigError(f"two models are called {twice[0]}: say NAME=FOLDER for one of them.")
    values: dict[str, Any] = {name: _plain(name, told[name], _TYPES[name]) for name in _TYPES if name in told}
    values |= {name: tuple(map(str, _many(name, told.get(name)))) for name in _LISTS}
    values["folders"] = tuple(_folder(Path(folder)) for folder in values["folders"])
    values["hosts"] = tuple(dict.fromkeys((*values["hosts"], *values["private_hosts"])))
    values["state"] = values.get("state", Path("service")).absolute()  # workers look from elsewhere
    settings = Settings(tuple(served), **values)
    if settings.url and urlparse(settings.url).scheme not in ("http", "https"):
        raise ConfigError(f"url is {settings.url!r}: say the address that clients use, as http://maps.example.org.")
    return settings


def _many(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        wrong = [entry for entry in value if entry is None or isinstance(entry, (dict, list, tuple))]
        if not wrong:
            return list(value)
        raise ConfigError(f"{name} holds {wrong[0]!r}: write a list of words.")
    raise ConfigError(f"{name} is {value!r}: write a list ([{value}]).")


def _plain(name: str, value: Any, kind: Any) -> Any:
    if value is None:
        return None
    try:
        made = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} is {value!r}, which is no number.") from None
    if name in _LEAST and not made >= _LEAST[name]:
        raise ConfigError(f"{name} is {value!r}; the least is {_LEAST[name]}.")
    return made


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"scenes are to be read from {folder}, and there is no such folder.")
    return folder.resolve()


def _served(given: str) -> Served:
    name, _, source = given.rpartition("=")
    path = found_here(source)
    if source.endswith(SUFFIX):
        raise ConfigError(f"{source} is an exported program, and those are not served: give its model folder.")
    if path is None or not path.is_dir():
        raise ConfigError(
            f"there is no model folder {source}: give one, or a name of 'prithvi models list' that comes with prithvi. "
            "One of the hub is downloaded first (hf download)."
        )
    name = name or path.resolve().name
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot stand in an address: say NAME={source}, of letters, digits, _, . and -.")
    plain, folder = config_of(source), str(path.resolve())
    needs = requirements_of(folder)
    if needs is None and plain.get("format") == FORMAT:
        raise ConfigError(f"{source} is damaged: prithvi models show {source} says how.")
    bands = needs.contract.bands if needs is not None else plain.get("pretrained_cfg", {}).get("bands", ())
    classes = tuple(str(entry.get("name", "")) for entry in plain.get("classes", ()))
    return Served(name, folder, needs, tuple(bands), classes)
