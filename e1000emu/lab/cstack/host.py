"""The Python half of ``libe1000stack.so``: clocks, hosts and tuns by number, and their calls.

All arguments are numbers, possibly invalid. Addresses are read by process_vm_readv(2).
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from e1000emu.clock import ClockError, SimulationDeadlock, VirtualClock
from e1000emu.embed.capi.build import Library, fingerprint
from e1000emu.errors import E1000Error
from e1000emu.lab.cstack import STACK
from e1000emu.lab.cstack.face import Face
from e1000emu.lab.hosts import add_nic
from e1000emu.links import Impair, pair, pool
from fastpath.base.batch import FrameBatch
from fastpath.base.seccomp import read_memory, write_memory
from stack.api.programs.files import string_at
from stack.core.dev import dev_change_name
from stack.core.errors import os_error
from stack.core.netdevice import IFF_NOARP
from stack.host import Host

CALL_ARGS = 7
"""call.h has it."""
MAX_NS = (1 << 63) - 1
MAX_PACKET = 65_535
MIN_PACKET = 20
ETH_HLEN, ETH_ZLEN, ETH_P_IP, ETH_P_IPV6 = 14, 60, 0x0800, 0x86DD
LINK_OPTIONS = struct.Struct("=QQdII")
TIME = struct.Struct("=QQQ")
"""struct e1000stack_time: two functions and their argument."""
NEVER = (1 << 64) - 1
IPV6_VERSION, IPV6_HLEN = 6, 40


class Tun:
    """The program's end of an interface that carries IP packets: a link of e1000emu.links' shape.

    The interface is a TAP without ARP, or with `model` an emulated NIC and its driver. Packets to
    groups (listener reports, router solicitations) are dropped, because there is no network.
    """

    carrier = True
    speed_mbps = 1000

    def __init__(self, host: Host, name: str, mtu: int, model: str | None = None) -> None:
        self.host = host
        self.sent: deque[tuple[int, bytes]] = deque()
        """(time in ns, packet)."""
        self._port: Any = None
        if model is None:
            self._dev = host.add_tap(name, self, mtu=mtu)
        else:
            add_nic(host, self, model=model, mtu=mtu)
            self._dev = host.dev_by_name[next(iter(host.nics))]
            dev_change_name(self._dev, name)
        self._shortest = ETH_ZLEN if model else 0
        self._dev.flags |= IFF_NOARP
        self.name: str = self._dev.name
        host.ifconfig(self.name, up=True)

    def attach(self, port: Any) -> None:
        """Take the interface's port."""
        self._port = port

    def detach(self) -> None:
        """Detach the port."""
        self._port = None

    def tx_room(self) -> int:
        """There is always room."""
        return MAX_PACKET

    def transmit(self, batch: FrameBatch) -> None:
        """Keep the packets with their time. Takes ownership of `batch`."""
        now = self.host.clock.now_ns()
        for frame in batch:
            if not frame[0] & 1:
                self.sent.append((now, unpadded(frame[ETH_HLEN:])))
        pool.put(batch)

    def receive(self, packet: bytes, gso_size: int = 0) -> None:
        """Pass a packet to the host. Raises: OSError EINVAL, ENETDOWN.

        `gso_size`: of TCP, segments of so many bytes in one packet, which no NIC receives.
        """
        if not MIN_PACKET <= len(packet) <= MAX_PACKET:
            raise os_error(errno.EINVAL, f"a packet of {len(packet)} bytes")
        if self._port is None:
            raise os_error(errno.ENETDOWN, "the interface is gone")
        kind = ETH_P_IPV6 if packet[0] >> 4 == IPV6_VERSION else ETH_P_IP
        header = self._dev.dev_addr + bytes(6) + kind.to_bytes(2, "big")
        frame = (header + packet).ljust(self._shortest, b"\0")
        if gso_size and not self._shortest:
            self._port.receive_gso(frame, gso_size)
        else:
            self._port.receive(FrameBatch([frame]), 0, False)

    def rx_ready(self) -> None:
        """No batch is held."""


