"""/proc/net: the layout that Linux's tools parse."""

from __future__ import annotations

import socket as stdlib

import jc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack import proc
from stack.core.rows import rows_of
from stack.core.snmp import icmp_mib, ipstats_mib, linux_mib, tcp_mib, udp_mib
from stack.inet.tcp_sock import tcp_sock
from stack.ipv4.fib import MASKS, fib_alias, fib_info, fib_table, ip_route_add
from stack.proc import read
from stack.proc.trie import leaf, tnode, trie_of, walk
from stack.socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    SOCK_DGRAM,
    SOCK_RAW,
    create_connection,
    create_server,
)
from tests.support import examples


def parse_groups(text):
    """{"Ip": {"InReceives": 1 ...}} of /proc/net/snmp or netstat, as netstat(8) reads it."""
    lines = text.splitlines()
    groups = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        tag, *keys = names.split()
        tag2, *numbers = values.split()
        assert tag == tag2
        assert len(keys) == len(numbers)
        groups[tag.rstrip(":")] = dict(zip(keys, map(int, numbers), strict=True))
    return groups


def test_snmp_and_netstat_have_linuxs_groups_and_first_names(hosts):
    groups = parse_groups(proc.read(hosts[0], "snmp"))
    assert [g for g in groups if g != "IcmpMsg"] == ["Ip", "Icmp", "Tcp", "Udp", "UdpLite"]
    assert list(groups["Ip"])[:3] == ["Forwarding", "DefaultTTL", "InReceives"]
    assert groups["Ip"]["Forwarding"] == 2
    assert groups["Tcp"]["MaxConn"] == -1
    ext = parse_groups(proc.read(hosts[0], "netstat"))
    assert list(ext) == ["TcpExt", "IpExt"]
    assert next(iter(ext["TcpExt"])) == "SyncookiesSent"


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (ipstats_mib, "ReasmReqds"),
        (icmp_mib, "OutEchoReps"),
        (tcp_mib, "RetransSegs"),
        (udp_mib, "NoPorts"),
        (linux_mib, "TCPTimeouts"),
    ],
)
def test_counters_start_at_zero_and_refuse_unknown_names(cls, name):
    mib = cls()
    assert getattr(mib, name) == 0
    with pytest.raises(AttributeError):
        mib.NoSuchCounter = 1


