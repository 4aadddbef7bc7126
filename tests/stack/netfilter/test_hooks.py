"""Priorities and verdicts at every hook point, of both families."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from fastpath.base.skbuff import skb_copy_bits
from fastpath.net.hdr import ip_hdr, ip_send_check, ipv6_hdr, udp_hdr
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_DROP_ERR,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_CONNTRACK,
    NF_IP_PRI_FILTER,
    NF_IP_PRI_FIRST,
    NF_IP_PRI_LAST,
    NF_IP_PRI_NAT_SRC,
    NF_QUEUE_NR,
    NF_REPEAT,
    NF_STOLEN,
    NF_STOP,
    NF_VERDICT_FLAG_QUEUE_BYPASS,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.nf_queue import (
    nf_queue_entry,
    nf_register_queue_handler,
    nf_reinject,
    nf_unregister_queue_handler,
)
from stack.netfilter.nf_nat_proto import inet_proto_csum_replace
from tests.stack.netfilter.rig import ADDRS, Lan, lan
from tests.support import errno_of

POINTS = [
    NF_INET_PRE_ROUTING,
    NF_INET_LOCAL_IN,
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
]
NAMES = ["PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"]


class Path:
    """A datagram's way from `inner` to `outer` in one family, and the host where a point is met."""

    def __init__(self, net: Lan, version: int) -> None:
        self.net = net
        self.pf = NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6
        self.af = socket.AF_INET if version == 4 else socket.AF_INET6
        _, _, self.far, _ = ADDRS[version]
        net.outer.route_add("0.0.0.0/0", via=ADDRS[4][3])
        net.outer.route_add("::/0", via=ADDRS[6][3])
        self.server = net.outer.socket(self.af, socket.SOCK_DGRAM)
        self.server.bind((self.far, 7))
        self.server.settimeout(0)
        self.client = net.inner.socket(self.af, socket.SOCK_DGRAM)
        self.send(b"addresses are resolved")
        assert self.got() == [b"addresses are resolved"]

    def host(self, point: int) -> Any:
        return (
            self.net.router,
            self.net.outer,
            self.net.router,
            self.net.inner,
            self.net.router,
        )[point]

    def send(self, data: bytes) -> None:
        self.client.sendto(data, (self.far, 7))

    def got(self) -> list[bytes]:
        """Everything that arrived within a second."""
        self.net.run(1)
        found = []
        while True:
            try:
                found.append(self.server.recv(70000))
            except BlockingIOError:
                return found

    def hook(self, point: int, fn: Any, priority: int = NF_IP_PRI_FILTER, host: Any = None) -> Any:
        """Register `fn` for datagrams: the hosts talk to their neighbours too."""

        def of_datagrams(skb: Any, state: Any) -> int:
            at = 9 if self.pf == NFPROTO_IPV4 else 6
            return fn(skb, state) if skb_copy_bits(skb, at, 1)[0] == 17 else NF_ACCEPT

        host = self.host(point) if host is None else host
        nf_register_net_hook(host, point, of_datagrams, self.pf, priority)
        return of_datagrams


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def path(request: pytest.FixtureRequest) -> Iterator[Path]:
    with lan() as net:
        made = Path(net, request.param)
        yield made
        made.client.close()
        made.server.close()


def test_priorities_decide_the_order_and_the_newest_is_first(path: Path) -> None:
    seen: list[str] = []

    def hook(name: str) -> Any:
        def fn(skb: Any, state: Any) -> int:
            seen.append(name)
            return NF_ACCEPT

        return fn

    for name, priority in (
        ("last", NF_IP_PRI_LAST),
        ("filter", NF_IP_PRI_FILTER),
        ("nat", NF_IP_PRI_NAT_SRC),
        ("filter again", NF_IP_PRI_FILTER),
        ("first", NF_IP_PRI_FIRST),
        ("conntrack", NF_IP_PRI_CONNTRACK),
    ):
        path.hook(NF_INET_FORWARD, hook(name), priority)
    path.send(b"x")
    assert path.got() == [b"x"]
    assert seen == ["first", "conntrack", "filter again", "filter", "nat", "last"]


