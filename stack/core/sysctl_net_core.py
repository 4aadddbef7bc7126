"""Sysctls as data: the type of a row, the check of written values, the rows of net.core.

kernel/sysctl.c, net/core/sysctl_net_core.c. A row is one file of /proc/sys. A value that Linux
rejects there is rejected here with the same errno.
"""

from __future__ import annotations

import errno
import operator
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastpath.errors import E1000Error
from stack.core.sk_mem import SOCK_MIN_SNDBUF
from stack.core.sock import SOCK_MIN_RCVBUF

INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
LONG_MAX = (1 << 63) - 1

NUMBER, NAME, NAMES, PORTS, KEYS = "number", "name", "names", "ports", "keys"
NUMERAL = re.compile("[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
NO_KEY = "00000000-00000000-00000000-00000000"


class SysctlError(E1000Error, OSError):
    """A sysctl that does not exist (ENOENT) or is read-only (EACCES), or a value out of its range
    (EINVAL), as in /proc."""


def kstrtol(text: str) -> int:
    """lib/kstrtox.c with base 0: decimal, hexadecimal with 0x, octal with 0. Raises: ValueError."""
    if not NUMERAL.fullmatch(text):
        raise ValueError(f"no number: {text!r}")
    octal = text.lstrip("+-")[:1] == "0" and "x" not in text.lower()
    return int(text, 8 if octal else 0)


def ranges(numbers: Collection[int], to: str = "-", then: str = ",") -> str:
    """`0-1,3-127`, as proc_do_large_bitmap shows numbers."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and parts[-1][1] == n - 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return then.join(str(a) if a == b else f"{a}{to}{b}" for a, b in parts)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """One knob: the file `name` in the directory `path` (dotted).

    `machine`: one setting for all namespaces of a machine, a file of its first namespace only.
    `default` is a value, or a function of the host's memory in bytes. The value is `count` numbers
    from `low` to `high`, a NAME, NAMES separated by blanks, a set of PORTS, or KEYS in hex.
    `obsolete` says why it has no effect, also on Linux. `mode` are the file's permissions: 0o444:
    it shows a state, 0o200: a write triggers an action.
    """

    path: str
    name: str
    default: Any
    what: str
    low: int = INT_MIN
    high: int = INT_MAX
    count: int = 1
    kind: str = NUMBER
    obsolete: str = ""
    mode: int = 0o644
    machine: bool = False

    @property
    def full_name(self) -> str:
        """`net.ipv4.tcp_sack`."""
        return f"{self.path}.{self.name}"

    def takes(self) -> str:
        """Return the values that may be written, in words."""
        if not self.mode & 0o200:
            return "nothing: it is only read"
        if self.kind == NAME:
            return "a name"
        if self.kind == NAMES:
            return "names"
        if self.kind == KEYS:
            return f'keys of 128 bits, "{NO_KEY}", one or two with a comma'
        if self.kind == PORTS:
            return 'numbers and ranges, "8080,9000-9010"'
        of = f"{self.count} numbers, " if self.count > 1 else ""
        if (self.low, self.high) == (INT_MIN, INT_MAX):
            return f"{of}any int of 32 bits"
        if self.high in (INT_MAX, UINT_MAX, LONG_MAX):
            return f"{of}{self.low} or more"
        return f"{of}{self.low} to {self.high}"

    def shown(self, value: Any) -> str:
        """Return a value as in the sysctl's file, without the newline."""
        if self.kind == PORTS:
            return ranges(value)
        if isinstance(value, tuple):
            return "\t".join(map(str, value))
        return str(int(value)) if isinstance(value, bool) else str(value)

    def wrong(self, value: Any, why: str = "") -> SysctlError:
        """Return the error about an invalid value."""
        why = why or f"it takes {self.takes()}"
        return SysctlError(errno.EINVAL, f"sysctl {self.full_name}={value!r}: {why}")

    def parse(self, value: Any) -> Any:
        """Convert `value`, which may be text as for `sysctl -w`, to the stored value.

        Raises: SysctlError EINVAL, EACCES.
        """
        if not self.mode & 0o200:
            raise SysctlError(errno.EACCES, f"sysctl {self.full_name}: it is only read")
        if self.kind in (NAME, NAMES):
            if not isinstance(value, str):
                raise self.wrong(value)
            return value if self.kind == NAME else " ".join(value.split())
        if self.kind == KEYS:
            return self._keys(value)
        if self.kind == PORTS:
            return self._ports(value)
        if self.count == 1:
            return self._number(value)
        parts = value.split() if isinstance(value, str) else value
        if not isinstance(parts, Iterable) or len(parts := tuple(parts)) != self.count:
            raise self.wrong(value)
        return tuple(self._number(part, value) for part in parts)

    def _number(self, value: Any, whole: Any = None) -> int:
        """proc_dointvec_minmax for one number; `whole` is its vector, for the message."""
        shown = value if whole is None else whole
        try:
            number = kstrtol(value.strip()) if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError):
            raise self.wrong(shown) from None
        if not self.low <= number <= self.high:
            raise self.wrong(shown)
        return number

    def _keys(self, value: Any) -> str:
        """proc_tcp_fastopen_key: one key or two, each as four words of 32 bits."""
        keys = value.strip().split(",") if isinstance(value, str) else ()
        words = [key.split("-") for key in keys]
        good = len(keys) in (1, 2) and all(
            len(key) == 4 and all(re.fullmatch("[0-9a-fA-F]{1,8}", word) for word in key)
            for key in words
        )
        if not good:
            raise self.wrong(value)
        return ",".join("-".join(f"{int(word, 16):08x}" for word in key) for key in words)

    def _ports(self, value: Any) -> frozenset[int]:
        """proc_do_large_bitmap: numbers and ranges with commas between, or an iterable of ints."""
        ports: set[int] = set()
        try:
            if isinstance(value, str):
                for part in filter(None, value.replace("\n", "").split(",")):
                    first, dash, last = part.partition("-")
                    ports.update(range(int(first), (int(last) if dash else int(first)) + 1))
            else:
                ports.update(map(operator.index, value))
        except (TypeError, ValueError):
            raise self.wrong(value) from None
        if ports and not (min(ports) >= self.low and max(ports) <= self.high):
            raise self.wrong(value)
        return frozenset(ports)


