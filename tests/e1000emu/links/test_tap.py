"""The TAP link against the kernel, in a namespace of its own."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import ClockError, RealClock, VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Tap
from e1000emu.links import tap as tap_module
from fastpath.base.csum import csum_fold, csum_partial
from tests.e1000emu.links.ports import RecordingPort
from tests.support import quiet_ipv6, require, run_to_end

pytestmark = pytest.mark.netns
_serial = itertools.count()


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Net:
    """A namespace with one TAP of ours inside."""

    def __init__(self, **options: object) -> None:
        tag = f"{os.getpid() % 100000}x{next(_serial)}"
        self.ns = f"e1k-{tag}"
        self.clock = RealClock()
        ip("netns", "add", self.ns)
        self.tap = Tap(f"t{tag}", self.clock, **options)
        name = self.tap.name
        ip("link", "set", name, "netns", self.ns)
        quiet_ipv6(name, self.ns)
        ip("-n", self.ns, "addr", "add", "10.9.0.1/24", "dev", name)
        ip("-n", self.ns, "link", "set", name, "up", "arp", "on")
        ip("-n", self.ns, "neigh", "add", "10.9.0.2", "lladdr", "02:00:00:00:00:02", "dev", name)
        self.mac = bytes.fromhex(
            ip("-n", self.ns, "-br", "link", "show", name).split()[2].replace(":", "")
        )

    def until(self, cond: object) -> bool:
        return self.clock.run(until=cond, timeout_ns=20_000_000_000)

    def close(self) -> None:
        self.tap.close()
        self.clock.close()
        subprocess.run(["ip", "netns", "del", self.ns], check=False, capture_output=True)


@pytest.fixture(params=[False, True], ids=["plain", "offload"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    require.taps()
    made = Net(offload=request.param, batch_frames=8)
    yield made
    made.close()


def echo_request(net: Net, ident: int, size: int = 56) -> bytes:
    from fastpath.base.csum import ip_compute_csum

    icmp = bytearray(b"\x08\0\0\0" + ident.to_bytes(2, "big") + b"\0\1" + bytes(size))
    icmp[2:4] = ip_compute_csum(icmp).to_bytes(2, "big")
    head = bytearray(b"\x45\0" + (20 + len(icmp)).to_bytes(2, "big") + b"\0\0\0\0\x40\1\0\0")
    head += bytes([10, 9, 0, 2, 10, 9, 0, 1])
    head[10:12] = ip_compute_csum(head).to_bytes(2, "big")
    return net.mac + b"\x02\0\0\0\0\x02" + b"\x08\0" + bytes(head) + bytes(icmp)


def icmp_replies(port: RecordingPort) -> list[int]:
    """Return the identifiers of the echo replies that the kernel sent."""
    return [
        int.from_bytes(f[38:40], "big")
        for f in port.frames
        if f[12:14] == b"\x08\0" and f[23] == 1 and f[34] == 0
    ]


def test_kernel_answers_what_is_written(net: Net) -> None:
    port = RecordingPort(net.tap)
    port.send(*(echo_request(net, i) for i in range(20)))
    assert net.until(lambda: len(icmp_replies(port)) >= 20)
    assert icmp_replies(port) == list(range(20))
    assert all(len(f) >= 60 for f in port.frames)


def test_port_without_room_stops_the_reading_and_loses_nothing(net: Net) -> None:
    port = RecordingPort(net.tap, room=0)
    port.send(*(echo_request(net, i) for i in range(60)))
    net.clock.run(timeout_ns=50_000_000)
    assert port.frames == []
    for _ in range(10):
        port.give_room(3)
        net.clock.run(timeout_ns=5_000_000)
    assert 0 < len(port.frames) <= 30
    port.give_room(None)
    assert net.until(lambda: len(icmp_replies(port)) >= 60)
    assert icmp_replies(port) == list(range(60))


def test_interface_that_is_down_loses_and_counts(net: Net) -> None:
    port = RecordingPort(net.tap)
    ip("-n", net.ns, "link", "set", net.tap.name, "down")
    port.send(echo_request(net, 1), b"\0" * 10)
    assert sum(net.tap.stats.drops.values()) == 2
    net.clock.run(timeout_ns=20_000_000)
    ip("-n", net.ns, "link", "set", net.tap.name, "up")
    ip(*f"-n {net.ns} neigh replace 10.9.0.2 lladdr 02:00:00:00:00:02 dev {net.tap.name}".split())
    port.send(echo_request(net, 2))
    assert net.until(lambda: icmp_replies(port) == [2])


def test_name_in_use_and_wrong_names_are_refused_with_the_remedy(net: Net) -> None:
    for name in ("", "a" * 16, "a/b", "a b"):
        with pytest.raises(LinkError, match="not an interface name"):
            Tap(name, net.clock)
    with pytest.raises(LinkError, match="exists and is not a TAP"):
        Tap("lo", net.clock)
    again = Tap(f"tw{os.getpid()}", net.clock)
    with pytest.raises(LinkError, match="in use"):
        Tap(f"tw{os.getpid()}", net.clock)
    again.close()


def test_closed_tap_counts_what_it_is_given(net: Net) -> None:
    port = RecordingPort(net.tap)
    net.tap.close()
    assert net.tap.fileno() == -1
    assert not net.tap.carrier
    port.send(echo_request(net, 1))
    assert net.tap.stats.drops == {"write EBADF": 1}


SEND_UDP_GSO = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
    s.sendto(bytes(i & 0xFF for i in range(20500)), ("10.9.0.2", 7))
"""


