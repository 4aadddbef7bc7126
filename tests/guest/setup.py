"""A guest on one side, a Linux in a namespace on the other, our NIC and a TAP between them.

Content is the decimal numbers, a line each: both sides can make it, and no stretch repeats, so a
lost, doubled or exchanged piece changes its SHA-256.
"""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from e1000emu.capture import PcapngWriter
from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.errors import E1000Error
from e1000emu.guest import GuestImage, GuestLinux, VfioUserNic, prepare
from e1000emu.links import Capture, Tap
from e1000emu.links.base import Middleware
from e1000emu.registers.regs import reg
from fastpath.base.batch import FrameBatch
from tests.linux.peer import DATA_PORT, LINUX, Peer, Worker, judged
from tests.support import Rig, in_ci, kept, quiet_ipv6

GUEST = "10.9.0.2"
VLAN_ID, VLAN_LINUX, VLAN_GUEST = 7, "10.9.7.1", "10.9.7.2"
MAC = bytes.fromhex("525400123456")
SO_RCVBUFFORCE = 33
"""Linux's socket(7); Python has no name for it."""
WAIT_S = 120.0
"""Timeout that suffices on a busy machine; no test waits this long normally."""

AUTONEG_NS = 1_000_000
"""Done before the driver looks, which it does every two seconds: for the many times that a test
takes the link down. The tests of the command line have the PHY's real time."""

NUMBERS = 200_000
"""Lines of content: 1.3 MB."""
DATAGRAMS, DATAGRAM_BYTES = 200, 1400

NO_WAKE_IN_LINUX = {"82545EM"}
"""Parts that e1000_wol_exclusion of Linux's driver names: it offers no wake-up on them."""

DRIVERS = {"82574L": "e1000e"}
"""Parts that Linux's e1000 leaves to another driver."""

SELF_TEST_PASSED = dict.fromkeys(("Register", "Eeprom", "Interrupt", "Loopback", "Link"), "0")
"""What `ethtool -t` prints of each test."""

# What would be the NIC's, or our, fault in the guest's log.
TROUBLE = re.compile(
    r"NETDEV WATCHDOG|Detected Tx Unit Hang|nobody cared|Disabling IRQ|Reset adapter|"
    r"EEPROM Checksum|Hardware Error|Invalid MAC|WARNING: |Call Trace"
)


def content(numbers: int = NUMBERS) -> bytes:
    """Return the output of `seq`."""
    return b"".join(b"%d\n" % i for i in range(1, numbers + 1))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Recorder(Capture):
    """A capture that can be switched on for a while, each time into a file of its own."""

    def __init__(self, link: Any, directory: Path) -> None:
        self._directory = directory
        self._files = 0
        self._on = False
        super().__init__(link, directory / "start.pcapng")

    def _write(self, *args: Any) -> None:
        if self._on:
            super()._write(*args)

    @contextmanager
    def on(self) -> Iterator[Path]:
        """Record while inside; the file is complete when the context ends."""
        with self.clock.lock:
            self._files += 1
            path = self._directory / f"{self._files}.pcapng"
            self.writer.close()
            self.writer = PcapngWriter(path)
            self._interface = self.writer.add_interface("nic", speed_bps=10**9, snap_bytes=262144)
            self._on = True
        try:
            yield path
        finally:
            with self.clock.lock:
                self._on = False
                self.writer.flush()


class Trunk(Middleware):
    """Frames of one VLAN leave without their tag by `access`, all others by `link`.

    As on a switch whose port to the NIC is a trunk, so that the Linux behind `access` need know
    nothing of VLANs.
    """

    def __init__(self, link: Any, access: Any, vlan_id: int) -> None:
        super().__init__(link)
        self.access = access
        self._tag = b"\x81\x00" + vlan_id.to_bytes(2, "big")
        self.tagged = 0
        access.attach(_Access(self))

    def transmit(self, batch: Any) -> None:
        """Sort the frames. Takes ownership of `batch`."""
        ours = [bytes(batch.view(i)[12:16]) == self._tag for i in range(len(batch))]
        if not any(ours):
            self.link.transmit(batch)
            return
        self.tagged += sum(ours)
        self.access.transmit(
            FrameBatch([f[:12] + f[16:] for f, mine in zip(batch, ours, strict=True) if mine])
        )
        self.link.transmit(FrameBatch([f for f, m in zip(batch, ours, strict=True) if not m]))

    def take(self, batch: Any, start: int) -> None:
        """Tag what came in by `access`."""
        frames = [batch[i] for i in range(start, len(batch))]
        if self.port is not None:
            tagged = FrameBatch([f[:12] + self._tag + f[12:] for f in frames])
            self.port.receive(tagged, 0, False)