def unpadded(packet: bytes) -> bytes:
    """An IP packet without the padding of its frame."""
    if packet[0] >> 4 == IPV6_VERSION:
        return packet[: IPV6_HLEN + int.from_bytes(packet[4:6], "big")]
    return packet[: int.from_bytes(packet[2:4], "big")]


def read_text(addr: int, what: str) -> str:
    """A string with its NUL. Raises: OSError EFAULT, EINVAL."""
    text = string_at(os.getpid(), addr)
    if text is None:
        raise os_error(errno.EINVAL, f"{what} has no end")
    return text.decode("utf-8", "replace")


class ProgramTime(VirtualClock):
    """A clock that follows the program's: struct e1000stack_time."""

    __slots__ = ("_ask", "_asked", "_read", "_seen")

    def __init__(self, read: Callable[[], int], ask: Callable[[int], None]) -> None:
        """`read()` is the program's time in ns; `ask(when_ns)` requests a call at that time."""
        self._seen = start = read()
        if start > MAX_NS >> 1:
            raise os_error(errno.EINVAL, f"the program's time begins at {start} ns")
        super().__init__(start)
        self._read = read
        self._ask = ask
        self._asked = NEVER

    def follow(self) -> None:
        """Run events due by the program's time. Raises: OSError EINVAL, it went back."""
        when = self._read()
        if not self._seen <= when < MAX_NS:
            raise os_error(errno.EINVAL, f"the program's time is {when} ns, after {self._seen} ns")
        self._seen = when
        self.run_until(when)

    def ask(self) -> None:
        """Report when the next event is due, if that has changed."""
        due = self.due_ns()
        when = NEVER if due is None else due
        if when != self._asked:
            self._asked = when
            self._ask(when)

    def wait(self, cond: Callable[[], bool], timeout_ns: int | None = None) -> bool:
        """Time does not pass in a call. Raises: OSError EDEADLK, unless `cond()`."""
        if not cond() and timeout_ns != 0:
            raise os_error(errno.EDEADLK, "time is the program's, and passes in no call")
        return cond()


Made = TypeVar("Made")


def _found(made: dict[int, Made], number: int, what: str) -> Made:
    try:
        return made[number]
    except KeyError:
        raise os_error(errno.EBADF, f"there is no {what} {number}") from None


