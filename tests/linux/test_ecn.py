"""ECN with a Linux kernel at the other end: it asks or we ask, and each believes the other's marks.

The marks are made on the link, where a congested router would make them.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from e1000emu.links.base import Middleware
from fastpath.base.csum import ip_compute_csum
from tests.linux.peer import IPV4, Family, Wire, pattern, stream

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("need_linux")]

ECT_0, CE, ECE, CWR = 2, 3, 0x40, 0x80
EVERY = 200


class EachFrameOnce(Middleware):
    """Shows `look` each frame once, however often the port is offered it."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self._offered = 0  # frames seen already that the port did not take yet

    def look(self, view: memoryview, outward: bool) -> None:
        """Look at a frame, which may be changed; `outward`: from our host."""
        raise NotImplementedError

    def _pass(self, batch: Any, start: int, outward: bool) -> None:
        for i in range(start, len(batch)):
            with batch.view(i) as view:
                self.look(view, outward)

    def transmit(self, batch: Any) -> None:
        self._pass(batch, 0, True)
        super().transmit(batch)

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        n = len(batch)
        self._pass(batch, min(start + self._offered, n), False)
        self._offered = max(self._offered, n - start)
        end = super().receive(batch, start, hold)
        self._offered = max(0, self._offered - (end - start))
        return end


class Router(EachFrameOnce):
    """Marks every 200th TCP frame that is ECT, and keeps (from us, ECN bits, TCP flags) of each."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self.seen: list[tuple[bool, int, int]] = []
        self.ect = 0

    def look(self, view: memoryview, outward: bool) -> None:
        if len(view) < 54 or bytes(view[12:14]) != b"\x08\x00" or view[23] != 6:
            return
        ecn = view[15] & 3
        if ecn == ECT_0:
            self.ect += 1
            if self.ect % EVERY == 0:
                view[15] |= CE
                view[24:26] = bytes(2)
                view[24:26] = ip_compute_csum(bytes(view[14:34])).to_bytes(2, "big")
        self.seen.append((outward, ecn, view[47]))

    def count(self, outward: bool, flags: int) -> int:
        """How many segments of that direction have `flags` and no SYN."""
        return sum(o == outward and f & (flags | 2) == flags for o, _, f in self.seen)


@pytest.mark.parametrize(
    ("ours", "theirs", "from_us", "agreed"),
    [
        (1, 2, True, True),
        (1, 0, True, False),
        (2, 1, False, True),
        (0, 1, False, False),
        (2, 2, True, False),
    ],
)
def test_linux_and_we_agree_as_the_sysctls_say(
    ours: int, theirs: int, from_us: bool, agreed: bool, family: Family
) -> None:
    with Wire(sysctl={"tcp_ecn": ours}, ipv6=True) as wire:
        set_linux(wire, theirs)
        mine, linux = wire.connected(family, from_us=from_us)
        assert bool(mine.sk.ecn_flags) == agreed
        options = linux.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[5]
        assert bool(options & 8) == agreed, "TCPI_OPT_ECN, as Linux sees it"
        mine.close()
        linux.close()


def set_linux(wire: Wire, value: int) -> None:
    """Write net.ipv4.tcp_ecn inside the namespace."""
    path = "/proc/sys/net/ipv4/tcp_ecn"
    wire.peer.run("sh", "-c", f"echo {value} >{path}")


@pytest.mark.parametrize("upwards", [True, False], ids=["we send", "linux sends"])
def test_marks_are_echoed_and_answered_by_the_other_kind(upwards: bool) -> None:
    """3 MB with every 200th packet marked CE: ECE comes back, CWR answers, all bytes arrive."""
    routers: list[Router] = []

    def around(link: Any) -> Router:
        routers.append(Router(link))
        return routers[0]

    with Wire(sysctl={"tcp_ecn": 1}, around=around) as wire:
        set_linux(wire, 1)
        mine, linux = wire.connected(IPV4, from_us=True)
        router = routers[0]
        data = pattern(3_000_000)
        source, sink = (mine, linux) if upwards else (linux, mine)
        stream(source, sink, data)
        marked = router.ect // EVERY
        assert marked >= 5
        assert router.count(not upwards, ECE) > 0, "the receiver echoes"
        assert 0 < router.count(upwards, CWR) <= marked, "the sender answers, once for each mark"
        assert {ecn for outward, ecn, _ in router.seen if outward != upwards} == {0}
        if upwards:
            assert mine.sk.snd_ssthresh < 0x7FFFFFFF
        mine.close()
        linux.close()
