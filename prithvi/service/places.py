"""Where inputs may come from: folders, links followed, and hosts, with public addresses unless others are allowed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from prithvi import hosts as rule
from prithvi.errors import AddressError, ConfigError
from prithvi.files import refuse_unreachable
from prithvi.service.settings import RefusedError

_ENTRIES = 10_000
"""At most in a folder that is a scene."""
_PORTS = (80, 443)
"""Of public hosts; one that may be private is asked on any."""


@dataclass(frozen=True)
class Places:
    """What is allowed; see `prithvi.service.settings.Settings`."""

    folders: Sequence[Path] = ()
    hosts: Sequence[str] = ()
    private_hosts: Sequence[str] = ()

    def allowed(self, source: str) -> str:
        """The path or address of an input.

        Args:
            source: a path within an allowed folder, absolute or below it; a file address of one; or an http address.

        Raises:
            RefusedError: it is not allowed, or is not there.

        """
        parts = urlparse(source)
        if "\0" in source or "\n" in source:
            raise RefusedError("an input's address holds a control character.")
        if parts.scheme in ("http", "https"):
            self.check_host(parts.hostname or "", source)
            if parts.username or parts.password:
                raise RefusedError("an address with a name or password in it is not taken.", 403, "Forbidden")
            addresses(parts.hostname or "", parts.port or 443, self.may_be_private(parts.hostname or ""))
            return source
        if parts.scheme == "file":
            if parts.netloc not in ("", "localhost"):
                raise RefusedError(f"{source} is a file of another machine.", 403, "Forbidden")
            return self.path(unquote(parts.path))
        if parts.scheme or source.startswith("/vsi"):
            said = parts.scheme or source.split("/")[1]
            raise RefusedError(f"{said} addresses are not taken: give https or a path.", 403, "Forbidden")
        return self.path(source)

    def path(self, name: str) -> str:
        """A path within an allowed folder, links followed."""
        if not self.folders:
            raise RefusedError("this service reads no files of its own: give an address.", 403, "Forbidden")
        inside = False
        for folder in self.folders:
            path = Path(os.path.realpath(folder / name))
            if self._within([path]):
                inside = True
                try:
                    refuse_unreachable(path)
                except ConfigError as error:
                    raise RefusedError(f"{self.shown(name)[:80]} is no file that can be opened.") from error
                if path.exists() and self._within(_below(path)):
                    return str(path)
                if path.exists():
                    raise RefusedError(f"{self.shown(name)} holds a link out of its folder.", 403, "Forbidden")
        if not inside:
            raise RefusedError(f"{Path(name).name} is not in a folder that this service reads.", 403, "Forbidden")
        raise RefusedError(f"there is no file {self.shown(name)} in the folders that this service reads.")

    def check_host(self, host: str, source: str = "") -> None:
        """Whether a host is among those allowed.

        Raises:
            RefusedError: it is not.

        """
        if not host:
            raise RefusedError(f"{source.partition('?')[0]} names no host.")
        if not rule.matches(host, self.hosts):
            raise RefusedError(f"{host} is not among the hosts that this service reads from.", 403, "Forbidden")

    def reach(self, host: str, port: int) -> list[str]:
        """The addresses at which a worker may ask a host; see `prithvi.guard.Guard`.

        Raises:
            RefusedError: it may not.

        """
        self.check_host(host)
        private = self.may_be_private(host)
        if not private and port not in _PORTS:
            raise RefusedError(f"{host} is asked on port {port}, and this service asks on 80 and 443.")
        return addresses(host, port, private)

    def may_be_private(self, host: str) -> bool:
        """Whether a host may have a private address."""
        return rule.matches(host, self.private_hosts)

    def shown(self, text: str) -> str:
        """A text without the folders' paths."""
        for folder in sorted(map(str, self.folders), key=len, reverse=True):
            text = text.replace(f"{folder}/", "").replace(folder, Path(folder).name)
        return text

    def _within(self, paths: Iterable[Path]) -> bool:
        real = [folder.resolve() for folder in self.folders]
        return all(any(path.resolve().is_relative_to(folder) for folder in real) for path in paths)


def addresses(host: str, port: int, private: bool) -> list[str]:
    """The addresses of a host, each of which is public, or may be private.

    Raises:
        RefusedError: the host has none, or one that is not allowed.

    """
    try:
        found = rule.addresses(host, port)
    except AddressError as error:
        raise RefusedError(str(error)) from None
    if not private and not rule.are_public(found):
        raise RefusedError(f"{host} has a private address, which this service does not ask.", 403, "Forbidden")
    return found


def _below(path: Path) -> list[Path]:
    """A file, or all that lies in a folder."""
    found = [path]
    for folder, folders, files in os.walk(path):
        found += [Path(folder, name) for name in (*folders, *files)]
        if len(found) > _ENTRIES:
            raise RefusedError(f"{path.name} holds more than {_ENTRIES:,} files: give those of one scene.")
    return found
