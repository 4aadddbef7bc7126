"""nfnetlink_queue on a host: broken requests and verdicts, packets that programs made up, readers
that are too slow, and how a queue ends."""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from stack import proc
from stack.api.socket import Socket
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_QUEUE_NR,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_hook_state,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.nf_queue import nf_register_queue_handler
from stack.host import Host
from stack.netfilter.nfnl_queue import nfnl_queue_pernet
from stack.netlink.nlattr import nla_for_each
from tests.stack.netlink.test_nflog_hostile import answers, attr, word

QUEUES = (0, 1, 5)
REQUEST, ACK = 1, 4
PACKET, VERDICT, CONFIG, BATCH = 0x300, 0x301, 0x302, 0x303
FAIL_OPEN, GSO, UID_GID = 1, 4, 8


def message(kind: int, queue: int, *attrs: bytes, flags: int = REQUEST | ACK) -> bytes:
    """A message to nfnetlink_queue."""
    body = struct.pack(">BBH", 0, 0, queue) + b"".join(attrs)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 7, 0) + body


def command(number: int) -> bytes:
    return attr(1, bytes((number, 0, 0, 2)))


def params(mode: int, length: int = 0xFFFF) -> bytes:
    return attr(2, struct.pack(">IB", length, mode))


def header(verdict: int, number: int) -> bytes:
    return attr(2, struct.pack(">II", verdict, number & 0xFFFFFFFF))


def flags(value: int) -> bytes:
    return word(5, value) + word(4, 0xFFFFFFFF)


BIND, UNBIND = command(1), command(2)
CONFIGS = (
    *(BIND, BIND, UNBIND, command(3), command(9), params(0), params(1), params(2), params(3)),
    *(params(2, length) for length in (0, 1, 9, 20, 0xFFFFFFFF)),
    *(word(3, value) for value in (0, 1, 100, 0xFFFFFFFF)),
    *(flags(value) for value in (0, FAIL_OPEN, GSO, UID_GID, 2, 31, 64)),
)


def opened(host: Host) -> Socket:
    """A socket of NETLINK_NETFILTER, which does not wait."""
    sock: Socket = host.socket(16, 3, 12)
    sock.bind((0, 0))
    sock.setblocking(False)
    return sock


def queue_all(host: Host, random: Random) -> None:
    """Every packet goes to one of the queues, at every hook point that it meets."""

    def hook(skb: object, state: nf_hook_state) -> int:
        return NF_QUEUE_NR(random.choice(QUEUES)) | random.choice((0, 0x8000))

    points = (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING)
    for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
        for point in points:
            nf_register_net_hook(host, point, hook, pf)


def garbage(random: Random, packet: bytes) -> bytes:
    """A packet with wrong bytes or another length, or none at all."""
    data = bytearray(packet)
    for _ in range(random.choice((0, 1, 3))):
        if data:
            data[random.randrange(min(len(data), 60))] = random.choice((0, 1, 0x45, 0x60, 255))
    size = random.choice((0, 1, 19, 20, 28, 40, 60, len(data), len(data) + 9, 9000, 65527))
    changed = data[:size].ljust(size, b"\xaa") if random.random() < 0.5 else data
    return bytes(changed[:65527])


def payload(told: bytes) -> bytes:
    """NFQA_PAYLOAD of a message."""
    return next((told[at + 4 : end] for kind, at, end in nla_for_each(told, 20) if kind == 10), b"")


@pytest.mark.parametrize("seed", range(6))
def test_broken_requests_bring_an_errno_and_made_up_packets_are_dropped(
    host: Host, seed: int
) -> None:
    random, queues = Random(seed), nfnl_queue_pernet(host)
    queue_all(host, random)
    seen: Counter[int] = Counter()
    packets: list[tuple[int, int, bytes]] = []
    socks = [opened(host) for _ in range(3)]
    with (
        host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender6,
        host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        host.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
    ):
        sender.bind(("127.0.0.1", 9))
        sender6.bind(("::1", 9))
        sender.setblocking(False)
        sender6.setblocking(False)
        listener.bind(("127.0.0.1", 10))
        listener.listen()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 10))
        for turn in range(1500):
            queue = random.choice(QUEUES)
            attrs = [*random.choices(CONFIGS, k=2)]
            kind = CONFIG
            if packets and random.random() < 0.7:
                queue, number, packet = random.choice(packets[-20:])
                number += random.choice((0, 0, 0, 0, 1, -1, 1 << 31))
                kind = random.choice((VERDICT, VERDICT, VERDICT, BATCH))
                verdict = random.choice((0, 1, 1, 1, 2, 4, 5, 3, 3 | 5 << 16, 0x10001, 6, 255))
                attrs = [header(verdict, number), word(random.choice((3, 21, 21, 22)), turn)]
                attrs += [attr(10, garbage(random, packet))] if random.random() < 0.6 else []
            data = bytearray(message(kind, queue, *attrs))
            if random.random() < 0.2:
                data[random.randrange(16, min(len(data), 60))] = random.choice((0, 1, 4, 128, 255))
            random.choice(socks).send(data)
            with suppress(BlockingIOError):  # what waits fills the senders' buffers
                sender.sendto(bytes(random.choice((0, 9, 2000, 60000))), ("127.0.0.1", 9))
                sender6.sendto(bytes(random.choice((0, 9, 2000))), ("::1", 9))
            with suppress(OSError):  # its connection may not come about, or be reset
                client.send(bytes(100_000))
            if turn % 50 == 0:
                host.clock.run_for(300_000_000)
            for sock in socks:
                for answer in answers(sock):
                    told = struct.unpack_from("=H", answer, 4)[0]
                    if told == 2:
                        seen[-struct.unpack_from("=i", answer, 16)[0]] += 1
                        continue
                    assert told == PACKET
                    queue, number = struct.unpack_from(">H4xI", answer, 18)
                    packets.append((queue, number, payload(answer)))
        wanted = {0, errno.EPERM, errno.EBUSY, errno.ENODEV, errno.ENOENT, errno.EINVAL}
        assert seen.keys() >= wanted | {errno.EOPNOTSUPP, errno.ERANGE}
        assert len(packets) > 100
        for sock in socks:
            sock.close()
    assert queues.instances == {}
    assert host.nf_queue.handlers == {}