def test_dev_counts_what_crossed(a, b):
    with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
        server.bind(("", 7))
        client.sendto(bytes(100), ("10.0.0.2", 7))
        server.recv(200)
    rows = {}
    for line in proc.read(b, "dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        rows[name.strip()] = [int(v) for v in rest.split()]
    assert set(rows) == {"lo", "eth0"}
    assert all(len(row) == 16 for row in rows.values())
    assert rows["eth0"][1] >= 2  # the ARP request and the datagram


def test_arp_and_route(a):
    with a.socket(AF_INET, SOCK_DGRAM) as client:
        client.sendto(b"x", ("10.0.0.2", 7))
        a.clock.run_for(1_000_000)
    lines = proc.read(a, "arp").splitlines()
    assert lines[0].split()[:2] == ["IP", "address"]
    assert lines[1].split() == ["10.0.0.2", "0x1", "0x2", "52:54:00:12:34:57", "*", "eth0"]
    a.route_add("default", via="10.0.0.2")
    rows = [line.split() for line in proc.read(a, "route").splitlines()]
    assert rows[0][:3] == ["Iface", "Destination", "Gateway"]
    by_dest = {row[1]: row for row in rows[1:]}
    assert by_dest["00000000"][2] == "0200000A"
    assert by_dest["0000000A"][7] == "00FFFFFF"


def test_route_tells_metrics_as_linux_does_and_one_hop(a):
    metrics = {"mtu": 1300, "advmss": 1200, "window": 5000, "rtt": 800}
    a.route_add("10.1.0.0/16", via="10.0.0.2", mtu=1300)
    a.route_add("10.2.0.0/16", via="10.0.0.2", **metrics)
    hops = [(f"10.0.0.{n}", "eth0", 1) for n in (2, 3)]
    with a.lock:
        ip_route_add(a, "10.5.0.0/16", nexthops=hops)
    rows = [line.split() for line in proc.read(a, "route").splitlines()[2:]]
    assert [(row[1], row[8:]) for row in rows] == [  # as Linux 6.18 says
        ("0000010A", ["0", "0", "0"]),
        ("0000020A", ["1240", "5000", "100"]),
        ("0000050A", ["0", "0", "0"]),
    ]


def test_sockstat_counts_packets_that_wait_for_fragments(a, b):
    assert "FRAG: inuse 0 memory 0\n" in proc.read(b, "sockstat")
    assert "FRAG6: inuse 0 memory 0\n" in proc.read(b, "sockstat6")
    head = bytes.fromhex("45000024000120004011") + bytes(2) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    with a.socket(AF_INET, SOCK_RAW, 255) as sock:  # IPPROTO_RAW: the first of two fragments
        sock.sendto(head + bytes(16), ("10.0.0.2", 0))
        a.clock.run_for(1_000_000)
    (line,) = (row for row in proc.read(b, "sockstat").splitlines() if row.startswith("FRAG"))
    assert line.startswith("FRAG: inuse 1 memory ")
    assert int(line.split()[-1]) == b.ipv4.frags.mem > 0


def test_sockets(a, b):
    server = create_server(b, ("", 80))
    client = create_connection(a, ("10.0.0.2", 80))
    conn, _ = server.accept()
    udp = b.socket(AF_INET, SOCK_DGRAM)
    udp.bind(("10.0.0.2", 53))
    rows = [line.split() for line in proc.read(b, "tcp").splitlines()[1:]]
    assert [row[1] for row in rows] == ["00000000:0050", "0200000A:0050"]
    assert [row[3] for row in rows] == ["0A", "01"]
    rows = [line.split() for line in proc.read(b, "udp").splitlines()[1:]]
    assert "0200000A:0035" in [row[1] for row in rows]
    for sock in (server, client, conn, udp):
        sock.close()
    a.clock.run_for(1_000_000_000)
    states = [line.split()[3] for line in proc.read(a, "tcp").splitlines()[1:]]
    assert "06" in states or "05" in states or states == []


def test_neighbour_statistics(a):
    """/proc/net/stat/arp_cache: as many words as columns; the counters are the table's."""
    with a.socket(AF_INET, SOCK_DGRAM) as client:
        client.sendto(b"x", ("10.0.0.2", 7))
        a.clock.run_for(1_000_000)
    for name, table in (("stat/arp_cache", a.arp_tbl), ("stat/ndisc_cache", a.ipv6.nd_tbl)):
        head, row = proc.read(a, name).splitlines()
        shown = dict(zip(head.split(), (int(word, 16) for word in row.split()), strict=True))
        assert shown["entries"] == len(table.hash)
        assert shown["unresolved_discards"] == table.stats.unres_discards
        assert shown["lookups"] == table.stats.lookups
        assert shown["allocs"] == table.stats.allocs
    assert a.arp_tbl.stats.allocs


def test_every_file_can_be_read_and_others_are_named(hosts):
    for name in proc.FILES:
        shown = proc.read(hosts[0], name)
        # Those have no head, so they are empty while there is nothing, as Linux's.
        headless = ("nf_conntrack", "anycast6", "netfilter/nfnetlink_log")
        empty = name in (*headless, "netfilter/nfnetlink_queue") and not shown
        assert shown.endswith("\n") or empty or (name == "rt_acct" and len(shown) == 4096)
    with pytest.raises(FileNotFoundError, match="netstat"):
        proc.read(hosts[0], "nonsense")


def test_ss_is_what_parsers_of_ss_read(a, b):
    """jc's parser, made for iproute2's ss, finds the sockets and their ends."""
    server = create_server(b, ("", 80))
    client = create_connection(a, ("10.0.0.2", 80))
    conn, _ = server.accept()
    client.sendall(bytes(5000))
    a.clock.run_for(1_000_000_000)
    udp = b.socket(AF_INET, SOCK_DGRAM)
    udp.bind(("10.0.0.2", 53))
    rows = jc.parse("ss", proc.ss(b))
    found = [(r["netid"], r["state"], r["local_address"], r["local_port"]) for r in rows]
    assert ("udp", "UNCONN", "10.0.0.2", "53") in found
    assert ("tcp", "LISTEN", "0.0.0.0", "80") in found
    assert ("tcp", "ESTAB", "10.0.0.2", "80") in found
    assert next(r for r in rows if r["state"] == "ESTAB")["recv_q"] == 5000
    for sock in (server, client, conn, udp):
        sock.close()


def test_ss_tells_what_the_rows_say_it_shows(a, b):
    server = create_server(b, ("", 80))
    client = create_connection(a, ("10.0.0.2", 80))
    conn, _ = server.accept()
    client.sendall(bytes(5000))
    a.clock.run_for(1_000_000_000)
    told = proc.ss(a, info=True, memory=True).splitlines()[2].split()
    fields = dict(part.split(":", 1) for part in told if ":" in part)
    assert fields["bytes_acked"] == "5001"
    assert fields["mss"] == "1448"
    assert fields["cwnd"] == "10"
    assert fields["skmem"].startswith("(r0,rb")
    assert "cubic" in told
    assert "ts" in told
    labels = {entry.ss for entry in rows_of(tcp_sock).values() if entry.ss}
    assert {"cwnd", "ssthresh", "rto", "unacked", "bytes_retrans"} <= labels
    for sock in (server, client, conn):
        sock.close()


def test_nstat_names_every_counter_of_snmp_and_netstat(a, b):
    create_server(b, ("", 80)).close()
    told = {
        line.split()[0]: int(line.split()[1]) for line in proc.nstat(a, zeros=True).splitlines()[1:]
    }
    assert told["IpDefaultTTL"] == 64
    for file in ("snmp", "netstat"):
        for group, values in parse_groups(proc.read(a, file)).items():
            for name, value in values.items():
                assert told[group + name] == value
    assert "TcpExtSyncookiesSent" not in proc.nstat(a)


def test_socket_files_of_ipv6_have_four_words_an_address(a, b):
    server = b.socket(AF_INET6)
    server.bind(("::", 80))
    server.listen()
    client = create_connection(a, ("10.0.0.2", 80))
    conn, _ = server.accept()
    datagram = b.socket(AF_INET6, SOCK_DGRAM)
    datagram.bind(("::1", 53))
    rows = [line.split() for line in proc.read(b, "tcp6").splitlines()[1:]]
    mapped = "0000000000000000FFFF00000200000A:0050"
    assert [row[1] for row in rows] == ["0" * 32 + ":0050", mapped]
    assert [row[3] for row in rows] == ["0A", "01"]
    assert proc.read(b, "tcp").count("\n") == 1
    (row,) = proc.read(b, "udp6").splitlines()[1:]
    assert row.split()[1] == "00000000000000000000000001000000:0035"
    assert "TCP6: inuse 2" in proc.read(b, "sockstat6")
    for sock in (server, client, conn, datagram):
        sock.close()


def test_packet_sockets(a):
    with a.socket(AF_PACKET, SOCK_RAW, stdlib.htons(0x0800)) as sock:
        sock.bind(("eth0", 0x0800))
        head, line = read(a, "packet").splitlines()
        assert head == "sk               RefCnt Type Proto  Iface R Rmem   User   Inode"
        fields = line.split()
        assert fields[1:6] == ["3", "3", "0800", str(a.dev("eth0").ifindex), "1"]
    assert read(a, "packet").splitlines() == [head]


def test_xtp_counts(a, b):
    with a.socket(AF_INET, SOCK_DGRAM, 36) as sender, b.socket(AF_INET, SOCK_DGRAM, 36) as taker:
        taker.bind(("10.0.0.2", 9))
        sender.sendto(b"x", ("10.0.0.2", 9))
        taker.recv(10)
    for host, name in ((a, "OutDatagrams"), (b, "InDatagrams")):
        names, values = (line.split() for line in read(host, "xtp").splitlines())
        assert names[0] == values[0] == "Xtp:"
        assert dict(zip(names, values, strict=True))[name] == "1"


def test_ping_sockets_are_in_icmp(a):
    """The columns are those of Linux 6.18, with the port of a bound socket as its identifier."""
    with a.socket(AF_INET, SOCK_DGRAM, 1) as ping, a.socket(AF_INET6, SOCK_DGRAM, 58) as ping6:
        ping.bind(("127.0.0.1", 77))
        ping6.bind(("::1", 78))
        head, row = read(a, "icmp").splitlines()
        assert head.startswith("  sl  local_address rem_address ")
        assert len(head) == len(row) == 127
        assert row.startswith("    0: 0100007F:004D 00000000:0000 07 00000000:00000000 00:")
        _, row = read(a, "icmp6").splitlines()
        assert row.startswith(f"    0: {'0' * 24}01000000:004E {'0' * 32}:0000 07 ")
    assert [len(read(a, name).splitlines()) for name in ("icmp", "icmp6")] == [1, 1]


def test_handlers_and_netlink_sockets_are_told(a):
    with a.socket(16, SOCK_RAW, 0) as netlink, a.socket(AF_PACKET, SOCK_RAW, 3) as tap:
        netlink.bind((7, 1 | 1 << 4))
        tap.bind(("eth0", 3))
        assert read(a, "netlink").splitlines()[1].split()[1:4] == ["0", "7", "00000011"]
        lines = read(a, "ptype").splitlines()
    assert lines[1] == "ALL  eth0     packet_rcv"
    assert "0800          ip_rcv" in lines


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=60))
def test_a_trie_of_routes_is_in_order_and_counts_its_children(prefixes):
    table = fib_table(7)
    info = fib_info([], rtype=1, scope=0)
    for serial, (addr, plen) in enumerate(prefixes):
        table.insert(fib_alias(addr & MASKS[plen], plen, 0, 1, info, 7, serial))
    nodes = [n for n, _ in walk(trie_of(list(table.aliases())))]
    leaves = [n for n in nodes if isinstance(n, leaf)]
    assert [n.key for n in leaves] == sorted({addr & MASKS[plen] for addr, plen in prefixes})
    assert sum(len(n.aliases) for n in leaves) == len(prefixes)
    for n in nodes:
        if isinstance(n, tnode):
            assert n.empty == n.child.count(None) <= len(n.child) - 2
            assert n.full == sum(map(n.is_full, n.child))
            assert all(
                c is None or (n.index(c.key) == i and not (c.key ^ n.key) >> (n.pos + n.bits))
                for i, c in enumerate(n.child)
            )


def test_lookups_that_no_cache_answers_are_counted(a, b):
    def counts(host):
        names, values = read(host, "stat/rt_cache").splitlines()
        return dict(zip(names.split(), (int(v, 16) for v in values.split()), strict=True))

    create_server(b, ("", 80)).close()
    before = counts(b)
    with pytest.raises(ConnectionRefusedError):
        create_connection(a, ("10.0.0.2", 80))
    after = counts(b)
    assert after["in_slow_tot"] > before["in_slow_tot"]
    assert after["out_slow_tot"] > before["out_slow_tot"]
    assert after["entries"] >= 2
