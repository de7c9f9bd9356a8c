"""Which hosts may be asked: those with public addresses, and private ones that a user named.

Private are the addresses that mean something within one network or machine alone: loopback, link-local, those of local
networks, and whatever else `ipaddress` does not call global.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable

from prithvi.errors import AddressError

ALLOW = "PRITHVI_ALLOW_PRIVATE"
"""Variable with hosts, between commas, that may have private addresses whoever names them (`--allow-private`)."""
_WITH_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
"""Addresses of version 6 that stand for one of version 4, which may be private."""


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a host.

    Raises:
        AddressError: it has none.

    """
    try:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise AddressError(f"{host} has no address: check its name.") from None


def are_public(found: Iterable[str]) -> bool:
    """Whether all of these addresses are the same for everyone."""
    return all(map(_is_public, found))


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    doubtful = address.version == 6 and any(address in network for network in _WITH_IPV4)
    return address.is_global and not (address.is_multicast or address.is_reserved or doubtful)


def matches(host: str, known: Iterable[str]) -> bool:
    """Whether a host is among names, `*.NAME` for all below one, and `*` for all."""
    host = host.lower().rstrip(".")
    for name in map(str.lower, known):
        if name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def allowed_private() -> list[str]:
    """The hosts that the user lets have private addresses."""
    return [name.strip() for name in os.environ.get(ALLOW, "").split(",") if name.strip()]