def test_what_a_hook_is_told(path: Path) -> None:
    told = {}

    def look(skb: Any, state: Any) -> int:
        indev, outdev = state.indev, state.outdev
        told[state.hook] = (indev and indev.name, outdev and outdev.name, state.pf)
        assert state.net is path.host(state.hook)
        return NF_ACCEPT

    for point in POINTS:
        path.hook(point, look)
    path.send(b"x")
    assert path.got() == [b"x"]
    assert told == {
        NF_INET_PRE_ROUTING: ("eth0", None, path.pf),
        NF_INET_LOCAL_IN: ("eth0", None, path.pf),
        NF_INET_FORWARD: ("eth0", "eth1", path.pf),
        NF_INET_LOCAL_OUT: (None, "eth0", path.pf),
        NF_INET_POST_ROUTING: ("eth0", "eth1", path.pf),
    }


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_drop_and_stolen(path: Path, point: int) -> None:
    stolen: list[Any] = []
    verdicts = [NF_DROP, NF_STOLEN, NF_ACCEPT]

    def judge(skb: Any, state: Any) -> int:
        if verdicts[0] == NF_STOLEN:
            stolen.append((skb, state))
        return verdicts.pop(0)

    path.hook(point, judge)
    if point == NF_INET_LOCAL_OUT:
        with pytest.raises(PermissionError):
            path.send(b"dropped")
    else:
        path.send(b"dropped")
    path.send(b"stolen")
    assert path.got() == []
    path.send(b"passed")
    assert path.got() == [b"passed"]
    ((skb, state),) = stolen
    state.okfn(state.net, state.sk, skb)  # who stole it may hand it on
    assert path.got() == [b"stolen"]


@pytest.mark.parametrize("point", [NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING])
@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (NF_DROP, errno.EPERM),
        (NF_DROP_ERR(-errno.ENETUNREACH), errno.ENETUNREACH),
        (NF_DROP_ERR(-errno.ECONNREFUSED), errno.ECONNREFUSED),
    ],
)
def test_the_sender_gets_the_drops_errno(path: Path, point: int, verdict: int, error: int) -> None:
    path.hook(point, lambda *_: verdict, host=path.net.inner)
    for size in (10, 5000):  # one frame, and fragments
        assert errno_of(path.send, bytes(size)) == error
    assert path.got() == []


def test_a_stream_survives_drops_at_the_sender(path: Path) -> None:
    """TCP takes a refused transmission for a lost one."""
    count = [0]

    def every_third(skb: Any, state: Any) -> int:
        count[0] += 1
        return NF_DROP if count[0] % 3 == 0 else NF_ACCEPT

    nf_register_net_hook(path.net.inner, NF_INET_LOCAL_OUT, every_third, path.pf)
    nf_register_net_hook(path.net.inner, NF_INET_POST_ROUTING, every_third, path.pf)
    listener = path.net.outer.socket(path.af, socket.SOCK_STREAM)
    listener.bind((path.far, 80))
    listener.listen(1)
    client = path.net.inner.socket(path.af, socket.SOCK_STREAM)
    client.settimeout(300)
    client.connect((path.far, 80))
    server, _ = listener.accept()
    server.settimeout(300)
    data = bytes(range(256)) * 100
    client.sendall(data)
    got = b""
    while len(got) < len(data):
        got += server.recv(65536)
    assert got == data
    for sock in (client, server, listener):
        sock.close()
    path.net.run(300)


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_queue_and_reinject(path: Path, point: int) -> None:
    host = path.host(point)
    waiting: list[nf_queue_entry] = []
    later: list[int] = []

    def behind(skb: Any, state: Any) -> int:
        later.append(skb.len)
        return NF_ACCEPT

    nf_register_queue_handler(host, 3, waiting.append)
    path.hook(point, behind)
    path.hook(point, lambda *_: NF_QUEUE_NR(3))
    path.send(b"one")
    path.send(b"two")
    assert path.got() == []
    assert later == []
    one, two = waiting
    assert (one.queuenum, one.state.hook) == (3, point)
    with host.lock:
        nf_reinject(two, NF_ACCEPT)
        nf_reinject(one, NF_ACCEPT)
        with pytest.raises(ValueError, match="had its verdict"):
            nf_reinject(one, NF_ACCEPT)
    assert path.got() == [b"two", b"one"]
    assert len(later) == 2
    waiting.clear()
    path.send(b"three")
    path.send(b"four")
    path.got()
    with host.lock:
        nf_reinject(waiting[0], NF_DROP)
        nf_reinject(waiting[1], NF_STOP)  # the hook behind is not asked
    assert path.got() == [b"four"]
    assert len(later) == 2


