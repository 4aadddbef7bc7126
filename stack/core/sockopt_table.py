"""Socket options as rows: setsockopt, getsockopt, docs/knobs.md and stack.api.sockopts read them.

    TCP_LEVEL = Level("IPPROTO_TCP", SOL_TCP, vars(tcp_sock), (
        switch("TCP_INQ", "recvmsg_inq", "bytes still waiting, as a control message", legal=ON_OFF),
        number("TCP_SYNCNT", "icsk_syn_retries", range(1, 128), "SYN retransmissions", get=...),
        ...))

A row says how the user's value is decoded, which values are legal, and who may set them. It also
says where the value is kept: in a member of the sock, or behind a function. `set_option` and
`get_option` do what Linux's long switches do for every option. Each level's setsockopt and
getsockopt call them.

Option values are ints, or bytes in the layout that Linux uses on a 64-bit machine.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

from stack.core.errors import os_error
from stack.core.rows import replace, state
from stack.core.sock import ns_capable
from stack.core.uapi import CAP_NET_ADMIN

ORDER = sys.byteorder
M32 = 0xFFFFFFFF
OPTLEN_ANY = -1
"""optlen of a caller that takes a value of any size."""

ANY, TCP, UDP, RAW, UNIX = "any", "TCP", "UDP", "raw", "AF_UNIX"
RW, R, W = "get set", "get", "set"
ON_OFF = (0, 1)
ADMIN = (CAP_NET_ADMIN,)


# --- values as users give them ------------------------------------------------------------------


def opt_int(optval: Any) -> int:
    """The int of an option value. Raises: OSError EINVAL for fewer than 4 bytes."""
    if isinstance(optval, int):
        return int(optval)
    data = opt_bytes(optval)
    if len(data) < 4:
        raise os_error(errno.EINVAL, f"option value of {len(data)} bytes; an int has 4")
    return int.from_bytes(data[:4], ORDER, signed=True)


def opt_bytes(optval: Any) -> bytes:
    """The bytes of an option value; an int in the machine's order. Raises: OSError EINVAL."""
    if isinstance(optval, int):
        return int_bytes(optval & M32)
    try:
        return bytes(memoryview(optval))
    except TypeError as exc:
        raise os_error(errno.EINVAL, f"{type(optval).__name__} is no option value") from exc


def opt_struct(optval: Any, size: int) -> bytes:
    """The bytes of a structure. Raises: OSError EINVAL for fewer than `size`."""
    data = opt_bytes(optval)
    if len(data) < size:
        raise os_error(errno.EINVAL, f"the option takes a structure of {size} bytes")
    return data


def opt_u32(optval: Any) -> int:
    """The value of an option without a sign."""
    return opt_int(optval) & M32


def exact_int(optval: Any) -> int:
    """An int of 4 bytes and no more. Raises: OSError EINVAL."""
    if not isinstance(optval, int) and len(opt_bytes(optval)) != 4:
        raise os_error(errno.EINVAL, f"an int of {len(opt_bytes(optval))} bytes")
    return opt_int(optval)


def opt_raw(optval: Any) -> Any:
    """What the user gave: the setter decodes it."""
    return optval


def int_bytes(value: int) -> bytes:
    """An int as control messages and getsockopt carry it."""
    return struct.pack("=i", value - (1 << 32) if value > 0x7FFFFFFF else value)


def pack_opt(value: Any, optlen: int) -> bytes:
    """What getsockopt writes into a user's buffer of `optlen` bytes."""
    data = int_bytes(value) if isinstance(value, int) else bytes(value)
    return data[:optlen]


def swapped(ifindex: int) -> int:
    """The index of an interface in the other byte order: IP_UNICAST_IF has it in the network's."""
    return int.from_bytes((ifindex & M32).to_bytes(4, "little"), "big")


def swapped_int(optval: Any) -> int:
    """The index that an option value has in network order. Raises: OSError EINVAL."""
    return swapped(exact_int(optval))


# --- checks -------------------------------------------------------------------------------------


def only(member: str, values: Collection[int], err: int, text: str) -> Callable[[Any], None]:
    """A row's `has` or `may_set`: raises `err` unless the socket's `member` is among `values`."""
    read = attrgetter(member)

    def check(sk: Any) -> None:
        if read(sk) not in values:
            raise os_error(err, text)

    return check