def test_a_slow_reader_loses_packets_and_is_told_once(host: Host) -> None:
    nf_register_net_hook(host, NF_INET_LOCAL_OUT, lambda *_: NF_QUEUE_NR(5))
    with opened(host) as sock, host.socket(2, 2) as sender:
        sender.bind(("127.0.0.1", 9))
        sock.send(message(CONFIG, 5, BIND, params(2), flags=REQUEST))
        for _ in range(500):
            sender.sendto(bytes(1000), ("127.0.0.1", 9))
        (queue,) = nfnl_queue_pernet(host).instances.values()
        assert len(queue.queue_list) + queue.queue_user_dropped == queue.id_sequence == 500
        with pytest.raises(OSError, match="No buffer space"):
            sock.recv(1 << 16)
        assert len(answers(sock)) == len(queue.queue_list) < 500
        sock.send(message(CONFIG, 5, flags(FAIL_OPEN), word(3, 0), flags=REQUEST))
        sender.setblocking(False)
        sender.sendto(b"passes", ("127.0.0.1", 9))
        assert sender.recv(99) == b"passes"


def test_a_connected_socket_hears_no_packets(host: Host) -> None:
    nf_register_net_hook(host, NF_INET_LOCAL_OUT, lambda *_: NF_QUEUE_NR(5))
    with opened(host) as sock, opened(host) as other, host.socket(2, 2) as sender:
        sender.bind(("127.0.0.1", 9))
        sock.send(message(CONFIG, 5, BIND, params(2), flags=REQUEST))
        sock.connect((other.getsockname()[0], 0))
        sender.sendto(b"lost", ("127.0.0.1", 9))
        (queue,) = nfnl_queue_pernet(host).instances.values()
        assert (queue.queue_user_dropped, queue.id_sequence, len(queue.queue_list)) == (1, 1, 0)


def test_a_queue_of_python_is_not_a_programs(host: Host) -> None:
    nf_register_queue_handler(host, 5, lambda entry: None)
    with opened(host) as sock:
        sock.send(message(CONFIG, 5, BIND))
        assert struct.unpack_from("=i", answers(sock)[0], 16)[0] == -errno.EBUSY
        sock.send(message(CONFIG, 6, BIND))
        with pytest.raises(ValueError, match="has a listener"):
            nf_register_queue_handler(host, 6, lambda entry: None)


def test_packets_of_a_queue_end_with_hook_and_host(host: Host) -> None:
    def hook(*_: object) -> int:
        return NF_QUEUE_NR(5)

    def other(*_: object) -> int:
        return NF_ACCEPT

    free = host.skb_small.available
    sock = opened(host)
    nf_register_net_hook(host, NF_INET_LOCAL_OUT, hook)
    nf_register_net_hook(host, NF_INET_LOCAL_IN, other)
    with host.socket(2, 2) as sender:
        sender.bind(("127.0.0.1", 9))
        sock.send(message(CONFIG, 5, BIND, params(2), flags=REQUEST))
        sender.sendto(b"one", ("127.0.0.1", 9))
        sender.sendto(b"two", ("127.0.0.1", 9))
        assert proc.read(host, "netfilter/nfnetlink_queue").split()[2] == "2"
        nf_unregister_net_hook(host, NF_INET_LOCAL_IN, other)
        assert proc.read(host, "netfilter/nfnetlink_queue").split()[2] == "0"
        sender.sendto(b"three", ("127.0.0.1", 9))
        sock.close()
    assert proc.read(host, "netfilter/nfnetlink_queue") == ""
    assert host.skb_small.available == free
