"""Sets routes in the network namespace at descriptor 3, unless that is the host's. See the package for the protocol."""

import importlib
import ipaddress
import json
import os
import socket
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from runtime.linux import syscalls
from runtime.routes import NETNS_FD

_OURS = "/proc/self/ns/net"
_HOSTS = "/proc/1/ns/net"
"""Namespaces in which no route is set: ours, which is containerd's and so that of every hostNetwork pod, and the
host's, in case containerd runs in another. Reading PID 1's link takes all of PID 1's capabilities (ptrace(2),
PTRACE_MODE_READ), which a nested containerd may lack. Then it cannot join that namespace either, and its own is the one
that counts."""

_LINK_UP = 0x1  # IFF_UP, <linux/if.h>
_LOOPBACK = 0x8  # IFF_LOOPBACK


class Failed(Exception):
    """The routes could not be set. The message is for people."""


def _is_hosts(netns: int) -> bool:
    off_limits = [os.stat(_OURS)]
    with suppress(PermissionError):
        off_limits.append(os.stat(_HOSTS))
    return any(os.path.samestat(os.fstat(netns), one) for one in off_limits)


def _device(ip: Any, via: str) -> int:
    """The index of the only device that a link-local gateway can be behind. Raises Failed unless there is just one."""
    links = [one["index"] for one in ip.get_links() if one["flags"] & _LINK_UP and not one["flags"] & _LOOPBACK]
    if len(links) != 1:
        raise Failed(f"via {via}: found {len(links)} devices, allowed one where the gateway is a link-local address")
    index: int = links[0]
    return index


def _replace(ip: Any, to: str, via: str) -> None:
    """Add the route, or replace one with this destination: a second call changes nothing."""
    gateway = ipaddress.ip_address(via)
    family = socket.AF_INET6 if gateway.version == 6 else socket.AF_INET
    destination = "default" if to in ("default", "0.0.0.0/0", "::/0") else str(ipaddress.ip_network(to))
    through = {"oif": _device(ip, via)} if gateway.version == 6 and gateway.is_link_local else {}
    ip.route("replace", dst=destination, gateway=str(gateway), family=family, **through)


def _reason(err: Exception) -> str:
    code = getattr(err, "code", None) or getattr(err, "errno", None)
    hints = {101: ": no address of the pod is on the gateway's network", 113: ": the gateway cannot be reached"}
    return f"{os.strerror(code).lower()}{hints.get(code, '')}" if isinstance(code, int) else str(err)


def _import_without(*names: str) -> None:
    """Provide empty modules where the interpreter lacks some that pyroute2 imports and that nothing here uses.

    A release's interpreter has neither OpenSSL nor SQLite (hack/build-python.sh).
    """
    importlib.import_module("asyncio")  # before the stand-ins: it takes an `ssl` that exists for one that works
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)


def _apply(routes: list[Mapping[str, str]]) -> int:
    _import_without("ssl", "sqlite3")
    from pyroute2.iproute.linux import IPRoute  # type: ignore[import-untyped]
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

    with IPRoute() as ip:
        for route in routes:
            to, via = route["to"], route["via"]
            try:
                _replace(ip, to, via)
            except Failed as err:
                raise Failed(f"to {to} {err}") from err
            except (NetlinkError, OSError) as err:
                raise Failed(f"to {to} via {via}: {_reason(err)}") from err
    return len(routes)


def answer(asked: bytes, netns: int = NETNS_FD) -> dict[str, object]:
    """Set the routes that are asked for. This process is in the other network namespace afterwards."""
    try:
        if _is_hosts(netns):
            return {"skipped": "the network namespace is the host's"}
        routes = json.loads(asked)["routes"]
        syscalls.setns(netns, syscalls.CLONE_NEWNET)
        return {"applied": _apply(routes)}
    except Failed as err:
        return {"error": str(err)}
    except (OSError, ValueError, KeyError, TypeError, ImportError) as err:
        return {"error": f"{type(err).__name__}: {err}"}


def main() -> int:
    """Read the question from standard input, print the answer. Status 1 where that is an error."""
    said = answer(sys.stdin.buffer.read())
    sys.stdout.write(json.dumps(said))
    return 1 if "error" in said else 0


if __name__ == "__main__":
    sys.exit(main())