def need_device(sk: Any, ifindex: int) -> None:
    """A row's `check`: the interface is there, or 0. Raises: OSError EADDRNOTAVAIL."""
    if ifindex and ifindex not in sk.net.dev_by_index:
        raise os_error(errno.EADDRNOTAVAIL, f"no device with index {ifindex}")


def need_capable(net: Any, caps: tuple[int, ...], what: str, denied: int = errno.EPERM) -> None:
    """Check that the caller has one of `caps`. Raises: OSError `denied`."""
    if not any(ns_capable(net, cap) for cap in caps):
        raise os_error(denied, f"{what}: the host's user is {net.uid}, not root")


# --- rows ---------------------------------------------------------------------------------------


@state
class SockOpt:
    """One socket option.

    `what`, `since` (the first Linux that has it, "" for those before 2.6) and `sockets` are for the
    reader. The rest is what `set_option` and `get_option` do, in this order:

    takes(optval)   decodes the value; EINVAL when it is too short
    has(sk)         raises when such a socket does not have the option, set or get
    may_set(sk)     raises when the option cannot be set now
    legal           the values there are; EINVAL for others; () for what is only read
    caps, free      one of these capabilities is needed for values that are not `free`
    denied          the errno without it
    check(sk, value)  raises when the value is not for this socket
    set(sk, value)  stores the value; without it `member` is set, or its `bit`
    then(sk)        called after a new value was set
    room            the least optlen of getsockopt, bytes; EINVAL below
    get(sk)         the value; without it that of `member`. A bool is read as 0 or 1
    fill(sk, optlen)  the value, where the size of the user's buffer counts
    shows(value)    what the user sees of `member`
    no_set          the errno of setsockopt for an option that is only read

    The level's table fills in `level`, `number`, `access` (RW, R or W), `get`, `owner` and `field`.
    `member` is a field of the sock or, dotted, of what it points to: `field` of `owner(sk)`. It
    counts in `unit` per unit of the option; a `switch` is a bool. With `bit` the option is on when
    the bits of `mask` (`bit` itself without a mask) are those of `bit`.
    """

    name: str
    what: str
    since: str = ""
    sockets: str = ANY
    takes: Callable[..., Any] | None = None
    has: Callable[..., Any] | None = None
    may_set: Callable[..., Any] | None = None
    legal: Collection[int] | None = None
    caps: tuple[int, ...] = ()
    free: Collection[int] = ()
    denied: int = errno.EPERM
    check: Callable[..., Any] | None = None
    member: str = ""
    bit: int = 0
    mask: int = 0
    unit: int = 1
    switch: bool = False
    set: Callable[..., Any] | None = None
    then: Callable[..., Any] | None = None
    room: int = 0
    get: Callable[..., Any] | None = None
    fill: Callable[..., Any] | None = None
    shows: Callable[..., Any] | None = None
    no_set: int = errno.ENOPROTOOPT
    level: int = -1
    number: int = -1
    access: str = R
    owner: Callable[..., Any] | None = None
    field: str = ""


def _access(row: SockOpt) -> str:
    """RW, R or W: what there is a way for."""
    readable = row.get or row.fill or row.member
    if row.set or row.then or (row.member and row.legal != ()):
        return RW if readable else W
    return R


def flag(name: str, bit: int, what: str, member: str = "sk_flags", **more: Any) -> SockOpt:
    """A row for one bit of a member."""
    return SockOpt(name, what, member=member, bit=bit, **more)


def switch(name: str, member: str, what: str, **more: Any) -> SockOpt:
    """A row for a member that is on or off."""
    return SockOpt(name, what, member=member, switch=True, **more)


def number(
    name: str, member: str, legal: Collection[int] | None, what: str, **more: Any
) -> SockOpt:
    """A row for a member that is a number."""
    return SockOpt(name, what, member=member, legal=legal, **more)


def fact(name: str, member: str, what: str, since: str = "") -> SockOpt:
    """A row for a member that is only read."""
    return SockOpt(name, what, since, member=member, legal=())


def structure(name: str, what: str, setter: Callable[..., Any], *first: Any) -> SockOpt:
    """A row that takes a structure and is only set; `first`: its setter's first arguments."""
    return SockOpt(name, what, takes=opt_raw, set=partial(setter, *first))