class _Access:
    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        self._trunk.take(batch, start)
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Nothing waits for it."""

    def tx_ready(self) -> None:
        """Nothing waits for it."""


class OnTap(Rig):
    """`guest` is up at 10.9.0.2, the namespace `peer` at 10.9.0.1; the server runs here."""

    def __init__(self, image: GuestImage, model: str, **options: Any) -> None:
        """`options` are the server's."""
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e1000emu-")))
            self.model = model
            self.driver = driver_of(model)
            self.peer = kept(stack, Peer())
            self.clock = kept(stack, RealClock())
            self.tap = kept(stack, Tap(self.peer.tap_name, self.clock))
            self.peer.adopt(self.tap.name)
            access = kept(stack, Tap(f"{self.peer.tap_name}v", self.clock))
            self._adopt(access.name, VLAN_LINUX)
            self.trunk = Trunk(self.tap, access, VLAN_ID)
            self.recorder = Recorder(self.trunk, directory)
            stack.callback(self.recorder.writer.close)
            self.said: list[str] = []
            self.monitor = directory / "monitor"
            self.second_monitor = directory / "second"
            self.on_pme: Callable[[bool], None] = lambda level: None
            self.woken = threading.Event()
            """PME# was asserted."""
            self.server, self.guest = serve_and_boot(
                stack,
                image,
                model,
                directory,
                self.recorder,
                self.clock,
                [
                    word
                    for path in (self.monitor, self.second_monitor)
                    for word in ("-qmp", f"unix:{path},server=on,wait=off")
                ],
                report=self.said.append,
                on_pme=self._pme,
                **options,
            )
            self._stack = stack.pop_all()

    def _adopt(self, tap: str, address: str) -> None:
        subprocess.run(["ip", "link", "set", tap, "netns", self.peer.name], check=True)
        quiet_ipv6(tap, self.peer.name)
        self.peer.ip("addr", "add", f"{address}/24", "dev", tap)
        self.peer.ip("link", "set", tap, "up")

    def _pme(self, level: bool) -> None:
        self.on_pme(level)
        if level:
            self.woken.set()

    @property
    def nic(self) -> Any:
        return self.server.nic

    def send(self, frames: list[bytes]) -> None:
        """Put frames on the wire as they are, from the namespace."""
        with self.peer.socket(socket.SOCK_RAW, family=socket.AF_PACKET) as sock:
            sock.bind((self.tap.name, 0))
            for frame in frames:
                sock.send(frame)

    def assert_no_trouble(self, *expected: str) -> None:
        """The guest's log is clean, and its driver has done nothing wrong since the last time,
        but for what is `expected`."""
        assert trouble(self.guest) == []
        with self.clock.lock:
            events = self.nic.misuse.events()
            self.nic.misuse.clear()
        # Linux wakes its queue at e1000_up, and sets TCTL.EN when its watchdog has seen the link.
        wrong = [str(event) for event in events if event.name not in ("tx-disabled", *expected)]
        assert wrong == []

    def registers(self, *names: str) -> list[int]:
        """Return registers as they stand, without the side effects of reading them."""
        with self.clock.lock:
            return [self.nic.regs.peek(reg(name).offset) for name in names]


def frame(to: bytes, number: int, *, tag: int | None = None) -> bytes:
    """Return a frame of an experimental EtherType (IEEE 802, 88B5) that no host answers."""
    vlan = b"" if tag is None else b"\x81\x00" + tag.to_bytes(2, "big")
    return to + bytes.fromhex("020000000001") + vlan + b"\x88\xb5" + number.to_bytes(50, "big")


def on_parts(names: tuple[str, ...], *rows: tuple[Any, ...]) -> pytest.MarkDecorator:
    """Run a test with `on_tap` once for each row: a part, then what `names` name."""
    return pytest.mark.parametrize(
        ("model", *names), rows, indirect=["model"], ids=["-".join(map(str, row)) for row in rows]
    )


def prepared(**options: Any) -> GuestImage:
    """Return an image, from the cache or made now; `options` are those of `prepare`."""
    try:
        return prepare(**options)
    except E1000Error as error:
        if in_ci():
            pytest.fail(f"CI is set, but {error}", pytrace=False)
        pytest.skip(str(error))


# --- in the guest --------------------------------------------------------------------------------


def driver_of(model: str) -> str:
    """Return the name of Linux's driver."""
    return DRIVERS.get(model, "e1000")