def test_other_bits_of_a_verdict_count_as_on_linux(path: Path) -> None:
    """NF_ACCEPT with them is NF_STOP, and NF_REPEAT with them is NF_DROP."""
    waiting: list[nf_queue_entry] = []
    behind: list[int] = []

    def later(skb: Any, state: Any) -> int:
        behind.append(skb.len)
        return NF_ACCEPT

    router = path.net.router
    nf_register_queue_handler(router, 3, waiting.append)
    path.hook(NF_INET_FORWARD, later)
    path.hook(NF_INET_FORWARD, lambda *_: NF_QUEUE_NR(3))
    for text in (b"one", b"two", b"three"):
        path.send(text)
    path.got()
    with router.lock:
        nf_reinject(waiting[0], 1 << 16 | NF_ACCEPT)
        nf_reinject(waiting[1], 1 << 16 | NF_REPEAT)
        nf_reinject(waiting[2], NF_ACCEPT)
    assert path.got() == [b"one", b"three"]
    assert len(behind) == 1


def test_a_handler_that_fails_drops_the_packet(path: Path) -> None:
    router = path.net.router
    nf_register_queue_handler(router, 3, lambda entry: -errno.ENOBUFS)
    path.hook(NF_INET_FORWARD, lambda *_: NF_QUEUE_NR(3) | NF_VERDICT_FLAG_QUEUE_BYPASS)
    path.send(b"x")
    assert path.got() == []
    assert sum(router.drop_reasons.values()) == 1


def test_a_queue_without_listener_drops_or_lets_pass(path: Path) -> None:
    verdicts = [NF_QUEUE_NR(9), NF_QUEUE_NR(9) | NF_VERDICT_FLAG_QUEUE_BYPASS]
    path.hook(NF_INET_FORWARD, lambda *_: verdicts.pop(0))
    path.send(b"dropped")
    path.send(b"passed")
    assert path.got() == [b"passed"]


def test_one_queue_hands_on_to_another_and_back_to_the_hook(path: Path) -> None:
    asked = []
    first: list[nf_queue_entry] = []
    second: list[nf_queue_entry] = []
    router = path.net.router

    def hook(skb: Any, state: Any) -> int:
        asked.append(1)
        return NF_QUEUE_NR(1) if len(asked) == 1 else NF_ACCEPT

    nf_register_queue_handler(router, 1, first.append)
    nf_register_queue_handler(router, 2, second.append)
    path.hook(NF_INET_FORWARD, hook)
    path.send(b"x")
    path.got()
    with router.lock:
        nf_reinject(first[0], NF_QUEUE_NR(2))
    assert path.got() == []
    with router.lock:
        nf_reinject(second[0], NF_REPEAT)
    assert path.got() == [b"x"]
    assert len(asked) == 2


def test_what_a_queue_holds_when_its_hook_goes_is_dropped(path: Path) -> None:
    waiting: list[nf_queue_entry] = []
    router = path.net.router
    nf_register_queue_handler(router, 1, waiting.append)

    def hook(skb: Any, state: Any) -> int:
        return NF_QUEUE_NR(1)

    registered = path.hook(NF_INET_FORWARD, hook)
    path.send(b"x")
    path.got()
    nf_unregister_net_hook(router, NF_INET_FORWARD, registered, path.pf)
    nf_unregister_queue_handler(router, 1)
    with router.lock:
        nf_reinject(waiting[0], NF_ACCEPT)
    assert path.got() == []
    path.send(b"y")
    assert path.got() == [b"y"]


