"""Where inputs may come from: folders, links followed, and hosts, with public addresses unless others are allowed."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from prithvi.service.settings import RefusedError

_ENTRIES = 10_000
"""At most in a folder that is a scene."""
_WITH_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
"""Addresses of version 6 that stand for one of version 4, which may be private."""


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
        if not _matches(host, self.hosts):
            raise RefusedError(f"{host} is not among the hosts that this service reads from.", 403, "Forbidden")

    def may_be_private(self, host: str) -> bool:
        """Whether a host may have a private address."""
        return _matches(host, self.private_hosts)

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
        found = [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise RefusedError(f"{host} has no address: check its name.") from None
    if not private and not all(map(_public, found)):
        raise RefusedError(f"{host} has a private address, which this service does not ask.", 403, "Forbidden")
    return found


def _public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    doubtful = address.version == 6 and any(address in network for network in _WITH_IPV4)
    return address.is_global and not (address.is_multicast or address.is_reserved or doubtful)


def _matches(host: str, known: Iterable[str]) -> bool:
    host = host.lower().rstrip(".")
    for name in map(str.lower, known):
        if name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def _below(path: Path) -> list[Path]:
    """A file, or all that lies in a folder."""
    found = [path]
    for folder, folders, files in os.walk(path):
        found += [Path(folder, name) for name in (*folders, *files)]
        if len(found) > _ENTRIES:
            raise RefusedError(f"{path.name} holds more than {_ENTRIES:,} files: give those of one scene.")
    return found