def boot(
    image: GuestImage,
    path: Path,
    model: str,
    options: dict[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> GuestLinux:
    """Boot a guest with the card at the socket `path`; `options` are of QEMU's device, `arguments`
    of QEMU."""
    return GuestLinux(
        image,
        nic=VfioUserNic(path, options or {}),
        modules=(driver_of(model),),
        qemu_arguments=arguments,
    )


@contextmanager
def offered(
    path: Path, link: Any, clock: RealClock, *, mac: bytes = MAC, **options: Any
) -> Iterator[VfioUserServer]:
    """Offer a NIC on `link` at the socket `path`, on a clock that runs meanwhile."""
    server = VfioUserServer(path, link=link, clock=clock, mac=mac, autoneg_ns=AUTONEG_NS, **options)
    try:
        clock.start()
        try:
            yield server
        finally:
            clock.stop()
    finally:
        with clock.lock:
            server.close()


def serve_and_boot(
    stack: ExitStack,
    image: GuestImage,
    model: str,
    directory: Path,
    link: Any,
    clock: RealClock,
    arguments: Sequence[str] = (),
    **options: Any,
) -> tuple[VfioUserServer, GuestLinux]:
    """Start a server on `link` and a configured guest on it; `stack` ends both, and the clock."""
    serving = offered(
        directory / "nic", link, clock, **({"model": model, "threads": True} | options)
    )
    server = stack.enter_context(serving)
    guest = kept(stack, boot(image, server.path, model, arguments=arguments))
    configure(guest)
    return server, guest


def configure(guest: GuestLinux) -> None:
    """Give eth0 its address and wait for the link; make the content."""
    guest.run("sysctl -q -w net.core.rmem_default=8388608 net.core.rmem_max=8388608").check()
    # The kernel's own choice, fq_codel, drops datagrams that have waited long, as on a slow host.
    guest.run("sysctl -q -w net.core.default_qdisc=pfifo_fast").check()
    guest.run("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6").check()
    guest.run(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up").check()
    guest.run(f"seq 1 {NUMBERS} >/tmp/data").check()
    wait_carrier(guest)


def wait_carrier(guest: GuestLinux, up: bool = True) -> None:
    """Wait until the driver has seen the link go up, or down."""
    want = int(up)
    guest.run(
        f'until [ "$(cat /sys/class/net/eth0/carrier)" = {want} ]; do sleep 0.1; done',
        timeout_s=WAIT_S,
    ).check()


def ping(
    guest: GuestLinux, to: str = LINUX, *, size: int = 56, count: int = 3, whole: bool = True
) -> None:
    """Send echo requests, not in fragments if `whole`, until so many answers have come.

    Without a deadline ping gives up the last after two round trips or an interval, whatever -W
    says: guest and host may pause for longer.
    """
    words = f"{'-M do ' * whole}-c {count} -i 0.2 -w {WAIT_S:.0f} -s {size}"
    made = guest.run(f"ping {words} {to}", timeout_s=WAIT_S + 30)
    received = re.search(r"(\d+) received", made.stdout)
    assert received is not None, made.stdout
    assert int(received[1]) >= count, made.stdout
    assert made.returncode == 0, made.stdout


def self_test(guest: GuestLinux, mode: str = "offline", **others: str) -> None:
    """`ethtool -t` passes, but for `others`: expected results of single tests.

    Its loopback test says 14 when looking at 64 frames that have come took two ticks of the guest's
    clock: the host had no time for the guest's processor.  That one is tried again.
    """
    wanted = SELF_TEST_PASSED | others
    for _ in range(3):
        text = guest.run(f"ethtool -t eth0 {mode}").stdout
        results = dict(re.findall(r"^(\w+) test\s+\(\S+\)\s+(\d+)", text, re.M))
        if results != {**SELF_TEST_PASSED, "Loopback": "14"}:
            break
        wait_carrier(guest)
    assert results == wanted, text
    assert ("The test result is PASS" in text) is (not others)


def statistics(guest: GuestLinux) -> dict[str, int]:
    """Return `ethtool -S`."""
    text = guest.run("ethtool -S eth0").check().stdout
    return {name: int(value) for name, value in re.findall(r"^\s+(\w+): (\d+)$", text, re.M)}


def feature(guest: GuestLinux, name: str) -> bool:
    """Return whether a feature is on in `ethtool -k`."""
    found = re.search(rf"^\s*{name}: (on|off)", guest.run("ethtool -k eth0").check().stdout, re.M)
    assert found is not None, f"no feature {name}"
    return found[1] == "on"


def trouble(guest: GuestLinux) -> list[str]:
    """Return the lines of the kernel's log that report problems."""
    return [line for line in guest.dmesg().splitlines() if TROUBLE.search(line)]


# --- traffic -------------------------------------------------------------------------------------


@contextmanager
def listening(peer: Peer, address: str) -> Iterator[socket.socket]:
    """Listen in the namespace. At the end whoever still waits in accept() is woken."""
    with peer.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, DATA_PORT))
        listener.listen(1)
        listener.settimeout(WAIT_S)
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def tcp_to_peer(guest: GuestLinux, peer: Peer, address: str = LINUX) -> None:
    """Send the content by TCP; the far side must receive every byte."""
    with listening(peer, address) as listener:
        worker = Worker(_drain, (listener,))
        guest.run(f"cat /tmp/data >/dev/tcp/{address}/{DATA_PORT}", timeout_s=WAIT_S).check()
        assert worker.result(WAIT_S) == sha256(content())


def _drain(listener: socket.socket) -> str:
    sock, _ = listener.accept()
    digest = hashlib.sha256()
    with sock:
        sock.settimeout(WAIT_S)
        while data := sock.recv(1 << 16):
            digest.update(data)
    return digest.hexdigest()


def tcp_from_peer(guest: GuestLinux, peer: Peer, address: str = LINUX) -> None:
    """Fetch the content by TCP; the guest must receive every byte."""
    with listening(peer, address) as listener:
        worker = Worker(_serve, (listener,))
        made = guest.run(f"sha256sum </dev/tcp/{address}/{DATA_PORT}", timeout_s=WAIT_S).check()
        worker.result(WAIT_S)
        assert made.stdout.split()[0] == sha256(content())


def _serve(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.settimeout(WAIT_S)
        sock.sendall(content())
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass


def _datagrams(size: int, count: int) -> list[bytes]:
    data = content()
    return [data[i * size : (i + 1) * size] for i in range(count)]


def udp_to_peer(
    guest: GuestLinux,
    peer: Peer,
    address: str = LINUX,
    *,
    size: int = DATAGRAM_BYTES,
    count: int = DATAGRAMS,
) -> None:
    """Send datagrams; the far side must receive each of them completely and in order."""
    with peer.socket(socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        sock.bind((address, DATA_PORT))
        sock.settimeout(WAIT_S)
        guest.run(
            f"dd if=/tmp/data bs={size} count={count} 2>/dev/null >/dev/udp/{address}/{DATA_PORT}"
        ).check()
        assert [sock.recv(1 << 16) for _ in range(count)] == _datagrams(size, count)


def udp_from_peer(
    guest: GuestLinux,
    peer: Peer,
    address: str = LINUX,
    *,
    size: int = DATAGRAM_BYTES,
    count: int = DATAGRAMS,
) -> None:
    """Fetch datagrams; the guest must receive all bytes in order."""
    with peer.socket(socket.SOCK_DGRAM) as sock:
        sock.bind((address, DATA_PORT))
        sock.settimeout(WAIT_S)
        job = guest.spawn(
            f"exec 5<>/dev/udp/{address}/{DATA_PORT}; echo go >&5; "
            f"dd bs=65536 count={count} <&5 2>/dev/null | sha256sum"
        )
        _, guest_address = sock.recvfrom(100)
        wanted = _datagrams(size, count)
        for datagram in wanted:
            sock.sendto(datagram, guest_address)
        assert job.wait(WAIT_S).check().stdout.split()[0] == sha256(b"".join(wanted))


def all_traffic(guest: GuestLinux, peer: Peer, address: str = LINUX) -> None:
    """Ping, TCP both ways, UDP both ways."""
    ping(guest, address)
    tcp_to_peer(guest, peer, address)
    tcp_from_peer(guest, peer, address)
    udp_to_peer(guest, peer, address)
    udp_from_peer(guest, peer, address)


# --- the wire ------------------------------------------------------------------------------------


def fields(path: Path, wanted: str, *names: str) -> list[list[str]]:
    """Return these of tshark's fields for every frame that passes the filter `wanted`."""
    command = ["tshark", "-r", str(path), "-Y", wanted, "-T", "fields"]
    for name in names:
        command += ["-e", name]
    command += ["-o", "tcp.desegment_tcp_streams:FALSE", "-d", f"tcp.port=={DATA_PORT},data"]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S)
    return [line.split("\t") for line in made.stdout.splitlines()]


def wire_is_right(path: Path) -> None:
    """No frame on the wire, in either direction, is malformed or has a wrong checksum."""
    assert list(judged(path)) == []