def test_what_a_listener_sends_elsewhere_is_routed_again(path: Path) -> None:
    """The router queues a datagram to the inside; its listener has it go outside."""
    router = path.net.router
    waiting: list[nf_queue_entry] = []
    nf_register_queue_handler(router, 1, waiting.append)
    path.hook(NF_INET_LOCAL_OUT, lambda *_: NF_QUEUE_NR(1), host=router)
    version = 4 if path.pf == NFPROTO_IPV4 else 6
    near, _, far, outside = ADDRS[version]
    sender = router.socket(path.af, socket.SOCK_DGRAM)
    sender.bind((outside, 0))
    sender.sendto(b"x", (near, 7))
    (entry,) = waiting
    assert entry.skb.dst.dev.name == "eth0"
    with router.lock:
        old, new = int(ip_address(near)), int(ip_address(far))
        if version == 4:
            iph = ip_hdr(entry.skb)
            iph.daddr = new
            ip_send_check(iph)
        else:
            ipv6_hdr(entry.skb).daddr = new
        uh = udp_hdr(entry.skb)
        uh.check = inet_proto_csum_replace(uh.check, old, new, path.pf, True)
        nf_reinject(entry, NF_ACCEPT)
    assert entry.skb.users == 0 or entry.skb.dst.dev.name == "eth1"
    assert path.got() == [b"x"]
    sender.close()


def test_repeat_asks_again_but_not_for_ever(path: Path) -> None:
    verdicts = [NF_REPEAT, NF_REPEAT, NF_ACCEPT]
    path.hook(NF_INET_FORWARD, lambda *_: verdicts.pop(0))
    path.send(b"x")
    assert path.got() == [b"x"]
    assert verdicts == []
    with lan() as other:
        stuck = Path(other, 4)
        stuck.hook(NF_INET_FORWARD, lambda *_: NF_REPEAT)
        stuck.send(b"x")
        assert stuck.got() == []
        stuck.client.close()
        stuck.server.close()


def test_stop_leaves_the_others_out(path: Path) -> None:
    path.hook(NF_INET_FORWARD, lambda *_: NF_DROP)
    path.hook(NF_INET_FORWARD, lambda *_: NF_STOP)
    path.send(b"x")
    assert path.got() == [b"x"]


def test_misuse_is_named(path: Path) -> None:
    host = path.net.router
    with pytest.raises(ValueError, match="hook point 5"):
        nf_register_net_hook(host, 5, lambda *_: NF_ACCEPT)
    with pytest.raises(ValueError, match="family 3"):
        nf_register_net_hook(host, 0, lambda *_: NF_ACCEPT, 3)
    with pytest.raises(ValueError, match="queue 65536"):
        nf_register_queue_handler(host, 65536, print)
    nf_register_queue_handler(host, 1, print)
    with pytest.raises(ValueError, match="listener already"):
        nf_register_queue_handler(host, 1, print)
    path.hook(NF_INET_LOCAL_OUT, lambda *_: 77)
    with pytest.raises(ValueError, match="no verdict"):
        path.send(b"x")


def test_a_multicast_loop_copy_meets_post_routing(path: Path) -> None:
    """ip_mc_output and ip6_finish_output2 ask the hooks about the copy for ourselves too."""
    seen = []
    host = path.net.inner

    def look(skb: Any, state: Any) -> int:
        seen.append(state.outdev.name)
        return NF_ACCEPT

    path.hook(NF_INET_POST_ROUTING, look, host=host)
    listener = host.socket(path.af, socket.SOCK_DGRAM)
    listener.settimeout(5)
    if path.af == socket.AF_INET:
        listener.bind(("", 5000))
        group = socket.inet_aton("239.1.1.1") + socket.inet_aton(ADDRS[4][0])
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        path.client.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ADDRS[4][0])
        )
        to: Any = ("239.1.1.1", 5000)
    else:
        listener.bind(("::", 5000))
        index = host.dev("eth0").ifindex
        group = socket.inet_pton(socket.AF_INET6, "ff15::1") + index.to_bytes(4, "little")
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        path.client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        to = ("ff15::1", 5000)
    seen.clear()
    path.client.sendto(b"x", to)
    assert listener.recv(10) == b"x"
    assert seen == ["eth0", "eth0"]
    listener.close()
    path.net.run(5)
