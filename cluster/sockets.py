"""Which TCP sockets a tree of processes listens on, read from /proc.

Source: proc_net_tcp(5): addresses are hexadecimal 32-bit words in the byte order of the machine; state 0A is
LISTEN; the inode leads to the process that holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

PROC = Path("/proc")
_LISTEN = "0A"
_WORD = 8  # hexadecimal digits of 32 bits


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ListeningSocket:
    """A socket and the process that holds it. `process` is the kernel's short name, such as `raylet`."""

    port: int
    address: str
    pid: int
    process: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        address = ip_address(self.address)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback


def process_tree(pid: int) -> frozenset[int]:
    """Return `pid` and every process below it that is alive."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    tree, todo = {pid}, [pid]
    while todo:
        below = children.get(todo.pop(), [])
        tree.update(below)
        todo += below
    return frozenset(tree)


def listening_sockets(pids: Iterable[int]) -> tuple[ListeningSocket, ...]:
    """Return the TCP sockets that any of `pids` listens on, by port; those of other users are not seen."""
    sockets = _listening_inodes()
    found = {
        ListeningSocket(port=port, address=str(address), pid=pid, process=_name(pid))
        for pid in pids
        for inode in _inodes(pid)
        if inode in sockets
        for address, port in [sockets[inode]]
    }
    return tuple(sorted(found))


def _parents() -> Iterator[tuple[int, int]]:
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        yield int(stat.parent.name), int(after_name[1])


def _listening_inodes() -> dict[str, tuple[IPv4Address | IPv6Address, int]]:
    found = {}
    for table in ("net/tcp", "net/tcp6"):
        for line in (PROC / table).read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if columns[3] == _LISTEN:
                found[columns[9]] = _socket_address(columns[1])
    return found


def _socket_address(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    digits, _, port = text.partition(":")
    words = (digits[start : start + _WORD] for start in range(0, len(digits), _WORD))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return ip_address(packed), int(port, 16)


def _inodes(pid: int) -> Iterator[str]:
    """Yield the inodes of the sockets that a process holds open."""
    try:
        for descriptor in (PROC / str(pid) / "fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return  # it ended, or is not ours to look into


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "ended"
