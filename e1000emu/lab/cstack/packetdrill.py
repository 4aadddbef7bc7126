"""packetdrill's host, whose virtual time is advanced by the script.

packetdrill reads the time in a loop until an event is due, sleeps, or waits for the next packet
that the host sends. So each read of the time takes 1 µs, a sleep runs timers, and a wait for a
packet advances to the next timer. Blocking calls are made by a second thread of packetdrill. After
it is woken, time is stopped until that thread has read the time, which packetdrill does first.
Otherwise the main thread would advance time between the event and its time stamp.

A script's commands run on the machine, and sysctls that they have set are read from /proc/sys. With
the flag commands=host they are programs of the host (stack.api.programs), so that `ip`, `tc` and
`nstat` work on the host. That takes four times as long.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.lab.cstack import PACKETDRILL
from e1000emu.lab.cstack.face import Face
from e1000emu.lab.cstack.host import Tun, connect, read_text
from fastpath.base.seccomp import read_memory, write_memory
from stack.api.programs.program import start
from stack.core.errors import os_error
from stack.host import Host
from stack.ipv4.sysctl_names import SYSCTLS

START_NS = 1_000_000_000
PATIENCE_MS = 1000
"""Real time that a woken thread may take to read the time, as in packetdrill."""
SILENCE_NS = 1_000_000_000_000
"""Virtual time without a packet after which a wait for one is given up."""
SYSCTL_DIR = Path("/proc/sys")
INTERFACE = "tun0"
SHELL = "/bin/sh"
MACHINE_KNOBS = frozenset({"tcp_mem", "udp_mem", "tcp_max_orphans", "tcp_max_tw_buckets"})
"""Sysctls that depend on memory size, so they are not taken from the machine."""


def asleep(thread: int) -> bool:
    """Whether a thread of this process sleeps, or has ended."""
    try:
        stat = Path(f"/proc/self/task/{thread}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(") ")[2][0] == "S"


class Packetdrill:
    """The one host of a run. `call` is called from C."""

    def __init__(self) -> None:
        self._moved = threading.Condition(threading.RLock())
        self._sleepers: dict[int, Callable[[], bool]] = {}
        """By thread: the condition that it waits for."""
        self._owed: set[int] = set()
        """Threads that are awake and have not read the time yet."""
        self._returning: dict[int, int] = {}
        """By the number of a thread that has then: how often it was seen asleep since."""
        self._seen: dict[Path, str] = {}
        self._children = -1
        """Page faults of all commands that have ended."""
        self._clock = VirtualClock(START_NS, epoch_ns=0)  # wall time is gettimeofday()'s
        self._mss = 0
        """Bytes of a segment, several of which one packet of a script may be."""
        self._host: Host
        self._tun: Tun
        self._face: Face

    def call(self, name: str, args: tuple[int, ...]) -> int:
        """One function of packetdrill's table. Raises: OSError."""
        with self._moved:
            if name in OWN:
                done: int = getattr(self, name)(args)
                return done
            self._read_sysctls()
            try:
                return self._face.call(name, args)
            finally:
                self._clock.run_until(self._clock.now_ns())

    def prepare(self, args: tuple[int, ...]) -> int:
        """Import all modules that a script needs, before the first fork."""
        with Host("warm", clock=VirtualClock()) as host:
            Tun(host, INTERFACE, 1500, None)
            host.ifconfig(INTERFACE, "192.0.2.1/24")
            with host.socket() as listener, host.socket() as client:
                listener.bind(("192.0.2.1", 80))
                listener.listen()
                client.connect(("192.0.2.1", 80))
                with listener.accept()[0] as server:
                    client.send(b"x")
                    server.recv(1)
        gc.collect()
        gc.freeze()  # a collection in a fork would copy all pages
        return 0

    def init(self, args: tuple[int, ...]) -> int:
        """Make the host as the flags say, with spaces between.

        addr=A/N, route=PREFIX, mtu=N, nic=MODEL, commands=host, and mss=N, which packetdrill keeps
        to itself. Whether `commands` is there.
        """
        words = read_text(args[0], "the flags").split() if args[0] else []
        pairs = [word.partition("=")[::2] for word in words]
        known = {"addr", "commands", "mss", "mtu", "nic", "route"}
        for name, value in pairs:
            if name not in known or not value or (name == "commands" and value != "host"):
                raise os_error(
                    errno.EINVAL,
                    f"--so_flags: {name!r}; give addr=, route=, mtu=, mss=, nic=, commands=host",
                )
        self._host = Host("packetdrill", clock=self._clock)
        self._read_sysctls()
        mtu = int(dict(pairs).get("mtu", 1500))
        self._mss = int(dict(pairs).get("mss", 0))
        self._tun = Tun(self._host, INTERFACE, mtu, dict(pairs).get("nic"))
        for name, value in pairs:
            if name == "addr":
                self._host.ifconfig(self._tun.name, value)
        for name, value in pairs:
            if name == "route":
                self._host.route_add(value, None, self._tun.name)
        self._face = Face(self._host, self._sleep, lambda _fd: os.eventfd(0), os.close)
        self._clock.run_for(START_NS)
        self._tun.sent.clear()
        return int("commands" in dict(pairs))

    def _read_sysctls(self) -> None:
        """Apply sysctls that a script's command has set in its namespace."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        if children == self._children:
            return  # no command has ended: each has page faults
        self._children = children
        for name, row in SYSCTLS.items():
            path = SYSCTL_DIR / row.full_name.replace(".", "/")
            if name in MACHINE_KNOBS or row.obsolete:
                continue
            try:
                text = path.read_text()
            except OSError:
                continue
            if self._seen.get(path) != text:
                self._seen[path] = text
                try:
                    self._host.sysctl[name] = text.strip()
                except (OSError, ValueError):
                    continue  # one that Linux only shows

    def system(self, args: tuple[int, ...]) -> int:
        """system(3) on the host, for a command of `args[1]` bytes: its wait status."""
        command = os.fsdecode(bytes(read_memory(os.getpid(), args[0], args[1])))
        with start(self._host, [SHELL, "-c", command]) as shell:
            if not self._run(self._clock.now_ns() + SILENCE_NS, lambda: shell.poll() is not None):
                shell.kill()
                raise os_error(errno.ETIMEDOUT, f"waits for ever: {command}")
        code = shell.returncode
        return -code if code < 0 else code << 8

    # --- time -----------------------------------------------------------------------------------

    def _sleep(self, cond: Callable[[], bool], timeout_ns: int | None) -> bool:
        """Wait in a call, while another thread advances time."""
        me = threading.get_ident()
        end = None if timeout_ns is None else self._clock.now_ns() + timeout_ns
        timer = None if end is None else self._clock.call_at(end, int)
        over = False

        def ready() -> bool:
            nonlocal over
            over = end is not None and self._clock.now_ns() >= end
            return over or cond()

        self._owed.discard(me)
        self._sleepers[me] = ready
        try:
            self._moved.notify_all()
            while not ready():
                self._moved.wait()
        finally:
            del self._sleepers[me]
            if timer is not None:
                timer.cancel()
        return bool(cond())

    def _wake(self) -> None:
        """Resume threads whose wait is over, and stop time until they have read it."""
        me = threading.get_ident()
        woken = {thread for thread, ready in self._sleepers.items() if ready()}
        if woken:
            self._owed |= woken
            self._moved.notify_all()
        if self._owed - {me}:
            self._moved.wait_for(lambda: not self._owed - {me}, PATIENCE_MS / 1000)
            self._owed.clear()

    def _run(self, until_ns: int, stop: Callable[[], bool] = bool) -> bool:
        """Run events one time after the other until then, or until `stop()`."""
        clock = self._clock
        while True:
            self._wake()
            if stop():
                return True
            when = clock.due_ns()
            if when is None or when > until_ns:
                clock.move_to(until_ns)
                return False
            clock.run_until(when)

    def gettimeofday(self, args: tuple[int, ...]) -> int:
        """The time in µs; the call takes 1 µs."""
        me = threading.get_ident()
        if me in self._owed:
            self._owed.discard(me)
            self._returning[threading.get_native_id()] = 0
            self._moved.notify_all()
        self._run(self._clock.now_ns() + 1000)
        return self._clock.now_ns() // 1000

    def usleep(self, args: tuple[int, ...]) -> int:
        """Sleep: the only call during which another thread can record the result of its call."""
        self._run(self._clock.now_ns() + args[0] * 1000)
        for _ in range(PATIENCE_MS):
            if not self._returning:
                break
            self._moved.wait(0.001)
            for thread, seen in list(self._returning.items()):
                if not asleep(thread):
                    self._returning[thread] = 0
                elif seen:
                    del self._returning[thread]
                else:  # perhaps it only waits for the interpreter
                    self._returning[thread] = 1
        self._returning.clear()
        return 0

    # --- packets --------------------------------------------------------------------------------

    def netdev_send(self, args: tuple[int, ...]) -> int:
        """The host receives a packet."""
        self._read_sysctls()
        self._tun.receive(bytes(read_memory(os.getpid(), args[0], args[1])), self._mss)
        self._run(self._clock.now_ns())
        return 0

    def netdev_receive(self, args: tuple[int, ...]) -> int:
        """Wait for the next packet of the host's. Without one the process ends."""
        sent = self._tun.sent
        if not self._run(self._clock.now_ns() + SILENCE_NS, lambda: bool(sent)):
            print("e1000packetdrill: the host sends nothing more", file=sys.stderr, flush=True)
            os._exit(1)
        when, packet = sent.popleft()
        pid = os.getpid()
        (room,) = struct.unpack("=Q", read_memory(pid, args[1], 8))
        write_memory(pid, args[0], packet[:room])
        write_memory(pid, args[1], struct.pack("=Q", min(len(packet), room)))
        write_memory(pid, args[2], struct.pack("=q", when // 1000))
        return 0


OWN = {"gettimeofday", "init", "netdev_receive", "netdev_send", "prepare", "system", "usleep"}


def serve(ffi: Any, lib: Any) -> None:
    """Called once, when Python starts."""
    connect(ffi, lib, PACKETDRILL, Packetdrill().call)