class Hosts:
    """All objects that the process has created. `call` is called from C."""

    def __init__(self, ffi: Any) -> None:
        """`ffi` calls the program's functions."""
        self._ffi = ffi
        self._lock = threading.RLock()
        self._clocks: dict[int, VirtualClock] = {}
        self._faces: dict[int, Face] = {}
        self._tuns: dict[int, Tun] = {}
        self._last = 0

    def call(self, name: str, args: tuple[int, ...]) -> int:
        """One function of e1000stack.h. Raises: OSError, E1000Error."""
        with self._lock:
            makes = name in ("clock", "callback_clock")  # no number of ours comes first
            theirs = None if makes else self._program_time(args[0])
            if theirs is None:
                return self._call(name, args)
            theirs.follow()
            try:
                return self._call(name, args)
            finally:
                theirs.ask()

    def _call(self, name: str, args: tuple[int, ...]) -> int:
        own: Callable[..., int | None] | None = OWN.get(name)
        if own is None:
            return self._face(args[0]).call(name, args[1:])
        return own(self, *args[: own.__code__.co_argcount - 1]) or 0

    def _program_time(self, number: int) -> ProgramTime | None:
        """The clock of a clock, host or tun, if it follows the program's."""
        made = self._faces.get(number) or self._tuns.get(number)
        clock = self._clocks.get(number) if made is None else made.host.clock
        return clock if isinstance(clock, ProgramTime) else None

    def _keep(self, made: dict[int, Made], new: Made) -> int:
        """Assign the next number to a new object."""
        self._last += 1
        made[self._last] = new
        return self._last

    def _clock(self, number: int) -> VirtualClock:
        return _found(self._clocks, number, "clock")

    def _face(self, number: int) -> Face:
        return _found(self._faces, number, "host")

    def _tun(self, number: int) -> Tun:
        return _found(self._tuns, number, "tun")

    # --- time -----------------------------------------------------------------------------------

    def clock(self, start_ns: int) -> int:
        """Make a clock."""
        if not 0 <= start_ns < MAX_NS >> 1:
            raise os_error(errno.EINVAL, f"a start at {start_ns} ns")
        return self._keep(self._clocks, VirtualClock(start_ns))

    def callback_clock(self, addr: int) -> int:
        """Make a clock that follows the program's."""
        now, due, data = TIME.unpack(bytes(read_memory(os.getpid(), addr, TIME.size)))
        if not now or not due:
            raise os_error(errno.EINVAL, "a time without `now` or `due`")
        cast = self._ffi.cast
        their_data = cast("void *", data)
        their_now = cast("uint64_t (*)(void *)", now)
        their_due = cast("void (*)(void *, uint64_t)", due)
        clock = ProgramTime(lambda: their_now(their_data), lambda when: their_due(their_data, when))
        return self._keep(self._clocks, clock)

    def run(self, number: int) -> None:
        """Run events due by the program's time: `call` has done so."""
        if not isinstance(self._clock(number), ProgramTime):
            raise os_error(errno.EINVAL, "the clock is not the program's")

    def clock_close(self, number: int) -> None:
        """Close a clock and its hosts."""
        clock = self._clock(number)
        for host in [n for n, face in self._faces.items() if face.host.clock is clock]:
            self.host_close(host)
        clock.close()
        del self._clocks[number]

    def now(self, number: int, addr: int) -> None:
        """The time."""
        write_memory(os.getpid(), addr, struct.pack("=Q", self._clock(number).now_ns()))

    def next(self, number: int, addr: int) -> None:
        """When the next event is due."""
        when = self._clock(number).due_ns()
        if when is None:
            raise os_error(errno.ENOENT, "nothing happens by itself")
        write_memory(os.getpid(), addr, struct.pack("=Q", when))

    def run_until(self, number: int, when_ns: int) -> None:
        """Run events due until then."""
        if not 0 <= when_ns < MAX_NS:
            raise os_error(errno.EINVAL, f"a time of {when_ns & NEVER} ns")
        clock = self._clock(number)
        if isinstance(clock, ProgramTime):
            raise os_error(errno.EINVAL, "the time is the program's")
        clock.run_until(when_ns)

    # --- hosts ----------------------------------------------------------------------------------

    def host(self, number: int, name: int) -> int:
        """Make a host."""
        clock = self._clock(number)
        host = Host(read_text(name, "the host's name"), clock=clock)
        return self._keep(self._faces, Face(host, clock.wait))

    def host_close(self, number: int) -> None:
        """Close a host with its tuns."""
        host = self._face(number).host
        del self._faces[number]
        for tun in [n for n, tun in self._tuns.items() if tun.host is host]:
            del self._tuns[tun]
        host.close()

    def sysctl(self, number: int, name: int, value: int) -> None:
        """Set a knob."""
        host = self._face(number).host
        host.sysctl[read_text(name, "the knob's name")] = read_text(value, "the value")

    def link(self, a: int, name_a: int, b: int, name_b: int, options: int) -> None:
        """Connect two hosts."""
        hosts = self._face(a).host, self._face(b).host
        names = read_text(name_a, "name_a"), read_text(name_b, "name_b")
        if hosts[0].clock is not hosts[1].clock:
            raise os_error(errno.EXDEV, "the hosts are on different clocks")
        room = bytes(read_memory(os.getpid(), options, LINK_OPTIONS.size)) if options else None
        delay, rate, loss, seed, mtu = LINK_OPTIONS.unpack(room) if room else (0, 0, 0.0, 0, 0)
        ends: list[Any] = list(pair(clock=hosts[0].clock, latency_ns=delay, rate_bps=rate or None))
        if loss:
            ends[0] = Impair(ends[0], clock=hosts[0].clock, loss=loss, seed=seed)
        for host, name, end in zip(hosts, names, ends, strict=True):
            host.add_tap(name, end, mtu=mtu or None, up=True)

    def tun(self, number: int, name: int, mtu: int) -> int:
        """Make an interface that carries packets."""
        host = self._face(number).host
        tun = Tun(host, read_text(name, "the interface's name"), mtu or 1500)
        return self._keep(self._tuns, tun)

    def tun_send(self, number: int, addr: int, size: int) -> None:
        """Pass a packet to the host."""
        tun = self._tun(number)
        if not 0 <= size <= MAX_PACKET:
            raise os_error(errno.EINVAL, f"a packet of {size} bytes")
        tun.receive(bytes(read_memory(os.getpid(), addr, size)))

    def tun_receive(self, number: int, addr: int, room: int, when: int) -> int:
        """Return a packet from the host."""
        tun = self._tun(number)
        if not tun.sent:
            raise BlockingIOError(errno.EAGAIN, "no packet")
        sent_ns, packet = tun.sent[0]
        if not 0 <= len(packet) <= room:
            raise os_error(errno.EMSGSIZE, f"a packet of {len(packet)} bytes, room for {room}")
        write_memory(os.getpid(), addr, packet)
        if when:
            write_memory(os.getpid(), when, struct.pack("=Q", sent_ns))
        tun.sent.popleft()
        return len(packet)

    def addr(self, number: int, name: int, text: int) -> None:
        """Add an address."""
        host = self._face(number).host
        host.ifconfig(read_text(name, "the interface's name"), read_text(text, "the address"))

    def route(self, number: int, prefix: int, via: int, name: int) -> None:
        """Add a route."""
        host = self._face(number).host
        gateway = read_text(via, "the gateway") if via else None
        dev = read_text(name, "the interface's name") if name else None
        host.route_add(read_text(prefix, "the prefix"), gateway, dev)


