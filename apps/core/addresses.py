"""Which addresses that users gave may be called: the rules, without any input or output.

A URL is read strictly (http or https, ASCII, no user, no fragment), so that no two readers can take it differently.
Whatever is not on the public internet is refused unless the platform's operator (OUTBOUND_ALLOW) and the org
(`outbound_allow`) both name it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from apps.core.errors import Invalid, Problem

URL_LENGTH = 2048
URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>(?:[/?][A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*)?)"
)
HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
HTTP_PORTS = {"http": 80, "https": 443}
PRIVATE_NAMES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa", "onion")
"""Last labels that nobody on the public internet has."""
FORBIDDEN_PORTS = frozenset(
    {1080, 1433, 1521, 1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 4222, 4369, 5060, 5222, 5353, 5432, 5555,
     5556, 5671, 5672, 5900, 5984, 5985, 5986, 6000, 6222, 6379, 6380, 6443, 6667, 7001, 7222, 8222, 8883, 9042, 9092, 9200, 9300,
     10250, 10255, 11211, 15672, 16379, 25672, 26379, 27017, 27018, 27019, 28015, 50000, 61616}
)  # fmt: skip
"""Other services than HTTP live here. Below 1024 only 80 and 443 are open."""

# What Python's `is_global` lets through although it leads elsewhere: addresses that carry another one, and multicast.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
_ELSEWHERE = tuple(
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "224.0.0.0/3",
                    "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/9",
                    "ff00::/8")
)  # fmt: skip

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class UnsafeUrl(Invalid):
    """Not an address the platform would call."""

    code = "unsafe_url"

    def __init__(self, message: str, field: str = "url") -> None:
        self.message = message
        super().__init__([Problem(field=field, code="unsafe_url", message=message)], f"The URL {message}.")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A URL, taken apart. `host` is in lower case; an IPv6 address stands without its brackets."""

    scheme: str
    host: str
    port: int
    path: str
    """With the query; never empty."""
    allowed: bool
    """Named by the allow-list: its addresses are not judged."""

    @property
    def authority(self) -> str:
        """As the Host header says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTP_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def address(self) -> Address | None:
        """When the host is one and not a name."""
        return _address(self.host)


def read(url: object, *, allow: Iterable[str] = ()) -> Target:
    """Raises UnsafeUrl. Names are not looked up here: whoever connects judges what they lead to (`judge`)."""
    if not isinstance(url, str) or len(url) > URL_LENGTH:
        raise UnsafeUrl(f"must be text of at most {URL_LENGTH} characters")
    found = URL.fullmatch(url)
    if found is None:
        raise UnsafeUrl(
            "must be http://host/path or https://host/path in plain ASCII (an international name in its xn-- form), "
            "without user, password or fragment"
        )
    scheme, host = found["scheme"], found["host"].lower().strip("[]")
    port = int(found["port"]) if found["port"] is not None else HTTP_PORTS[scheme]
    address = _checked_host(host, bracketed=found["host"].startswith("["))
    if not 0 < port < 65536:
        raise UnsafeUrl("has a port that does not exist")
    allowed, exactly = _named(host, port, allow)
    if not exactly and (port in FORBIDDEN_PORTS or (port < 1024 and port not in HTTP_PORTS.values())):
        raise UnsafeUrl(f"has port {port}, which is not open to HTTP from here")
    if not allowed:
        if address is not None:
            judge(address)
        elif "." not in host or host.endswith(tuple(f".{name}" for name in PRIVATE_NAMES)):
            raise UnsafeUrl("names a host that is not on the public internet")
    target = found["target"]
    path = target if target.startswith("/") else f"/{target}"
    return Target(scheme=scheme, host=host, port=port, path=path, allowed=allowed)


def check_url(url: object, *, allow: Iterable[str] = (), field: str = "url") -> None:
    """Could this be called? For where a URL is given, before it is stored. Raises UnsafeUrl, which names the field."""
    try:
        read(url, allow=allow)
    except UnsafeUrl as unsafe:
        raise UnsafeUrl(unsafe.message, field) from None


def judge(address: Address) -> None:
    """Raises UnsafeUrl unless the address, and the one it may carry inside, is on the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if inside is None and (address in _NAT64 or address in _COMPATIBLE):
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return judge(inside)
        if address.scope_id or address.teredo:
            raise UnsafeUrl("leads to an address that is not on the public internet")
    elsewhere = any(address in network for network in _ELSEWHERE if network.version == address.version)
    if elsewhere or not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        raise UnsafeUrl("leads to an address that is not on the public internet")
    return None


def host_problem(entry: object) -> str | None:
    """What is wrong with an entry of an allow-list (`host` or `host:port`)."""
    found = HOST_PORT.fullmatch(entry) if isinstance(entry, str) and len(entry) <= 260 else None
    if found is None or (found["port"] is not None and not 0 < int(found["port"]) < 65536):
        return "must be a host or host:port"
    try:
        _checked_host(found["host"].lower().strip("[]"), bracketed=found["host"].startswith("["))
    except UnsafeUrl as unsafe:
        return unsafe.message
    return None


def is_open(entry: str) -> bool:
    """Does the platform's operator let orgs name this host, or this host and port?"""
    return any(_covers(permitted, entry) for permitted in settings.OUTBOUND_ALLOW)


def _named(host: str, port: int, allow: Iterable[str]) -> tuple[bool, bool]:
    """(on both allow-lists, with its very port)."""
    shown = f"[{host}]" if ":" in host else host
    with_port = f"{shown}:{port}"
    mine = [entry.lower() for entry in allow]
    theirs = [entry.lower() for entry in settings.OUTBOUND_ALLOW]
    if not all(shown in names or with_port in names for names in (mine, theirs)):
        return False, False
    return True, with_port in mine and with_port in theirs


def _covers(permitted: str, entry: str) -> bool:
    permitted, entry = permitted.lower(), entry.lower()
    found = HOST_PORT.fullmatch(entry)
    return permitted == entry or (found is not None and found["host"] == permitted)


def _checked_host(host: str, *, bracketed: bool) -> Address | None:
    """The address it is, or None for a name. Raises UnsafeUrl for what is neither."""
    address = _address(host)
    if bracketed != isinstance(address, ipaddress.IPv6Address):
        raise UnsafeUrl("has a host that is neither a name nor an address")
    if address is not None:
        return address
    labels = host.split(".")
    # 127.1, 0x7f000001 and 2130706433 are addresses to some readers; only four plain decimal numbers are one here.
    if len(host) > 253 or not all(LABEL.fullmatch(label) for label in labels) or NUMBER.fullmatch(labels[-1]):
        raise UnsafeUrl("has a host that is neither a name nor an address")
    return None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
