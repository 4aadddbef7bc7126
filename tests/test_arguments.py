"""Wrong arguments of public constructors and functions: an error under E1000Error that names where,
the argument, the value and what to give. Nothing is rounded, cut or taken for something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from e1000emu.capture import read_capture, with_comments
from e1000emu.clock import AsyncioClock, VirtualClock
from e1000emu.device.bus import Bus
from e1000emu.device.nic import Nic
from e1000emu.errors import E1000Error
from e1000emu.insight.explain import explain
from e1000emu.insight.faults import Faults
from e1000emu.lab import Lab, add_nic, lan, mac_address, pump, two_hosts
from e1000emu.links import (
    Capture,
    FarEnd,
    Generator,
    Impair,
    NullLink,
    Passt,
    Patch,
    PcapReplay,
    QemuDgram,
    QemuStream,
    Switch,
    pair,
)
from e1000emu.memory import host_memory
from e1000emu.record.snapshot import load_file, save_file
from e1000emu.testing import Bench, GuestRings
from stack import aio
from stack.api import aio_select, aio_unix
from stack.host import Host
from stack.ipv4.arp import arp_req_set
from stack.socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_STREAM,
    Socket,
    create_connection,
    create_server,
    getaddrinfo,
)

CLOCK = VirtualClock()
NAN = float("nan")
ADDR = ("10.0.0.1", 80)


def host(**options: Any) -> Host:
    return Host(name="h", clock=VirtualClock(), drivers=False, **options)


def nic(**options: Any) -> Nic:
    h = Host(name="h", clock=VirtualClock())
    ports = {"memory": h.dma_table(), "irq": h.irq_line(1), "link": NullLink(h.clock)}
    return Nic(**{**ports, "clock": h.clock, **options})


def impair(**options: Any) -> Impair:
    return Impair(NullLink(VirtualClock()), **options)


def udp(family: int = AF_INET) -> Socket:
    return host().socket(family, SOCK_DGRAM)


def arp(**given: Any) -> None:
    h = host()
    arp_req_set(h.dev("lo"), **{"ip": 0x0A000001, "ha": bytes(6), **given})


def ran(main: Coroutine[Any, Any, Any]) -> Any:
    return aio.run(main, clock=VirtualClock())


WRONG: list[tuple[Callable[[], Any], str, str]] = [
    # what is called, the argument that the message names, what it says to give
    (lambda: VirtualClock(1.5), "start_ns=1.5", "give an int, 2"),
    (lambda: VirtualClock(-1), "start_ns=-1", "give 0 to "),
    (lambda: VirtualClock().run_for(1e9), "duration_ns=1000000000.0", "an int, 1000000000"),
    (lambda: VirtualClock().run_for(-5), "duration_ns=-5", "0 or more"),
    (lambda: VirtualClock().run_for(NAN), "duration_ns=nan", "0 or more"),
    (lambda: VirtualClock().run_for(True), "duration_ns=True", "bool"),
    (lambda: VirtualClock().run_until(2.0), "when_ns=2.0", "an int, 2"),
    (lambda: VirtualClock().run_until_idle(-1), "limit_ns=-1", "0 or more"),
    (lambda: VirtualClock().call_at(1.5, print), "when_ns=1.5", "an int"),
    (lambda: pair(CLOCK, latency_ns=-1), "latency_ns=-1", "0 or more ns"),
    (lambda: pair(CLOCK, latency_ns=1e6), "latency_ns=1000000.0", "an int, 1000000"),
    (lambda: pair(CLOCK, rate_bps=-1), "rate_bps=-1", "1 or more"),
    (lambda: pair(CLOCK, rate_bps=0), "rate_bps=0", "1 or more"),
    (lambda: pair(CLOCK, rate_bps=1e9), "rate_bps=1000000000.0", "an int"),
    (lambda: pair(CLOCK, rate_bps="1G"), "rate_bps='1G'", "1 or more"),
    (lambda: pair(CLOCK, queue_frames=0), "queue_frames=0", "1 or more"),
    (lambda: impair(loss=1.5), "loss=1.5", "0 to 1"),
    (lambda: impair(loss=-0.1), "loss=-0.1", "0 to 1"),
    (lambda: impair(loss=NAN), "loss=nan", "0 to 1"),
    (lambda: impair(loss="5%"), "loss='5%'", "0 to 1"),
    (lambda: impair(delay_ns=1.5), "delay_ns=1.5", "an int"),
    (lambda: impair(jitter_ns=-1), "jitter_ns=-1", "0 or more ns"),
    (lambda: impair(rate_bps=-5), "rate_bps=-5", "1 or more"),
    (lambda: impair(reorder_span=0), "reorder_span=0", "1 or more"),
    (lambda: impair(queue_frames=1.0), "queue_frames=1.0", "an int"),
    (lambda: impair(direction="up"), "direction='up'", "'tx', 'rx' or 'both'"),
    (lambda: NullLink(CLOCK, speed_mbps=2500), "speed_mbps=2500", "10, 100 and 1000"),
    (lambda: Generator(CLOCK, [bytes(60)], count=-1), "count=-1", "0 or more"),
    (lambda: Generator(CLOCK, [bytes(60)], rate_pps=-1), "rate_pps=-1", "above 0"),
    (lambda: Generator(CLOCK, [bytes(60)], batch_frames=0), "batch_frames=0", "1 or more"),
    (lambda: Generator(CLOCK, []), "frames is empty", "one frame"),
    (lambda: PcapReplay("x", CLOCK, speed=-1), "speed=-1", "above 0"),
    (lambda: PcapReplay("x", CLOCK, speed="2x"), "speed='2x'", "above 0"),
    (lambda: Switch(CLOCK, aging_ns=-1), "aging_ns=-1", "0 or more ns"),
    (lambda: Switch(CLOCK, queue_frames=0), "queue_frames=0", "1 or more"),
    (lambda: Switch(CLOCK, table_entries=0.5), "table_entries=0.5", "an int"),
    (lambda: Capture(NullLink(CLOCK), "x", snap_bytes=0), "snap_bytes=0", "1 or more"),
    (lambda: QemuStream(None, CLOCK, poll_ns=-1), "poll_ns=-1", "1 or more"),
    (lambda: Passt(CLOCK, mac=b"12"), "mac=b'12'", "6"),
    (lambda: nic(autoneg_ns=-1), "autoneg_ns=-1", "0 or more ns"),
    (lambda: nic(autoneg_ns=1e9), "autoneg_ns=1000000000.0", "an int"),
    (lambda: nic(mac=b"123"), "3 bytes", "six"),
    (lambda: two_hosts(records=[None]), "records=[None]", "one for each of two hosts"),
    (lambda: two_hosts(records="no"), "records='no'", "one for each of two hosts"),
    (lambda: with_comments(b"no block", ["x"]), "b'no block'", "Enhanced Packet Block"),
    (lambda: Bus(name=5), "name=5", "text"),
    (lambda: AsyncioClock(None), "loop=None", "an event loop"),
    (lambda: Lab(seed=None), "seed=None", "an int or text"),
    (lambda: Lab(ram_bytes="1M"), "ram_bytes='1M'", "1 or more bytes"),
    (lambda: Bench(writeback_ns=-1), "writeback_ns=-1", "0 or more ns"),
    (lambda: nic(mac=b"\x01" + bytes(5)), "01:00", "group address"),
    (lambda: nic(model="82599"), "82599", "82540EM"),
    (lambda: host(ram_bytes=1000), "ram_bytes=1000", "1048576 or more bytes"),
    (lambda: host(ram_bytes=1e9), "ram_bytes=1000000000.0", "an int"),
    (lambda: host(uid=-1), "uid=-1", "0 to 4294967294"),
    (lambda: host(sysctl={"tcp_sac": 1}), "tcp_sac", "tcp_sack"),
    (lambda: host().ifconfig("lo", "10.0.0.1"), "'10.0.0.1'", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", "10.0.0.1/99"), "10.0.0.1/99", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", "10.0.0/24"), "10.0.0/24", "10.0.0.1/24"),
    (lambda: host().ifconfig("lo", mtu=1500.0), "mtu=1500.0", "an int, 1500"),
    (lambda: host().addr_del("lo", "127.0.0.1"), "'127.0.0.1'", "127.0.0.1/24"),
    (lambda: host().wait_carrier("lo", 1.5), "timeout_ns=1.5", "an int"),
    (lambda: host().route_add("10.0.0.0", dev="lo"), "'10.0.0.0'", "10.0.0.0/24"),
    (lambda: host().route_add("10.0.0.0/x", dev="lo"), "'x'", "0 and 32"),
    (lambda: host().route_add("default", via="10.0.0"), "'10.0.0'", "10.0.0.1"),
    (lambda: host().route_del("10.0.0.0", dev="lo"), "'10.0.0.0'", "10.0.0.0/24"),
    (lambda: arp(ip=0), "ip=0", "1 to"),
    (lambda: two_hosts(addrs=("10.0.0.1", "10.0.0.2")), "'10.0.0.1'", "10.0.0.1/24"),
    (lambda: two_hosts(addrs=("10.0.0.1/24",)), "addrs=", "each of two hosts"),
    (lambda: two_hosts(names="ab"), "names='ab'", "each of two hosts"),
    (lambda: two_hosts(latency_ns=0.5), "latency_ns=0.5", "an int"),
    (lambda: two_hosts(rate_bps=-1), "rate_bps=-1", "1 or more"),
    (lambda: two_hosts(impair={"loss": 7}), "loss=7", "0 to 1"),
    (lambda: two_hosts(sysctl={"tcp_ecn": 9}), "tcp_ecn=9", "0 to 5"),
    (lambda: two_hosts(autoneg_ns=-1), "autoneg_ns=-1", "0 or more"),
    (lambda: lan(0), "count=0", "1 to 254"),
    (lambda: lan(300), "count=300", "1 to 254"),
    (lambda: lan(2, network="10.0"), "network='10.0'", "10.0.0.0/16"),
    (lambda: add_nic(host(), NullLink(CLOCK), addr="10.0.0.1"), "'10.0.0.1'", "10.0.0.1/24"),
    # of a wrong type, in a wrong order, by a wrong name
    (lambda: Socket(None), "net=None is of type NoneType", "give the Host first"),
    (lambda: Socket(AF_INET, SOCK_STREAM), "net=2 is of type int", "give the Host first"),
    (lambda: Socket(host(), "inet"), "family='inet' is a str", "give a whole number"),
    (lambda: Socket(host(), AF_INET, None), "type=None", "give a whole number"),
    (lambda: host().socket(AF_INET, SOCK_STREAM, "tcp"), "proto='tcp'", "a whole number"),
    (lambda: host().socketpair("unix"), "family='unix'", "give a whole number"),
    (lambda: create_connection(ADDR, host()), "net=('10.0.0.1', 80)", "give the Host first"),
    (lambda: create_connection(host(), None), "address None", "(host, port) pair; give one"),
    (lambda: create_connection(host(), "10.0.0.1:80"), "'10.0.0.1:80'", "(host, port) pair"),
    (lambda: create_connection(host(), ADDR, timeout="5"), "timeout='5'", "give seconds"),
    (lambda: create_server(ADDR, host()), "net=('10.0.0.1', 80)", "give the Host first"),
    (lambda: create_server(host(), 80), "address 80", "(host, port) pair; give one such"),
    (lambda: create_server(host(), ADDR, backlog="x"), "backlog='x'", "give a whole number"),
    (lambda: getaddrinfo(None, "a", 80), "net=None", "give the Host first"),
    (lambda: udp().bind(("", "80")), "port '80' is a str", "give an int"),
    (lambda: udp().bind(("", 80.0)), "port 80.0 is a float", "give an int"),
    (lambda: udp().bind(("", 99999)), "not 99999", "port must be 0-65535"),
    (lambda: udp().bind((None, 80)), "host None is a NoneType", "give text"),
    (lambda: udp().connect(("10.0.0.1", "80")), "port '80' is a str", "give an int"),
    (lambda: udp().sendto(b"", ("10.0.0.1", "80")), "port '80' is a str", "give an int"),
    (lambda: udp().sendto(ADDR, b""), "address b''", "(host, port) pair; give one such"),
    (lambda: udp(AF_INET6).connect(("::1", "80")), "port '80' is a str", "give an int"),
    (lambda: udp(AF_INET6).connect(("::1", 80, "x")), "flowinfo 'x'", "give an int"),
    (lambda: host().socket(AF_UNIX).connect(5), "not 5", "give a path"),
    (lambda: udp().settimeout("5"), "timeout='5'", "give seconds"),
    (lambda: udp().settimeout(-1), "-1", "give 0 or more"),
    (lambda: Host("a", clock=None), "clock=None is of type NoneType", "VirtualClock()"),
    (lambda: Host(CLOCK, clock=CLOCK), "is of type VirtualClock", "give text"),
    (lambda: Host("a", clock=CLOCK, seed=1.5), "seed=1.5", "give an int or text"),
    (lambda: Host("a", clock=CLOCK, ram="1M"), "ram='1M'", "give host_memory()"),
    (lambda: host(sysctl="tcp_sack=0"), "sysctl='tcp_sack=0'", 'give a mapping such as {"tcp_'),
    (lambda: host().ifconfig("lo", up="no"), "up='no'", "give True or False"),
    (lambda: host().addr_del("lo", None), "addr=None", "give text such as 10.0.0.1/24"),
    (lambda: host().route_add(None), "prefix=None", "give text such as 10.0.0.0/8"),
    (lambda: host().route_add("default", via=5), "via=5", "give text such as 10.0.0.1"),
    (lambda: host().route_del(5), "prefix=5", "give text such as 10.0.0.0/8"),
    (lambda: host().netns_add(5), "name=5", "give text"),
    (lambda: host().irq_line("x"), "irq='x'", "give 0 or more"),
    (lambda: host().pci_add(None, 1), "slot=None", "such as Nic.slot"),
    (lambda: host().dev([]), "name=[]", "give an interface's name"),
    (lambda: host().ifconfig(None), "name=None", "give an interface's name"),
    (lambda: host().add_dummy(None), "name=None", "give text, such as eth%d"),
    (lambda: host().add_tap(5, NullLink(CLOCK)), "name=5", "give text, such as eth%d"),
    (lambda: host().add_tap("t", NullLink(CLOCK), mac="x"), "mac='x'", "give six bytes"),
    (lambda: host().add_veth("v", mac=5), "mac=5", "give six bytes"),
    (lambda: host().add_veth("v", peer_mac="x"), "peer_mac='x'", "give six bytes"),
    (lambda: host().add_veth("v", 5), "peer=5", "a namespace and the name there"),
    (lambda: host().add_veth("v", ("w",)), "peer=('w',)", "a namespace and the name there"),
    (lambda: host().add_veth("v", ("w", host())), "net='w'", "give the Host first"),
    (lambda: host().add_vlan("v", 5, 7), "link=5", "give an interface, or its name"),
    (lambda: host().add_vlan("v", "lo", 7, protocol=[]), "protocol=[]", "802.1Q or 802.1ad"),
    (lambda: host().add_vlan("v", "lo", 7, egress_qos=[]), "egress_qos=[]", "give a dict"),
    (lambda: host().add_vlan("v", "lo", 7, ingress_qos={0: "x"}), "ingress_qos='x'", "0 to 4294"),
    (lambda: host().add_macvlan("m", "lo", []), "mode=[]", "one of private, vepa"),
    (lambda: host().add_ipvlan("i", "lo", "l2", {}), "flag={}", "one of bridge"),
    (lambda: host().qdisc_add("lo", []), "kind=[]", "give text such as tbf"),
    (lambda: host().radvd([]), "name=[]", "an interface's name"),
    (lambda: host().route_add("10.0.0.0/8", dev=1), "dev=1", "an interface, or its name"),
    (lambda: host().add_vlan(5, "lo", 7), "name=5", "give text"),
    (lambda: host().add_bridge(5), "name=5", "give text"),
    (lambda: host().add_bond(5), "name=5", "give text"),
    (lambda: host().add_bond("b", 5), "slaves=5", "a list of interfaces' names"),
    (lambda: host().add_bridge("b", 5), "ports=5", "a list of interfaces' names"),
    (lambda: host().add_bridge("b", mac="x"), "mac='x'", "give six bytes"),
    (lambda: host().add_bridge("b", ageing_time="x"), "ageing_time='x'", "give a number of sec"),
    (lambda: host().add_bridge("b", group_fwd_mask=1.5), "group_fwd_mask=1.5", "an int"),
    (lambda: host().set_netns("lo", "ns"), "net='ns'", "give the Host first"),
    (lambda: two_hosts("a"), "clock='a' is of type str", "VirtualClock()"),
    (
        lambda: two_hosts(impair={"delay": 5}),
        "impair: no argument delay=5",
        "did you mean delay_ns?",
    ),
    (lambda: two_hosts(impair={"los": 0.1}), "impair: no argument los=0.1", "did you mean loss"),
    (lambda: two_hosts(impair="loss=1"), "impair='loss=1'", "give a mapping such as"),
    (lambda: two_hosts(sysctl="x"), "sysctl='x'", 'give a mapping such as {"tcp_sack"'),
    (lambda: two_hosts(faults={"x": 1}), "faults={'x': 1}", "give Faults(...)"),
    (lambda: two_hosts(addrs=5), "addrs=5", "each of two hosts"),
    (lambda: two_hosts(names=(1, 2)), "name=1", "give text"),
    (lambda: lan(2, "a"), "clock='a'", "VirtualClock()"),
    (lambda: add_nic(NullLink(CLOCK), host()), "host=NullLink(", "add_nic(host, link)"),
    (lambda: add_nic(host(), None), "link=None", "such as one end of pair()"),
    (lambda: add_nic(host(), NullLink(CLOCK), addr=5), "addr=5", "such as 10.0.0.1/24"),
    (lambda: Lab(5), "clock=5", "VirtualClock()"),
    (lambda: Lab().lan(5), "network=5", "such as 10.0.0.0/24"),
    (lambda: Lab().lan("10.0.0.0/24", "a"), "member='a'", "give the Hosts"),
    (lambda: Lab(sysctl=[1]), "sysctl=[1]", "give a mapping"),
    (lambda: Impair(5), "5 has no clock", "pass clock="),
    (lambda: Impair(5, clock=CLOCK), "link=5", "give a link"),
    (lambda: Impair(NullLink(CLOCK), clock=5), "clock=5", "VirtualClock()"),
    (lambda: pair(None), "clock=None", "VirtualClock()"),
    (lambda: NullLink("x"), "clock='x'", "VirtualClock()"),
    (lambda: Switch(None), "clock=None", "VirtualClock()"),
    (lambda: Capture("x.pcapng", NullLink(CLOCK)), "'x.pcapng' has no clock", "pass clock="),
    (lambda: Capture(NullLink(CLOCK), 5), "path=5", "give a path"),
    (lambda: Generator([bytes(60)], CLOCK), "clock=[", "VirtualClock()"),
    (lambda: Generator(CLOCK, bytes(60)), "frames[0]=0", "a list of frames"),
    (lambda: Generator(CLOCK, 5), "frames=5", "a list of frames"),
    (lambda: PcapReplay(CLOCK, "x"), "is of type VirtualClock", "the path of a capture"),
    (lambda: nic(memory=None), "memory=None", "Host.dma_table()"),
    (lambda: nic(irq=5), "irq=5", "Host.irq_line("),
    (lambda: nic(link=None), "link=None", "such as one end of pair()"),
    (lambda: nic(clock=5), "clock=5", "VirtualClock()"),
    (lambda: nic(mac="52:54:00:12:34:56"), "mac='52:54:00:12:34:56'", "six bytes"),
    (lambda: nic(faults=5), "faults=5", "give Faults(...)"),
    (lambda: VirtualClock().call_at(5, None), "fn=None", "give a function"),
    (lambda: VirtualClock().call_soon(5), "fn=5", "give a function"),
    (lambda: QemuStream(5, CLOCK), "sock=5", "a socket of the standard library"),
    (lambda: QemuStream.listen(5, CLOCK), "path=5", "give a path"),
    (lambda: QemuStream.connect("x", 5), "clock=5", "VirtualClock()"),
    (lambda: QemuDgram("x", CLOCK), "sock='x'", "a socket of the standard library"),
    (lambda: QemuDgram.open("a", 5, CLOCK), "remote=5", "give a path"),
    (lambda: Passt(5), "clock=5", "VirtualClock()"),
    (lambda: Passt(CLOCK, mac=None), "mac=None", "six bytes"),
    (lambda: Passt(CLOCK, address=5), "address=5", "such as 10.0.2.15/24"),
    (lambda: Passt(CLOCK, options="-t 80"), "options='-t 80'", "give a list"),
    (lambda: Passt(CLOCK, path=5), "path=5", "give a path"),
    (lambda: Patch(NullLink(CLOCK), None), "other=None", "such as an end of pair()"),
    (lambda: Capture(NullLink(CLOCK), "x", name=5), "name=5", "give the interface's name"),
    (lambda: list(read_capture(5)), "path=5", "the path of a capture"),
    (lambda: FarEnd(selector="x"), "selector='x'", "0 to 31"),
    (lambda: FarEnd(next_pages=5), "next_pages=5", "a tuple of pages"),
    (lambda: FarEnd(pair=2), "FarEnd: no argument pair=2", "did you mean pairs"),
    (lambda: Faults(flap=1), "Faults: no argument flap=1", "did you mean flap_ns"),
    (lambda: Faults(seed="x"), "seed='x'", "a whole number"),
    (lambda: Faults(abort="tx-data:1"), "abort='tx-data:1'", '(("tx-data", 1),)'),
    (lambda: Faults(abort=("tx-data", 1)), "abort[0]='tx-data'", '(("tx-data", 1),)'),
    (lambda: Bench(tx_cont=5), "Bench: no argument tx_cont=5", "did you mean tx_count"),
    (lambda: Bench(ram_bytes=None), "ram_bytes=None", "1 or more bytes"),
    (lambda: Bench(tx_count="x"), "tx_count='x'", "1 or more"),
    (lambda: Bench(mac=5), "mac=5", "six bytes"),
    (lambda: GuestRings(5, None), "slot=5", "such as Nic.slot"),
    (lambda: host_memory("1M"), "size_bytes='1M'", "1 or more bytes"),
    (lambda: mac_address("x"), "number='x'", "0 to 65535"),
    (lambda: pump(None, udp(), bytes, print), "sender=None", "a Socket of a host"),
    (lambda: explain(None), "nic=None", "give a Nic"),
    (lambda: nic(flash=5), "flash=5", "its bytes"),
    (lambda: nic(eeprom="x"), "eeprom='x'", "its bytes"),
    (lambda: nic(on_pme=5), "on_pme=5", "give a function"),
    (lambda: nic(record="x"), "record='x'", "a Recorder"),
    (lambda: nic(management=5), "management=5", "a ManagementController"),
    # coroutines
    (lambda: aio.run(None, clock=CLOCK), "main=None", "a coroutine"),
    (lambda: aio.VirtualTimeLoop(5), "clock=5", "VirtualClock()"),
    (lambda: ran(aio.sock_recv(None, 5)), "sock=None", "a Socket of a host"),
    (lambda: ran(aio.sock_recv_into(5, bytearray(1))), "sock=5", "a Socket of a host"),
    (lambda: ran(aio.sock_recvfrom("x", 5)), "sock='x'", "a Socket of a host"),
    (lambda: ran(aio.sock_sendall(None, b"")), "sock=None", "a Socket of a host"),
    (lambda: ran(aio.sock_sendto(None, b"", ADDR)), "sock=None", "a Socket of a host"),
    (lambda: ran(aio.sock_accept(5)), "sock=5", "a Socket of a host"),
    (lambda: ran(aio.sock_connect(5, ADDR)), "sock=5", "a Socket of a host"),
    (lambda: ran(aio.open_connection(*ADDR, 5)), "net='10.0.0.1'", "give the Host first"),
    (lambda: ran(aio.open_connection(host(), 5, 80)), "host=5", "a name or an address"),
    (lambda: ran(aio.open_connection(host(), *ADDR, limit="x")), "limit='x'", "1 or more bytes"),
    (lambda: ran(aio.create_connection(host(), None, *ADDR)), "protocol_factory=None", "function"),
    (lambda: ran(aio.start_server(host(), None)), "client_connected_cb=None", "function"),
    (lambda: ran(aio.start_server(None, print)), "net=None", "give the Host first"),
    (lambda: ran(aio.create_server(host(), print, 5)), "host=5", "a name or an address"),
    (lambda: ran(aio.create_server(host(), 5)), "protocol_factory=5", "give a function"),
    (lambda: ran(aio.create_datagram_endpoint(5, print)), "net=5", "give the Host first"),
    (
        lambda: ran(aio.create_datagram_endpoint(host(), asyncio.DatagramProtocol, "a")),
        "local_addr='a'",
        'such as ("10.0.0.2", 80)',
    ),
    (lambda: ran(aio.getaddrinfo(None, "a", 80)), "net=None", "give the Host first"),
    (lambda: ran(aio.getnameinfo(5, ADDR)), "net=5", "give the Host first"),
    (lambda: ran(aio_select.epoll_wait(5)), "ep=5", "an epoll of a host"),
    (lambda: ran(aio_unix.open_unix_connection(5, "x")), "net=5", "give the Host first"),
    (lambda: ran(aio_unix.create_unix_connection(host(), 5, "x")), "protocol_factory=5", "func"),
    (lambda: ran(aio_unix.start_unix_server(host(), 5, "x")), "client_connected_cb=5", "function"),
    (lambda: save_file(nic(), 5), "path=5", "give the path of a file"),
    (lambda: load_file(nic(), 5), "path=5", "give the path of a file"),
]


@pytest.mark.parametrize(
    ("call", "names", "remedy"),
    WRONG,
    ids=[f"{i} {names}" for i, (_, names, _) in enumerate(WRONG)],
)
def test_the_error_names_the_argument_the_value_and_the_remedy(
    call: Callable[[], Any],
    names: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(E1000Error) as info:
        call()
    assert names in str(info.value)
    assert remedy in str(info.value)
    assert list(tmp_path.iterdir()) == []


def test_integers_of_other_libraries_are_integers() -> None:
    numpy = pytest.importorskip("numpy")
    clock = VirtualClock()
    clock.run_for(numpy.int64(5))
    pair(clock, latency_ns=numpy.int32(5), rate_bps=numpy.int64(10**9))
    assert clock.now_ns() == 5
    assert type(clock.now_ns()) is int


def test_what_the_standard_library_raises_for_it_is_raised_too() -> None:
    """A program that was written for its sockets catches TypeError and OverflowError."""
    for call in (
        lambda: Socket(host(), "inet"),
        lambda: udp().bind(("", "80")),
        lambda: udp().bind(5),
        lambda: udp().settimeout("5"),
        lambda: host().socket(AF_UNIX).connect(5),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(OverflowError):
        udp().bind(("", 65536))
    with pytest.raises(ValueError, match="Timeout value out of range"):
        udp().settimeout(-1)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_state_file_is_named_by_text_or_path(tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "state")
    one = nic()
    save_file(one, path)
    load_file(one, path)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
