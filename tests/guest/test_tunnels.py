"""Tunnels between a guest's Linux and a host of ours, made by the same `ip` on both."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.guest.setup import fields, ping
from tests.guest.test_ipsec import datagrams, on_host
from tests.guest.test_stack import GUEST, GUEST6, OURS, OURS6, OnStack, lan, streams
from tests.support import require

__all__ = ["lan"]

pytestmark = pytest.mark.slow

V4, V6 = socket.AF_INET, socket.AF_INET6
ENDS = {V4: (OURS, GUEST), V6: (OURS6, GUEST6)}
INSIDE: dict[int, tuple[str, str]] = {
    V4: ("10.78.0.1", "10.78.0.2"),
    V6: ("fd78::1", "fd78::2"),
}
MODULES = "ipip sit ip_gre ip6_tunnel ip6_gre"


@dataclass(frozen=True)
class Tunnel:
    """A kind, the families outside and inside, and what tshark calls its header."""

    kind: str
    outside: int
    inside: int
    shown: str
    words: str = ""

    def commands(self, guest: bool) -> str:
        """The shell's script for one end."""
        local, remote = ENDS[self.outside][::-1] if guest else ENDS[self.outside]
        addr = INSIDE[self.inside][guest]
        length, nodad = ("24", "") if self.inside == V4 else ("64", " nodad")
        return (
            f"set -e\nip link add t0 type {self.kind} local {local} remote {remote} {self.words}\n"
            f"ip addr add {addr}/{length} dev t0{nodad}\nip link set t0 up"
        )


IN6 = "encaplimit none"
TUNNELS = {
    "ipip": Tunnel("ipip", V4, V4, "ip.proto == 4"),
    "sit": Tunnel("sit", V4, V6, "ip.proto == 41"),
    "gre": Tunnel("gre", V4, V4, "gre.key == 5 && gre.checksum", "key 5 csum seq"),
    "gre, IPv6 inside": Tunnel("gre", V4, V6, "gre"),
    "gretap": Tunnel("gretap", V4, V4, "gre.proto == 0x6558"),
    "ip6tnl, IPv4 inside": Tunnel("ip6tnl", V6, V4, "ipv6.nxt == 4", f"mode any {IN6}"),
    "ip6tnl, IPv6 inside": Tunnel("ip6tnl", V6, V6, "ipv6.nxt == 41", f"mode ip6ip6 {IN6}"),
    "ip6gre": Tunnel("ip6gre", V6, V4, "gre", IN6),
    "ip6gretap": Tunnel("ip6gretap", V6, V6, "gre.proto == 0x6558", IN6),
}


DEVICES = {
    **{name: one.commands(guest=False) for name, one in TUNNELS.items()},
    "gre without numbers": f"ip link add t0 type gre local {OURS} remote {GUEST} key 5 csum",
    "ip6gre, numbers": f"ip link add t0 type ip6gre local {OURS6} remote {GUEST6} seq",
}
NOT_COMPARED = {
    "rx-gro-list": "no device here has it (tests/programs/test_ethtool.py)",
    "rx-udp-gro-forwarding": "the same",
    "tx-tcp-accecn-segmentation": "newer than the guest's kernel",
}


def features(text: str) -> dict[str, str]:
    """What `ethtool -k` says of each offload."""
    lines = (line.strip().partition(": ") for line in text.splitlines()[1:])
    return {name: value for name, _, value in lines if name not in NOT_COMPARED}


@pytest.mark.parametrize("name", DEVICES)
def test_offloads_are_those_of_linux(lan: OnStack, name: str) -> None:
    require.tool("ethtool")
    lan.guest.run(f"for m in {MODULES}; do modprobe -q $m; done; true").check()
    words = f"{DEVICES[name]}\nethtool -k t0; ip link del t0"
    ours, theirs = on_host(lan, words), lan.guest.run(words).check()
    linux = features(theirs.stdout)
    assert len(linux) > 50
    assert {one: value for one, value in features(ours).items() if one in linux} == linux


@pytest.fixture(params=list(TUNNELS.values()), ids=list(TUNNELS))
def tunnel(lan: OnStack, request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    """Both ends."""
    require.tool("ip")
    made: Tunnel = request.param
    lan.guest.run(f"for m in {MODULES}; do modprobe -q $m; done; true").check()
    lan.guest.run(made.commands(guest=True)).check()
    on_host(lan, made.commands(guest=False))
    yield made
    on_host(lan, "ip link del t0")
    lan.guest.run("ip link del t0").check()


def test_content_goes_both_ways_through_a_tunnel(lan: OnStack, tunnel: Tunnel) -> None:
    """Echoes, streams and datagrams arrive, in packets of the tunnel's kind."""
    ours, theirs = INSIDE[tunnel.inside]

    def seen() -> int:
        lan.writer.flush()
        return len(fields(lan.capture, tunnel.shown, "frame.number"))

    before = seen()
    for size in (0, 1000, 3000):
        ping(lan.guest, ours, size=size, whole=False)
    streams(lan, tunnel.inside, ours)
    datagrams(lan, tunnel.inside, ours, theirs)
    assert seen() - before > 1000