@state
class Level:
    """The options of one level of setsockopt, by number.

    `names` has their numbers. `takes` decodes the value of rows that do not say how. With
    `length_first` a value that is too short is EINVAL also for an option that does not exist.
    """

    name: str
    takes: Callable[[Any], Any]
    length_first: bool
    rows: dict[int, SockOpt]

    def __init__(
        self,
        name: str,
        level: int,
        names: Mapping[str, Any],
        rows: Iterable[SockOpt],
        takes: Callable[[Any], Any] = opt_int,
        length_first: bool = True,
    ) -> None:
        self.name = name
        self.takes = takes
        self.length_first = length_first
        self.rows = {}
        for row in rows:
            at = names[row.name.split()[0]]
            owner, _, field = row.member.rpartition(".")
            self.rows[at] = replace(
                row,
                level=level,
                number=at,
                takes=row.takes or takes,
                access=_access(row),
                get=row.get or (attrgetter(row.member) if row.member else None),
                mask=row.mask or row.bit,
                owner=attrgetter(owner) if owner else None,
                field=field,
            )

    def __iter__(self) -> Iterator[SockOpt]:
        return iter(self.rows.values())


# --- setsockopt and getsockopt ------------------------------------------------------------------


def set_option(level: Level, sk: Any, optname: int, optval: Any) -> None:
    """setsockopt of one level. Raises: OSError ENOPROTOOPT, EINVAL, EPERM, or the setter's."""
    row, val = option_value(level, optname, optval)
    apply_option(row, sk, val)


def option_value(level: Level, optname: int, optval: Any) -> tuple[SockOpt, Any]:
    """The row of an option to set, and the value for it. Raises: OSError ENOPROTOOPT, EINVAL."""
    row: SockOpt | None = level.rows.get(optname)
    if row is None or row.access == R:
        if level.length_first:
            level.takes(optval)
        if row is None:
            raise os_error(errno.ENOPROTOOPT, f"unknown {level.name} option {optname}")
        raise os_error(row.no_set, f"{row.name} can only be read")
    assert row.takes is not None
    return row, row.takes(optval)


def apply_option(row: SockOpt, sk: Any, val: Any) -> None:
    """Check a value and store it. Raises: OSError EINVAL, EPERM, or the setter's."""
    if row.has is not None:
        row.has(sk)
    if row.may_set is not None:
        row.may_set(sk)
    if row.legal is not None and val not in row.legal:
        raise os_error(errno.EINVAL, f"{row.name} cannot be {val}")
    if row.caps and val not in row.free:
        need_capable(sk.net, row.caps, row.name, row.denied)
    if row.check is not None:
        row.check(sk, val)
    if row.set is not None:
        row.set(sk, val)
    elif row.member:
        store(row, sk, val)
    if row.then is not None:
        row.then(sk)


def store(row: SockOpt, sk: Any, val: int) -> None:
    """Set the row's member."""
    owner = sk if row.owner is None else row.owner(sk)
    if row.bit:
        old: int = getattr(owner, row.field)
        setattr(owner, row.field, old | row.bit if val else old & ~row.bit)
    else:
        setattr(owner, row.field, bool(val) if row.switch else val * row.unit)


def get_option(level: Level, sk: Any, optname: int, optlen: int = OPTLEN_ANY) -> Any:
    """getsockopt of one level: an int or bytes. Raises: OSError ENOPROTOOPT, EINVAL, the getter's.

    `optlen` is the size of the caller's buffer, OPTLEN_ANY when any size fits.
    """
    row: SockOpt | None = level.rows.get(optname)
    if row is None or (row.get is None and row.fill is None):
        raise os_error(errno.ENOPROTOOPT, f"unknown {level.name} option {optname}")
    if 0 <= optlen < row.room:
        raise os_error(errno.EINVAL, f"{row.name}: room for {optlen} bytes is too little")
    if row.has is not None:
        row.has(sk)
    if row.get is None:
        assert row.fill is not None
        return row.fill(sk, optlen)
    value = row.get(sk)
    if row.bit:
        bits: int = value
        return 1 if bits & row.mask == row.bit else 0
    if row.unit != 1:
        value //= row.unit
    elif isinstance(value, bool):
        value = int(value)
    return value if row.shows is None else row.shows(value)
