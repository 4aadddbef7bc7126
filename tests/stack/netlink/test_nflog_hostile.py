"""nfnetlink_log on a host: broken requests, readers that are too slow, and the time that messages
wait."""

from __future__ import annotations

import errno
import struct
from collections import Counter
from random import Random

import pytest

from fastpath.base.skbuff import sk_buff
from stack.api.socket import Socket
from stack.core.netfilter import NF_ACCEPT, NF_INET_LOCAL_OUT, nf_hook_state, nf_register_net_hook
from stack.host import Host
from stack.netfilter.nf_log import nf_log_packet, nf_loginfo, nfnl_log_pernet
from stack.netfilter.nf_tables import nft_pktinfo

GROUPS = (0, 1, 5)
REQUEST, ACK = 1, 4
MOST_WAITING = 1 << 18
"""Bytes: the largest buffer, of NFULNL_NLBUFSIZ_MAX, is a power of two in which that fits."""


def attr(kind: int, value: bytes) -> bytes:
    """An attribute of netlink."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) & 3)


def config(group: int, *attrs: bytes, flags: int = REQUEST | ACK) -> bytes:
    """NFULNL_MSG_CONFIG."""
    body = struct.pack(">BBH", 0, 0, group) + b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(body), 0x401, flags, 7, 0) + body


def command(number: int) -> bytes:
    return attr(1, bytes((number,)))


def word(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">I", value))


BIND, UNBIND = command(1), command(2)
ATTRS = (
    *(BIND, UNBIND, command(3), command(4)),
    *(
        attr(2, struct.pack(">IBB", length, mode, 0))
        for length in (0, 9, 65535)
        for mode in range(4)
    ),
    *(word(kind, value) for kind in (3, 4, 5) for value in (0, 1, 100, 1 << 16, 0xFFFFFFFF)),
    *(attr(6, struct.pack(">H", flags)) for flags in (0, 3, 4)),
)


def log_sent(host: Host, qthreshold: int = 0) -> None:
    """What the host sends is logged to each of the groups."""

    def hook(skb: sk_buff, state: nf_hook_state) -> int:
        for group in GROUPS:
            nf_log_packet(nft_pktinfo(skb, state), nf_loginfo(group, "p" * group, None, qthreshold))
        return NF_ACCEPT

    nf_register_net_hook(host, NF_INET_LOCAL_OUT, hook)


def answers(sock: Socket) -> list[bytes]:
    """What a socket has to read; ENOBUFS, that it lost messages, is passed over."""
    found = []
    while True:
        try:
            found.append(sock.recv(1 << 20))
        except BlockingIOError:
            return found
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise


@pytest.mark.parametrize("seed", range(4))
def test_broken_requests_bring_an_errno(host: Host, seed: int) -> None:
    random, log = Random(seed), nfnl_log_pernet(host)
    log_sent(host)
    seen: Counter[int] = Counter()
    logged = 0
    with host.socket(2, 2) as sender:
        sender.bind(("127.0.0.1", 9))
        socks = [host.socket(16, 3, 12) for _ in range(3)]
        for sock in socks:
            sock.bind((0, 0))
            sock.setblocking(False)
        for _ in range(1500):
            data = bytearray(config(random.choice(GROUPS), *random.choices(ATTRS, k=2)))
            if random.random() < 0.3:
                data[random.randrange(16, len(data))] = random.choice((0, 1, 2, 4, 128, 255))
            random.choice(socks).send(data)
            sender.sendto(bytes(random.choice((0, 9, 2000, 60000))), ("127.0.0.1", 9))
            for sock in socks:
                for answer in answers(sock):
                    kind = struct.unpack_from("=H", answer, 4)[0]
                    if kind == 2:
                        seen[-struct.unpack_from("=i", answer, 16)[0]] += 1
                    else:
                        assert kind == 0x400
                        logged += 1
            for inst in log.instances.values():
                assert len(inst.skb or b"") <= MOST_WAITING
        assert seen.keys() >= {0, errno.EPERM, errno.EBUSY, errno.ENODEV, errno.EOPNOTSUPP}
        assert errno.ERANGE in seen or errno.EINVAL in seen or 524 in seen
        assert logged > 100
        for sock in socks:
            sock.close()
    assert log.instances == {}


def test_a_slow_reader_loses_messages_and_is_told_once(host: Host) -> None:
    log_sent(host, qthreshold=1)
    with host.socket(16, 3, 12) as sock, host.socket(2, 2) as sender:
        sock.bind((0, 0))
        sender.bind(("127.0.0.1", 9))
        sock.send(config(5, BIND, flags=REQUEST))
        for _ in range(500):
            sender.sendto(bytes(1000), ("127.0.0.1", 9))
        with pytest.raises(OSError, match="No buffer space"):
            sock.recv(1 << 16)
        sock.setblocking(False)
        assert 10 < len(answers(sock)) < 500
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
        assert len(answers(sock)) == 1


def test_messages_wait_for_the_time_that_the_program_said(host: Host) -> None:
    log_sent(host)
    with host.socket(16, 3, 12) as sock, host.socket(2, 2) as sender:
        sock.bind((0, 0))
        sender.bind(("127.0.0.1", 9))
        sock.setblocking(False)
        sock.send(config(5, BIND, word(4, 50), flags=REQUEST))  # hundredths of a second
        sender.sendto(b"a", ("127.0.0.1", 9))
        host.clock.run_for(400_000_000)
        sender.sendto(b"b", ("127.0.0.1", 9))
        assert answers(sock) == []
        host.clock.run_for(100_000_000)
        both = answers(sock)
        assert len(both) == 1
        assert both[0].count(b"ppppp\0") == 2
        sender.sendto(b"c", ("127.0.0.1", 9))
        sock.send(config(5, UNBIND, flags=REQUEST))
        assert len(answers(sock)) == 1  # what waited comes when the group ends
        host.clock.run_for(10**9)
        assert answers(sock) == []