OWN: dict[str, Any] = {
    own.__name__: own
    for own in (
        *(Hosts.addr, Hosts.callback_clock, Hosts.clock, Hosts.clock_close, Hosts.host),
        *(Hosts.host_close, Hosts.link, Hosts.next, Hosts.now, Hosts.route, Hosts.run),
        *(Hosts.run_until, Hosts.sysctl, Hosts.tun, Hosts.tun_receive, Hosts.tun_send),
    )
}
"""What is not a call of Linux on a host."""


def errno_of(error: BaseException) -> int:
    """The errno for an exception."""
    match error:
        case OSError() if error.errno:
            return error.errno
        case SimulationDeadlock():
            return errno.EDEADLK
        case ClockError():
            return errno.EBUSY
        case MemoryError():
            return errno.ENOMEM
        case KeyError():
            return errno.ENOSYS
        case E1000Error() | ValueError() | OverflowError() | TypeError():
            return errno.EINVAL
    return errno.EIO


def connect(ffi: Any, lib: Any, library: Library, call: Callable[..., int]) -> None:
    """Let C call `call(name, args)`. Raises: E1000Error, the C half is of another version."""
    if ffi.string(lib.shim_fingerprint()).decode() != fingerprint(library):
        raise E1000Error(
            f"{library.file} was built from another version of e1000emu than the one that Python "
            f"finds ({__file__}); build it again"
        )

    def py_call(name: Any, args: Any) -> int:
        code = errno.EIO
        try:
            said = ffi.string(name).decode()
            return call(said, tuple(ffi.unpack(args, CALL_ARGS)))
        except BlockingIOError as error:
            return -(error.errno or errno.EAGAIN)
        except BaseException as error:
            code = errno_of(error)
            unexpected = f"{type(error).__name__}: " if code == errno.EIO else ""
            lib.shim_error(-code, f"{said}: {unexpected}{error}".encode("utf-8", "replace"))
            return -code

    ffi.def_extern("py_call", error=-errno.EIO)(py_call)
    lib.shim_served()


def serve(ffi: Any, lib: Any) -> None:
    """Called once, when Python starts."""
    connect(ffi, lib, STACK, Hosts(ffi).call)