def datagrams(port: RecordingPort) -> list[bytes]:
    return [f for f in port.frames if f[12:14] == b"\x08\0" and f[23] == 17]


def test_kernels_super_packet_arrives_as_the_frames_of_a_wire(net: Net) -> None:
    port = RecordingPort(net.tap)
    words = ["ip", "netns", "exec", net.ns, sys.executable, "-c", SEND_UDP_GSO]
    packets = net.tap.queue.rx_packets
    subprocess.run(words, check=True)
    assert net.until(lambda: len(datagrams(port)) >= 21)
    frames = datagrams(port)
    assert b"".join(f[42:] for f in frames) == bytes(i & 0xFF for i in range(20500))
    for i, frame in enumerate(frames):
        assert csum_fold(csum_partial(frame[14:34])) == 0
        pseudo = csum_partial(frame[26:34] + b"\0\x11" + frame[38:40])
        assert csum_fold(csum_partial(frame[34:], pseudo)) == 0
        assert frame[18:20] == (int.from_bytes(frames[0][18:20], "big") + i).to_bytes(2, "big")
    if "uso4" in net.tap.offloads:
        assert net.tap.queue.rx_packets - packets < 15
    stats = net.tap.stats
    assert (stats.rx_frames, stats.rx_bytes) == (len(port.frames), sum(map(len, port.frames)))
    assert stats.drops == {}


@pytest.mark.parametrize("kind", ["multi_queue", "vnet_hdr", "one_queue"])
@pytest.mark.parametrize("offload", [True, False])
def test_persistent_device_of_any_kind_opens_again_and_again(kind: str, offload: bool) -> None:
    require.tun()
    require.tool("ip", "iproute2")
    require.tool("ethtool")
    name = f"p{os.getpid() % 100000}x{next(_serial)}"
    ip("tuntap", "add", "dev", name, "mode", "tap", *([] if kind == "one_queue" else [kind]))
    clock = RealClock()
    try:
        for want in (offload, not offload, offload):
            tap = Tap(name, clock, offload=want)
            assert (tap.offloads != ()) == (tap.caps.gso_max_bytes > 0) == want
            assert {"csum", "tso4", "tso6"}.issuperset(tap.offloads) or "tso4" in tap.offloads
            tap.close()
        assert "tx-tcp-segmentation: off" in run_to_end(["ethtool", "-k", name], check=True).stdout
    finally:
        clock.close()
        ip("link", "del", name)


def test_kernel_without_offloads_is_asked_for_less_and_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require.tun()
    real, asked = fcntl.ioctl, []

    def ioctl(fd: int, request: int, arg: Any) -> Any:
        if request == tap_module.TUNSETOFFLOAD and arg:
            asked.append(arg)
            if arg & 0x68:  # ECN, USO4, USO6
                raise OSError(errno.EINVAL, "not known")
        return real(fd, request, arg)

    monkeypatch.setattr(tap_module.fcntl, "ioctl", ioctl)
    tap = Tap(f"l{os.getpid() % 100000}x{next(_serial)}", RealClock())
    tap.close()
    assert tap.offloads == ("csum", "tso4", "tso6")
    assert asked == [0x6F, 0x0F, 0x07]
    monkeypatch.setattr(
        tap_module.fcntl,
        "ioctl",
        lambda fd, request, arg: (
            bytes(4) if request == tap_module.TUNGETFEATURES else real(fd, request, arg)
        ),
    )
    tap = Tap(f"l{os.getpid() % 100000}x{next(_serial)}", RealClock())
    tap.close()
    assert (tap.offloads, tap.caps.gso_max_bytes, tap.queue.header_bytes) == ((), 0, 0)


def test_one_call_opens_a_device_on_a_clock_of_its_own() -> None:
    require.tun()
    tap = Tap.open(f"l{os.getpid() % 100000}x{next(_serial)}", offload=False)
    try:
        assert isinstance(tap.clock, RealClock)
        assert tap.offloads == ()
        RecordingPort(tap)
    finally:
        tap.close()
        tap.clock.close()


def test_virtual_clock_is_refused_when_the_port_is_plugged_in(net: Net) -> None:
    tap = Tap(f"vi{os.getpid()}", VirtualClock())
    try:
        with pytest.raises(ClockError, match="RealClock"):
            RecordingPort(tap)
    finally:
        tap.close()


def test_a_device_that_was_made_or_is_down_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    require.tun()
    name = f"h{os.getpid() % 100000}x{next(_serial)}"
    clock = RealClock()
    made = Tap(name, clock)
    assert made.hint.startswith(f"tap {name!r}: did not exist and was made")
    assert f"ip link set {name} up && ip addr add" in made.hint
    assert caplog.messages == [made.hint]
    made.close()
    ip("tuntap", "add", name, "mode", "tap")
    try:
        down = Tap(name, clock)
        assert f"{name!r}: is administratively down" in down.hint
        assert down.hint.endswith(f"ip link set {name} up")
        down.close()
        ip("link", "set", name, "up")
        caplog.clear()
        up = Tap(name, clock)
        assert (up.hint, caplog.messages) == ("", [])
        up.close()
    finally:
        ip("link", "del", name)
        clock.close()
