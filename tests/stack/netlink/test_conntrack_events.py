"""Events of connections (NFNLGRP_CONNTRACK_*), beside those of tests/programs/test_conntrack.py.

Which message says what is of net/netfilter/nf_conntrack_netlink.c ctnetlink_conntrack_event.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import TCP

from stack.netfilter.nf_conntrack_life import nf_ct_delete
from stack.netlink.ct_attrs import CTA
from stack.netlink.ctnetlink import set_status
from stack.netlink.nlattr import Attrs
from tests.stack.netfilter.test_conntrack import BACK, Tracked, seg, udp

NETFILTER, SOL_NETLINK, ADD_MEMBERSHIP, DROP_MEMBERSHIP, BROADCAST_ERROR = 12, 270, 1, 2, 4
NEW, UPDATE, DESTROY = 1, 2, 3
CT_NEW, CT_DELETE = 0x100, 0x102
CREATED = 0x600
"""NLM_F_CREATE | NLM_F_EXCL."""
SEEN_REPLY, ASSURED, CONFIRMED, DYING = 2, 4, 8, 0x200


class Listener:
    """A program that hears all three groups."""

    def __init__(self, tracked: Tracked) -> None:
        self.sock: Any = tracked.host.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
        self.sock.bind((0, 0))  # the kernel's messages do not reach a socket without a port id
        for group in (NEW, UPDATE, DESTROY):
            self.sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)

    def heard(self) -> list[tuple[int, int, Attrs]]:
        """Type, flags and attributes of each message so far."""
        found: list[tuple[int, int, Attrs]] = []
        while True:
            try:
                data = self.sock.recv(8192, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            _, kind, flags, seq, portid = struct.unpack_from("=IHHII", data)
            assert (seq, portid) == (0, 0)
            found.append((kind, flags, CTA.parse(data, 20)))


@pytest.fixture
def tracked() -> Iterator[Tracked]:
    made = Tracked()
    yield made
    made.host.close()
    assert made.host.skb_small.in_use == 0


def test_a_stream_of_udp_is_heard_from_its_beginning_to_its_end(tracked: Tracked) -> None:
    ears = Listener(tracked)
    tracked.state(udp())
    tracked.state(udp())
    tracked.state(udp(BACK), BACK)
    tracked.state(udp(BACK), BACK)
    tracked.net.clock.run_for(3_000_000_000)
    tracked.state(udp())
    heard = ears.heard()
    assert [(kind, flags) for kind, flags, _ in heard] == [
        (CT_NEW, CREATED),
        (CT_NEW, 0),
        (CT_NEW, 0),
    ]
    assert [tb["CTA_STATUS"] for *_, tb in heard] == [
        CONFIRMED,
        CONFIRMED | SEEN_REPLY,
        CONFIRMED | SEEN_REPLY | ASSURED,
    ]
    assert [tb["CTA_TIMEOUT"] for *_, tb in heard] == [30, 30, 120]
    tracked.net.clock.run_for(300_000_000_000)  # the collector finds it
    ((kind, _, tb),) = ears.heard()
    assert kind == CT_DELETE
    assert tb["CTA_STATUS"] == CONFIRMED | SEEN_REPLY | ASSURED | DYING
    assert "CTA_TIMEOUT" not in tb


def test_one_message_says_all_that_a_packet_changed(tracked: Tracked) -> None:
    """SYN-ACK: it is answered and has another state; RST of one never answered: it ends."""
    ears = Listener(tracked)
    tracked.state(seg(0, "S"))
    tracked.state(seg(BACK, "SA", 100, 1), BACK)
    tracked.state(seg(0, "A", 1, 101))
    tracked.state(seg(0, "A", 1, 101, 50))
    states = [tb["CTA_PROTOINFO"]["CTA_PROTOINFO_TCP"] for *_, tb in ears.heard()]
    assert [one["CTA_PROTOINFO_TCP_STATE"] for one in states] == [1, 2, 3]
    packet = seg(0, "S")
    packet[TCP].sport = 1001
    tracked.state(packet)
    answer = seg(BACK, "RA", 0, 1)
    answer[TCP].dport = 1001
    tracked.state(answer, BACK)
    heard = ears.heard()
    assert [kind for kind, *_ in heard] == [CT_NEW, CT_DELETE]
    told = heard[1][2]["CTA_PROTOINFO"]["CTA_PROTOINFO_TCP"]
    assert set(told) == {"CTA_PROTOINFO_TCP_STATE"}


def test_a_status_that_a_program_sets_is_no_event_of_the_next_packet(tracked: Tracked) -> None:
    ears = Listener(tracked)
    tracked.state(udp())
    (ct,) = tracked.table()
    set_status(ct, ct.status | SEEN_REPLY | ASSURED)
    assert len(ears.heard()) == 1
    tracked.state(udp())
    assert ears.heard() == []
    assert ct not in tracked.host.ct.unassured


def test_what_began_while_nobody_heard_has_no_events(tracked: Tracked) -> None:
    tracked.state(udp())
    assert tracked.table()[0].ecache is None
    ears = Listener(tracked)
    tracked.state(udp(BACK), BACK)
    nf_ct_delete(tracked.table()[0])
    tracked.state(udp(sport=5))
    assert [kind for kind, *_ in ears.heard()] == [CT_NEW]
    for group in (NEW, UPDATE, DESTROY):
        ears.sock.setsockopt(SOL_NETLINK, DROP_MEMBERSHIP, group)
    tracked.state(udp(sport=6))
    assert [ct.ecache is None for ct in tracked.table()] == [False, True]


@pytest.mark.parametrize(("mode", "kinds"), [(0, []), (1, [CT_DELETE]), (2, [])])
def test_the_knob_says_who_has_events(mode: int, kinds: list[int]) -> None:
    tracked = Tracked(nf_conntrack_events=mode)
    tracked.state(udp())
    ears = Listener(tracked)
    nf_ct_delete(tracked.table()[0])
    assert [kind for kind, *_ in ears.heard()] == kinds
    tracked.host.close()


def test_a_listener_without_room_hears_of_it_with_the_next_change(tracked: Tracked) -> None:
    """NETLINK_BROADCAST_ERROR: nf_conntrack_eventmask_report keeps what was missed."""
    ears = Listener(tracked)
    ears.sock.setsockopt(SOL_NETLINK, BROADCAST_ERROR, 1)
    ears.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    sport = 2000
    while not tracked.host.ct.hash or not tracked.table()[-1].ecache.missed:
        sport += 1
        tracked.state(udp(sport=sport))
    with pytest.raises(OSError, match="buffer space") as wrong:
        ears.sock.recv(8192)
    assert wrong.value.errno == errno.ENOBUFS
    ears.heard()
    tracked.state(udp(BACK, sport=sport), BACK)
    ((kind, flags, tb),) = ears.heard()
    assert (kind, flags, tb["CTA_STATUS"]) == (CT_NEW, CREATED, CONFIRMED | SEEN_REPLY)
    assert not tracked.table()[-1].ecache.missed
