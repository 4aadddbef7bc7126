"""SO_TIMESTAMPING in virtual time: which packets are stamped, and that a stamp is the instant.

tests/linux/calls/stamps.py holds the messages themselves against the kernel's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.core import uapi as u
from stack.core.ethtool import ethtool_get_ts_info, ethtool_set_features
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, Socket
from stack.socket import create_server as listen

SEC = 1_000_000_000
DELAY = 12_345_000
PORT = 7
Hosts = tuple[Host, Host]
Stamp = tuple[int, int, int]
ALL = (
    u.SOF_TIMESTAMPING_TX_SOFTWARE
    | u.SOF_TIMESTAMPING_TX_SCHED
    | u.SOF_TIMESTAMPING_TX_ACK
    | u.SOF_TIMESTAMPING_SOFTWARE
    | u.SOF_TIMESTAMPING_OPT_ID
    | u.SOF_TIMESTAMPING_OPT_TSONLY
)
SCHED, SND, ACK = u.SCM_TSTAMP_SCHED, u.SCM_TSTAMP_SND, u.SCM_TSTAMP_ACK


@pytest.fixture
def ab() -> Iterator[Hosts]:
    a, b = two_hosts(VirtualClock(), latency_ns=DELAY)
    a.ifconfig("eth0", "fd00::1/64")
    b.ifconfig("eth0", "fd00::2/64")
    a.clock.run_for(3 * SEC)
    with a, b:
        yield a, b


def there(family: int) -> tuple[str, int]:
    return ("fd00::2" if family == AF_INET6 else "10.0.0.2"), PORT


def connection(ab: Hosts, family: int) -> tuple[Socket, Socket]:
    a, b = ab
    listener = listen(b, there(family), family=family)
    client = a.socket(family, SOCK_STREAM)
    client.connect(there(family))
    server, _ = listener.accept()
    listener.close()
    return client, server


def speaker(ab: Hosts, family: int) -> Socket:
    client = ab[0].socket(family, SOCK_DGRAM)
    client.connect(there(family))
    client.send(b"x")  # resolves the address
    ab[0].clock.run_for(SEC)
    with pytest.raises(ConnectionRefusedError):
        client.send(b"x")
    return client


def stamps(sock: Socket) -> list[Stamp]:
    """What the error queue has: (SCM_TSTAMP_*, number, ns since 1970)."""
    found = []
    while True:
        try:
            _, control, flags, _ = sock.recvmsg(4096, 512, u.MSG_ERRQUEUE | u.MSG_DONTWAIT)
        except BlockingIOError:
            return found
        assert flags & u.MSG_ERRQUEUE
        words = {kind: data for _, kind, data in control}
        sec, nsec = struct.unpack("=6q", words[u.SCM_TIMESTAMPING])[:2]
        recverr = words.get(u.IP_RECVERR) or words[u.IPV6_RECVERR]
        _, origin, _, _, _, info, number = struct.unpack("=IBBBBII", recverr[:16])
        assert origin == u.SO_EE_ORIGIN_TIMESTAMPING
        found.append((info, number, sec * SEC + nsec))


FAMILIES = pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["v4", "v6"])


@FAMILIES
def test_an_acknowledgement_is_stamped_when_it_comes(ab: Hosts, family: int) -> None:
    client, server = connection(ab, family)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    begin = ab[0].machine.realtime_ns()
    client.send(bytes(10_000))
    ab[0].clock.run_for(SEC)
    found = {kind: when - begin for kind, number, when in stamps(client) if number == 9999}
    assert sorted(found) == [SND, SCHED, ACK]
    assert found[SND] == found[SCHED] == 0
    assert 2 * DELAY <= found[ACK] < 2 * DELAY + 1_000_000
    assert not client.sk.sk_rmem_alloc
    client.close()
    server.close()


@FAMILIES
def test_each_write_has_its_last_byte_stamped(ab: Hosts, family: int) -> None:
    """Also when several writes wait in one packet, of which only the last byte counts."""
    client, _ = connection(ab, family)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL | u.SOF_TIMESTAMPING_OPT_ID_TCP)
    for size in (1, 2000, 50_000):
        client.send(bytes(size))
        ab[0].clock.run_for(SEC)
    assert [n for kind, n, _ in stamps(client) if kind == ACK] == [0, 2000, 52_000]
    client.setsockopt(u.SOL_TCP, 3, 1)  # TCP_CORK
    client.send(b"a")
    client.send(b"b")
    client.setsockopt(u.SOL_TCP, 3, 0)
    ab[0].clock.run_for(SEC)
    assert [(kind, n) for kind, n, _ in stamps(client)] == [
        (SCHED, 52_002),
        (SND, 52_002),
        (ACK, 52_002),
    ]


@pytest.mark.parametrize("tso", [True, False])
def test_a_packet_cut_up_is_stamped_once(ab: Hosts, tso: bool) -> None:
    if not tso:
        ethtool_set_features(ab[0].dev("eth0"), {"tso": False, "gso": False})
    client, _ = connection(ab, AF_INET)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    client.send(bytes(8000))
    ab[0].clock.run_for(SEC)
    assert sorted(kind for kind, _, _ in stamps(client)) == [SND, SCHED, ACK]


def test_what_is_sent_again_is_stamped_again(ab: Hosts) -> None:
    a, b = ab
    client, _ = connection(ab, AF_INET)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    b.ifconfig("eth0", up=False)
    client.send(b"lost")
    a.clock.run_for(SEC // 2)
    found = stamps(client)
    again = [(kind, number) for kind, number, _ in found]
    assert again.count((SND, 3)) >= 2
    assert ACK not in [kind for kind, _ in again]
    times = [when for kind, _, when in found if kind == SND]
    assert times == sorted(set(times))


@FAMILIES
def test_of_fragments_the_first_is_stamped(ab: Hosts, family: int) -> None:
    client = speaker(ab, family)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    client.send(bytes(5000))
    ab[0].clock.run_for(SEC // 1000)
    assert [(kind, n) for kind, n, _ in stamps(client)] == [(SCHED, 0), (SND, 0)]


def test_a_full_error_queue_drops_stamps(ab: Hosts) -> None:
    client = speaker(ab, AF_INET)
    client.setsockopt(SOL_SOCKET, u.SO_RCVBUF, 1)
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    for _ in range(20):
        try:
            client.send(b"x")
        except ConnectionRefusedError:
            client.send(b"x")
    assert 0 < client.sk.sk_error_queue.qlen < 20
    client.close()


def test_an_idle_host_asks_nothing(ab: Hosts) -> None:
    """Without SO_TIMESTAMPING packets have no flags, and datagrams their prebuilt headers."""
    client = speaker(ab, AF_INET)
    assert client.sk.sk_tx_flow is not None
    client.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, ALL)
    for _ in range(2):  # one of them may tell of the port
        try:
            client.send(b"x")
        except ConnectionRefusedError:
            continue
    assert client.sk.sk_tx_flow is None


def test_what_a_listener_asks_its_children_ask_and_give_back(ab: Hosts) -> None:
    a, b = ab
    flags = u.SOF_TIMESTAMPING_RX_SOFTWARE | u.SOF_TIMESTAMPING_SOFTWARE
    with listen(b, ("", PORT)) as listener:
        listener.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, flags)
        with a.socket() as client:
            client.connect(("10.0.0.2", PORT))
            server, _ = listener.accept()
            assert b.machine.net_hotdata.netstamp_needed == 2
            client.send(b"x")
            a.clock.run_for(SEC // 100)
            came = b.machine.realtime_ns()
            a.clock.run_for(SEC)
            [(_, kind, data)] = server.recvmsg(10, 200)[1]
            assert kind == u.SCM_TIMESTAMPING
            sec, nsec, *hardware = struct.unpack("=6q", data)
            assert came <= sec * SEC + nsec <= came + DELAY
            assert hardware == [0] * 4
            server.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, 0)
            assert b.machine.net_hotdata.netstamp_needed == 1
            server.close()
    b.clock.run_for(300 * SEC)
    assert b.machine.net_hotdata.netstamp_needed == 0


def test_a_clock_of_an_interface_there_is_none(ab: Hosts) -> None:
    with ab[0].socket(AF_INET, SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="bind an interface"):
            sock.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, u.SOF_TIMESTAMPING_BIND_PHC)
        sock.setsockopt(SOL_SOCKET, u.SO_BINDTODEVICE, b"eth0")
        with pytest.raises(OSError, match="no clock"):
            sock.setsockopt(SOL_SOCKET, u.SO_TIMESTAMPING, u.SOF_TIMESTAMPING_BIND_PHC)


def test_ethtool_tells_of_software_stamps(ab: Hosts) -> None:
    a, _ = ab
    a.add_bridge("br0")
    for name, sends in (("eth0", True), ("lo", True), ("br0", False)):
        told = ethtool_get_ts_info(a.dev(name))
        assert bool(told & u.SOF_TIMESTAMPING_TX_SOFTWARE) is sends
        assert told & u.SOF_TIMESTAMPING_RX_SOFTWARE
        assert not told & u.SOF_TIMESTAMPING_RAW_HARDWARE