_core = partial(Sysctl, "net.core")

NET_VRF = (Sysctl("net.vrf", "strict_mode", 0, "no two VRFs have the same table", 0, 1),)
"""drivers/net/vrf.c"""
NET_UNIX = (
    Sysctl(
        "net.unix",
        "max_dgram_qlen",
        10,
        "datagrams that an AF_UNIX socket queues before its senders block",
    ),
)

NET_CORE = (
    _core(
        "default_qdisc",
        "pfifo_fast",
        "discipline of an interface that comes up without one of its own",
        kind=NAME,
        machine=True,
    ),
    _core("dev_weight", 64, "packets of the backlog that one poll takes", 1, machine=True),
    _core(
        "gro_normal_batch",
        8,
        "packets that NAPI gathers before it passes them up as one list",
        1,
        machine=True,
    ),
    _core("netdev_budget", 300, "packets that one run of NET_RX_SOFTIRQ takes", machine=True),
    _core(
        "netdev_max_backlog",
        1000,
        "packets that wait in the backlog (loopback, RPS)",
        machine=True,
    ),
    _core("optmem_max", 131072, "bytes of options and control messages of a socket", 0),
    _core("rmem_default", 212992, "receive buffer of a new socket, bytes", SOCK_MIN_RCVBUF),
    _core("rmem_max", 212992, "largest SO_RCVBUF, bytes", SOCK_MIN_RCVBUF),
    _core("somaxconn", 4096, "longest backlog of listen()", 0),
    _core(
        "tstamp_allow_data",
        1,
        "time stamps of sent packets may come with the packet (SO_TIMESTAMPING)",
        0,
        1,
    ),
    _core("wmem_default", 212992, "send buffer of a new socket, bytes", SOCK_MIN_SNDBUF),
    _core("wmem_max", 212992, "largest SO_SNDBUF, bytes", SOCK_MIN_SNDBUF),
)
