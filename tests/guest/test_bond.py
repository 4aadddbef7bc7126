"""Link aggregation with a guest's Linux as the partner: two cables between it and a host of ours.

Both ends are made by the same `ip`, and tell of themselves by the same `ip -d -j link`: what the
kernel's driver says of an aggregation is compared with what ours says. A wire can be cut (no
carrier) or muted (a carrier, but frames are lost both ways).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e1000emu.capture import PcapngWriter
from e1000emu.clock import RealClock
from e1000emu.guest import GuestImage, VfioUserNic
from e1000emu.lab import add_nic
from e1000emu.links import Capture, pair
from e1000emu.links.base import Middleware
from stack.host import Host
from tests.guest.setup import (
    AUTONEG_NS,
    DATA_PORT,
    NUMBERS,
    WAIT_S,
    boot,
    content,
    fields,
    offered,
    ping,
    trouble,
    wire_is_right,
)
from tests.guest.test_ipsec import on_host
from tests.guest.test_stack import COPIES, Beside, listen, streams
from tests.linux.peer import Worker, receive_all
from tests.support import eventually, kept, require

pytestmark = pytest.mark.slow

OURS, GUEST = "10.79.0.1", "10.79.0.2"
PORTS = ("eth0", "eth1")
OUR_MACS, GUEST_MACS = (
    tuple(bytes((2, 0, 0, 0, host, port)) for port in (1, 2)) for host in (1, 2)
)
LACPDU = b"\x88\x09\x01"
"""EtherType and subtype."""
LACPDU_BYTES = 124
IN_USE, SHORT_TIMEOUT = 0x3D, 0x02
"""A port's state: active, aggregating, in step, collecting, distributing (802.1AX 5.4.2.2)."""
KEY_1G = 9
"""The fourth speed, full duplex (bond_3ad.c ad_update_actor_keys)."""


CLEAR = f"""
for kind in vlan bond; do
    ip -br link show type $kind | while read name rest; do ip link del ${{name%@*}}; done
done
for port in {" ".join(PORTS)}; do ip link set $port down mtu 1500; done
"""


class Wire(Middleware):
    """Keeps the LACPDUs that pass, and can lose all frames both ways and keep its carrier."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self.muted = False
        self.lacpdus: dict[bytes, list[bytes]] = {}
        """By the sender's address."""

    def transmit(self, batch: Any) -> None:
        if not self.muted:
            self._look(batch, 0)
            super().transmit(batch)

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        if self.muted:
            return len(batch)
        self._look(batch, start)
        return super().receive(batch, start, hold)

    def _look(self, batch: Any, start: int) -> None:
        for i in range(start, len(batch)):
            if bytes(batch.view(i)[12:15]) == LACPDU:
                frame = bytes(batch[i])
                self.lacpdus.setdefault(frame[6:12], []).append(frame)


@dataclass(frozen=True)
class End:
    """One of the two systems."""

    run: Callable[[str], str]
    """A script of the shell, which must not fail."""
    address: str
    macs: tuple[bytes, ...]

    def links(self) -> dict[str, dict[str, Any]]:
        """`ip -d link` by the interfaces' names."""
        return {link["ifname"]: link for link in json.loads(self.run("ip -d -j link show"))}

    def bond(self, name: str = "bond0") -> dict[str, Any]:
        """What is told of a bond."""
        told: dict[str, Any] = self.links()[name]["linkinfo"]["info_data"]
        return told

    def port(self, name: str) -> dict[str, Any]:
        """What is told of a slave."""
        told: dict[str, Any] = self.links()[name]["linkinfo"]["info_slave_data"]
        return told

    def add_bond(self, words: str, ports: tuple[str, ...] = PORTS, name: str = "bond0") -> None:
        """Make a bond, with the end's address if it is bond0."""
        lines = [f"ip link add {name} type bond {words}"]
        lines += [f"ip link set {port} down; ip link set {port} master {name}" for port in ports]
        lines.append(f"ip link set {name} up")
        if name == "bond0":
            lines.append(f"ip addr add {self.address}/24 dev bond0")
        self.run("\n".join(lines))


class OnCables(Beside):
    """eth0 and eth1 of a guest, each on a cable to eth0 and eth1 of a host of ours."""

    def __init__(self, image: GuestImage, directory: Path) -> None:
        with ExitStack() as stack:
            self.clock = kept(stack, RealClock())
            self.host = kept(stack, Host("ours", clock=self.clock))
            self.cables: list[Any] = []
            self.wires: list[Wire] = []
            self.writers: list[PcapngWriter] = []
            self.captures = [directory / f"{port}.pcapng" for port in PORTS]
            cards: list[str] = []
            for i, port in enumerate(PORTS):
                cable, end = pair(self.clock)
                add_nic(
                    self.host, end, mac=OUR_MACS[i], up=False, wait=False, autoneg_ns=AUTONEG_NS
                )
                wire = Wire(cable)
                link = Capture(wire, self.captures[i])
                stack.callback(link.writer.close)
                self.cables.append(cable)
                self.wires.append(wire)
                self.writers.append(link.writer)
                path = directory / port
                server = offered(
                    path, link, self.clock, model="82540EM", threads=True, mac=GUEST_MACS[i]
                )
                stack.enter_context(server)
                cards += VfioUserNic(path).arguments()
            self.guest = boot(image, directory / "eth0", "82540EM", arguments=cards[2:])
            stack.callback(self.guest.close)
            self.guest.run(f"seq 1 {NUMBERS} >/tmp/data; modprobe bonding max_bonds=0").check()
            self.guest.run("echo 1 >/sys/kernel/rcu_expedited").check()  # devices come and go
            self.ours = End(lambda words: on_host(self, words), OURS, OUR_MACS)
            self.theirs = End(
                lambda words: self.guest.run("set -e\n" + words, timeout_s=WAIT_S).check().stdout,
                GUEST,
                GUEST_MACS,
            )
            self.ends = (self.ours, self.theirs)
            self._stack = stack.pop_all()

    def plug(self, number: int, connected: bool) -> None:
        """Cut a wire, or mend it."""
        with self.clock.lock:
            self.cables[number].plug(connected)

    def mute(self, number: int, silent: bool) -> None:
        """Lose all frames of a wire, or none."""
        with self.clock.lock:
            self.wires[number].muted = silent

    def lacpdus(self, number: int) -> list[list[bytes]]:
        """The LACPDUs on a wire so far, ours and the guest's."""
        with self.clock.lock:
            return [list(self.wires[number].lacpdus.get(end.macs[number], ())) for end in self.ends]

    def on_wire(self, number: int, wanted: str, *names: str) -> list[list[str]]:
        """What tshark tells of the frames of a wire."""
        self.writers[number].flush()
        return fields(self.captures[number], wanted, *names)

    def clear(self) -> None:
        """Remove bonds and VLANs; what was set of the ports is undone."""
        for end in self.ends:
            end.run(CLEAR)

    def bonds(self, words: str) -> None:
        """The same bond at both ends."""
        for end in self.ends:
            end.add_bond(words)


@pytest.fixture(scope="module")
def lan(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCables]:
    require.tool("tshark")
    require.tool("ip")
    with OnCables(image, tmp_path_factory.mktemp("bond")) as made:
        yield made
    for capture in made.captures:
        wire_is_right(capture)


@pytest.fixture(autouse=True)
def cleared(lan: OnCables) -> Iterator[None]:
    """After each test the wires are well, the bonds are gone, and the guest's log is clean."""
    yield
    for number in range(len(PORTS)):
        lan.mute(number, False)
        lan.plug(number, True)
    lan.clear()
    # With frames in its ring when the link goes, the driver resets the card to be rid of them.
    assert [line for line in trouble(lan.guest) if "Reset adapter" not in line] == []


def in_use(
    lan: OnCables, ports: tuple[str, ...] = PORTS, fast: tuple[bool, bool] = (False, False)
) -> None:
    """Wait until both ends say that these ports, and no others, are used by both."""
    states = [IN_USE | (SHORT_TIMEOUT if short else 0) for short in fast]

    def aggregated() -> bool:
        for end, own, other in zip(lan.ends, states, reversed(states), strict=True):
            links = end.links()
            info = links["bond0"]["linkinfo"]["info_data"].get("ad_info", {})
            if info.get("num_ports") != len(ports):
                return False
            for name in PORTS:
                told = links[name]["linkinfo"]["info_slave_data"]
                both = told["ad_actor_oper_port_state"], told["ad_partner_oper_port_state"]
                if (both == (own, other)) != (name in ports):
                    return False
        return True

    eventually(aggregated, f"{ports} are in use")


def mac(address: bytes) -> str:
    return address.hex(":")


# --- 802.3ad --------------------------------------------------------------------------------------

RATES = {True: "fast", False: "slow"}


@pytest.mark.parametrize(
    "fast", [(False, False), (True, True), (True, False), (False, True)], ids=str
)
def test_both_ends_aggregate_and_tell_the_same(lan: OnCables, fast: tuple[bool, bool]) -> None:
    """Who asks for the short timeout hears a LACPDU each second, who does not, each 30 seconds."""
    for end, short in zip(lan.ends, fast, strict=True):
        end.add_bond(f"mode 802.3ad lacp_rate {RATES[short]}")
    in_use(lan, fast=fast)
    for end, other in ((lan.ours, lan.theirs), (lan.theirs, lan.ours)):
        info = end.bond()["ad_info"]
        aggregator = info.pop("aggregator")
        assert info == {
            "num_ports": 2,
            "actor_key": KEY_1G,
            "partner_key": KEY_1G,
            "partner_mac": mac(other.macs[0]),
        }
        for i, name in enumerate(PORTS):
            port = end.port(name)
            assert (port["state"], port["mii_status"]) == ("ACTIVE", "UP")
            assert port["ad_aggregator_id"] == aggregator
            assert port["perm_hwaddr"] == mac(end.macs[i])
    told = lan.theirs.run("cat /proc/net/bonding/bond0")
    partners = re.findall(r"details partner lacp pdu:\n((?:    .*\n){6})", told)
    assert [dict(re.findall(r" +(.*?): (.*)", one)) for one in partners] == [
        {
            "system priority": "65535",
            "system mac address": mac(OUR_MACS[0]),
            "oper key": str(KEY_1G),
            "port priority": "255",
            "port number": str(number),
            "port state": str(IN_USE | (SHORT_TIMEOUT if fast[0] else 0)),
        }
        for number in (1, 2)
    ]
    ping(lan.guest, OURS)
    if any(fast):
        lacpdus_keep_coming(lan, fast)


def lacpdus_keep_coming(lan: OnCables, fast: tuple[bool, bool]) -> None:
    """While one end is sent five LACPDUs, the other is sent as many, or one or two."""

    def sent() -> list[tuple[int, int]]:
        ours, theirs = zip(*(map(len, lan.lacpdus(i)) for i in range(2)), strict=True)
        return [ours, theirs]

    before = sent()
    to_fast = [1 - end for end in range(2) if fast[end]]

    def came(end: int) -> list[int]:
        return [now - was for now, was in zip(sent()[end], before[end], strict=True)]

    eventually(lambda: all(min(came(end)) >= 5 for end in to_fast), "LACPDUs")
    assert all(max(came(end)) <= 2 for end in range(2) if end not in to_fast)


def test_the_last_lacpdus_of_both_ends_mirror_each_other(lan: OnCables) -> None:
    """But for the sender, and for actor and partner, which change places, no byte differs."""
    lan.bonds("mode 802.3ad lacp_rate fast ad_user_port_key 5 ad_actor_sys_prio 77")
    in_use(lan, fast=(True, True))

    def mirrored(number: int) -> bool:
        ours, theirs = (frames[-1] for frames in lan.lacpdus(number))
        assert len(ours) == len(theirs) == LACPDU_BYTES
        actor, partner = theirs[16:36], theirs[36:56]
        return (ours[:6], ours[12:]) == (
            theirs[:6],
            theirs[12:16] + actor[:2] + partner[2:] + partner[:2] + actor[2:] + theirs[56:],
        )

    for number in range(2):
        eventually(partial(mirrored, number), "the same LACPDUs")
    assert {end.bond()["ad_info"]["actor_key"] for end in lan.ends} == {5 << 6 | KEY_1G}


@pytest.mark.parametrize("policy", ["layer2", "layer2+3", "layer3+4", "encap2+3"])
def test_a_flow_takes_the_same_wire_both_ways(lan: OnCables, policy: str) -> None:
    """The hash is the kernel's: of two wires it chooses the same for a flow as its peer does."""
    lan.bonds(f"mode 802.3ad lacp_rate fast xmit_hash_policy {policy}")
    in_use(lan, fast=(True, True))
    others = [f"10.79.0.{i}" for i in range(11, 19)]
    for address in others:
        lan.ours.run(f"ip addr add {address}/24 dev bond0")
    wanted = f"udp.port == {DATA_PORT}"
    seen = [len(lan.on_wire(i, wanted, "udp.port")) for i in range(2)]
    socks = []
    for address in others:
        sock = lan.socket(socket.SOCK_DGRAM)
        sock.bind((address, DATA_PORT))
        socks.append(sock)
    job = lan.guest.spawn(
        f"for a in {' '.join(others)}; do for i in 1 2 3 4; do exec 5<>/dev/udp/$a/{DATA_PORT}; "
        "echo $i >&5; dd bs=99 count=1 <&5 2>/dev/null; done; done"
    )
    for sock in socks:
        for _ in range(4):
            data, sender = sock.recvfrom(99)
            sock.sendto(data, sender)
        sock.close()
    assert job.wait(WAIT_S).check().stdout == "1\n2\n3\n4\n" * len(others)
    ways: dict[tuple[str, str, str], set[tuple[int, str]]] = {}
    for i in range(2):
        rows = lan.on_wire(i, wanted, "ip.src", "ip.dst", "udp.srcport", "udp.dstport")
        for src, dst, sport, dport in rows[seen[i] :]:
            flow = (src, dst, sport) if src == GUEST else (dst, src, dport)
            ways.setdefault(flow, set()).add((i, src))
    assert len(ways) == 32
    for flow, way in ways.items():
        assert len(way) == 2
        assert len({i for i, _ in way}) == 1, (flow, way)
    assert len({i for way in ways.values() for i, _ in way}) == (1 if policy == "layer2" else 2)


@pytest.mark.parametrize("fail", [OnCables.plug, OnCables.mute], ids=["cut", "muted"])
def test_a_stream_goes_on_when_its_wire_fails(lan: OnCables, fail: Any) -> None:
    """A link without carrier is out at once, a silent one after the short timeout; both return."""
    lan.bonds("mode 802.3ad lacp_rate fast xmit_hash_policy layer3+4")
    in_use(lan, fast=(True, True))

    def losses() -> list[list[int]]:
        return [[end.port(name)["link_failure_count"] for name in PORTS] for end in lan.ends]

    lost = losses()
    listener = listen(lan, to=OURS)
    failed: list[int] = []

    def received(name: str) -> int:
        return int(lan.host.dev_by_name[name].stats.rx_bytes)

    def drain() -> bytes:
        before = [received(name) for name in PORTS]
        sock, _ = listener.accept()
        data = bytearray(receive_all(sock, 1 << 20))
        more = [received(name) - was for name, was in zip(PORTS, before, strict=True)]
        failed.append(more.index(max(more)))
        fail(lan, failed[0], fail is OnCables.mute)
        in_use(lan, (PORTS[1 - failed[0]],), fast=(True, True))
        data += receive_all(sock)
        sock.close()
        return bytes(data)

    worker = Worker(drain, ())
    sending = f"(for i in $(seq {COPIES}); do cat /tmp/data; done) >/dev/tcp/{OURS}/{DATA_PORT}"
    lan.guest.run(sending, timeout_s=WAIT_S).check()
    assert worker.result(WAIT_S) == content() * COPIES
    listener.close()
    streams(lan, socket.AF_INET, OURS)
    fail(lan, failed[0], fail is not OnCables.mute)
    in_use(lan, fast=(True, True))
    for before, now in zip(lost, losses(), strict=True):
        more = [count - was for count, was in zip(now, before, strict=True)]
        assert more[1 - failed[0]] == 0
        assert (more[failed[0]] > 0) == (fail is OnCables.plug)
    streams(lan, socket.AF_INET, OURS)


@pytest.mark.parametrize("single", [0, 1], ids=["ours has one bond", "the guest has one bond"])
def test_two_partners_make_two_aggregators(lan: OnCables, single: int) -> None:
    """Where two bonds lead to one, that one uses one of its ports; the other is not in step."""
    whole, split = lan.ends[single], lan.ends[1 - single]
    words = "mode 802.3ad lacp_rate fast"
    whole.add_bond(words)
    names = ("bond1", "bond2")
    for name, port in zip(names, PORTS, strict=True):
        split.add_bond(words, (port,), name)
    used, stands_by, waits = IN_USE | SHORT_TIMEOUT, 0x07, 0x0F

    def told(end: End) -> list[tuple[int, int]]:
        ports = [end.port(name) for name in PORTS]
        return [
            (port["ad_actor_oper_port_state"], port["ad_partner_oper_port_state"]) for port in ports
        ]

    def settled() -> bool:
        here, there = told(whole), told(split)
        return (used, used) in here and {*here, *((b, a) for a, b in there)} == {
            (used, used),
            (stands_by, waits),
        }

    eventually(settled, "the aggregators")
    chosen = told(whole).index((used, used))
    assert [whole.port(name)["ad_aggregator_id"] for name in PORTS] == [1, 2]
    info = whole.bond()["ad_info"]
    assert (info["aggregator"], info["num_ports"]) == (chosen + 1, 1)
    assert info["partner_mac"] == mac(split.macs[chosen])
    for name in names:
        info = split.bond(name)["ad_info"]
        assert (info["num_ports"], info["partner_mac"]) == (1, mac(whole.macs[0]))
    split.run(f"ip addr add {split.address}/24 dev {names[chosen]}")
    ping(lan.guest, OURS)


@pytest.mark.parametrize("active", ["on", "off"])
def test_a_port_without_a_partner_is_used_alone(lan: OnCables, active: str) -> None:
    """Nobody answers: both ends assume the same partner, and use the first port without LACP."""
    for number in range(2):
        lan.mute(number, True)
    lan.bonds(f"mode 802.3ad lacp_active {active}")

    state = 0x44 | (active == "on")  # defaulted, aggregating
    # The aggregator in use is in step, though nobody hears it.
    wanted = [("ACTIVE", state | 0x08, 0), ("BACKUP", state, 0)]

    def settled(end: End) -> bool:
        ports = [end.port(name) for name in PORTS]
        names = ("state", "ad_actor_oper_port_state", "ad_partner_oper_port_state")
        told = [tuple(port[name] for name in names) for port in ports]
        if sorted(told) != wanted:
            return False
        chosen = told.index(wanted[0])
        assert [port["ad_aggregator_id"] for port in ports] == [1, 2]
        assert end.links()["bond0"]["operstate"] == "UP"
        assert end.bond()["ad_info"] == {
            "aggregator": chosen + 1,
            "num_ports": 1,
            "actor_key": KEY_1G,
            "partner_key": 1,
            "partner_mac": "00:00:00:00:00:00",
        }
        return True

    for end in lan.ends:
        eventually(partial(settled, end), "the defaults")


# --- the other modes ------------------------------------------------------------------------------


WITHOUT_LACP = (
    "active-backup primary eth0",
    "balance-xor xmit_hash_policy layer3+4",
    "balance-rr",
    "broadcast",
)


@pytest.mark.parametrize("mode", WITHOUT_LACP)
def test_a_bond_without_lacp_survives_a_cut(lan: OnCables, mode: str) -> None:
    """Streams pass through both wires, through the one that is left, and through both again."""
    lan.bonds(f"mode {mode} miimon 100")

    def status(*wanted: str) -> None:
        def told() -> bool:
            ports = [[end.port(port)["mii_status"] for port in PORTS] for end in lan.ends]
            return ports == [list(wanted)] * 2

        eventually(told, f"{wanted}")

    def active(port: str) -> bool:
        if "primary" not in mode:
            return True
        return [end.bond().get("active_slave") for end in lan.ends] == [port] * 2

    status("UP", "UP")
    eventually(lambda: active("eth0"), "eth0")
    streams(lan, socket.AF_INET, OURS)
    lan.plug(0, False)
    status("DOWN", "UP")
    assert active("eth1")
    streams(lan, socket.AF_INET, OURS)
    lan.plug(0, True)
    status("UP", "UP")
    eventually(lambda: active("eth0"), "eth0 again")
    streams(lan, socket.AF_INET, OURS)
    if "primary" in mode:
        # Both have told of the failover on the wire that was left.
        said = lan.on_wire(1, "arp.isgratuitous == 1", "eth.src", "arp.src.proto_ipv4")
        for end in lan.ends:
            assert [mac(end.macs[0]), end.address] in said


# --- what ip is told ------------------------------------------------------------------------------

MADE = (
    *("mode 0", "mode 7", "mode 802.3ad", "lacp_rate fast", "updelay 5", "peer_notify_delay 100"),
    *("miimon 100 arp_interval 100", "miimon 100 updelay 5", "miimon 100 updelay 250"),
    *("mode 1 miimon 100 downdelay 150 peer_notify_delay 250", "miimon 2147483647"),
    *("peer_notify_delay 300001 miimon 1", "mode 4 miimon 0", "mode 4 ad_select 3"),
    *("mode 4 ad_select count lacp_active off", "mode 1 ad_select count", "mode 1 lacp_active off"),
    *("mode 4 ad_actor_sys_prio 0", "mode 4 ad_user_port_key 1023", "mode 4 ad_user_port_key 1024"),
    *(f"mode 4 ad_actor_system {mac}:00:00:00:00:00" for mac in ("00", "01", "02")),
    *("mode 1 ad_actor_system 02:00:00:00:00:01", "mode 2 primary eth0", "mode 1 primary eth0"),
    *("mode 1 active_slave eth0", "mode 1 fail_over_mac 3", "mode 1 fail_over_mac follow"),
    *("mode 2 fail_over_mac active", "mode 1 primary_reselect 3", "mode 1 primary_reselect better"),
    *("mode 2 xmit_hash_policy 6", "mode 2 xmit_hash_policy vlan+srcmac", "resend_igmp 256"),
    *("resend_igmp 255", "num_grat_arp 255", "num_grat_arp 256", "all_slaves_active 2"),
    *("all_slaves_active 1", "min_links 3", "lp_interval 0", "lp_interval 2147483647"),
    *("packets_per_slave 65536", "packets_per_slave 0", "mode 2 packets_per_slave 4"),
    *("tlb_dynamic_lb 0", "arp_missed_max 0", "arp_missed_max 255"),
    "mode 4 lacp_rate fast xmit_hash_policy encap3+4",
)
CHANGED = (
    *(f"bond0 type bond {words}" for words in ("mode 1", "miimon 0", "miimon 50", "lacp_rate 1")),
    *(f"bond0 type bond {words}" for words in ("lacp_active off", "ad_select 2", "updelay 100")),
    *(f"bond0 type bond ad_{words}" for words in ("user_port_key 5", "actor_sys_prio 5")),
    *(f"bond0 type bond {words}" for words in ("fail_over_mac 1", "xmit_hash_policy 1")),
    *(f"bond0 type bond {words}" for words in ("primary eth0", "active_slave eth1")),
    *(f"bond0 type bond {words}" for words in ("min_links 2", "packets_per_slave 2")),
    *(f"bond0 type bond {words}" for words in ("lp_interval 2", "all_slaves_active 1")),
    *("eth0 type bond_slave prio 5", "bond0 mtu 67", "bond0 mtu 9000", "eth0 mtu 1400"),
    *("eth0 address 02:00:00:00:00:09", "bond0 master bond0", "lo master bond0"),
    *("eth0 master bond0", "bond0 promisc on", "bond0 allmulticast on", "bond0 multicast off"),
    *("bond0 address 02:00:00:00:00:08", "eth1 up; ip link set eth1 master bond0"),
)
AT_ONCE = 8
BY_THE_WIRE = ("mii_status", "state", "link_failure_count", "perm_hwaddr")
"""What is told of a slave that is not of the request."""


def outcomes(end: End, scripts: tuple[str, ...]) -> list[dict[str, Any]]:
    """What each script prints, and the devices that are there then; a few to a run of the shell."""
    if len(scripts) > AT_ONCE:
        return outcomes(end, scripts[:AT_ONCE]) + outcomes(end, scripts[AT_ONCE:])
    lines = [
        f"{{ {script}; }} 2>&1 || true\necho; ip -d -j link show\n{CLEAR}\necho %%"
        for script in scripts
    ]
    return [outcome(end, text) for text in end.run("\n".join(lines)).split("%%\n")[:-1]]


def outcome(end: End, text: str) -> dict[str, Any]:
    """The same without what is the end's own."""
    said, shown = text.rsplit("\n[", 1)
    found: dict[str, Any] = {"said": said.strip()}
    for link in json.loads(f"[{shown}"):
        if link["ifname"] == "lo":
            continue
        info = link.get("linkinfo", {})
        slave = info.get("info_slave_data", {})
        keys = [key for key in slave if key not in BY_THE_WIRE and not key.startswith("ad_")]
        data = {key: value for key, value in info.get("info_data", {}).items() if key != "ad_info"}
        data.pop("coupled_control", None)  # older programs do not know it
        found[link["ifname"]] = {
            "flags": set(link["flags"]) - {"NO-CARRIER", "LOWER_UP"},
            **{key: link.get(key) for key in ("mtu", "min_mtu", "max_mtu", "master")},
            **{key: link[key] for key in ("promiscuity", "allmulti")},
            "address": link["address"].replace(mac(end.macs[0])[:-2], "its own "),
            "kind": info.get("info_kind"),
            "data": data,
            "slave": {key: slave[key] for key in keys},
        }
    return found


def alike(lan: OnCables, *scripts: str) -> None:
    """Both ends answer each of the scripts in the same way, and show the same."""
    ours, theirs = (outcomes(end, scripts) for end in lan.ends)
    assert dict(zip(scripts, ours, strict=True)) == dict(zip(scripts, theirs, strict=True))


def test_options_of_a_new_bond_are_those_of_linux(lan: OnCables) -> None:
    make = "ip link add bond0 address 02:00:00:00:00:aa type bond"
    alike(lan, *(f"{make} {words}" for words in MADE))


@pytest.mark.night
@pytest.mark.parametrize("mode", [0, 1, 4])
def test_changes_of_a_bond_are_those_of_linux(lan: OnCables, mode: int) -> None:
    make = f"ip link add bond0 type bond mode {mode}; ip link set eth0 master bond0"
    alike(lan, *(f"{make}; ip link set bond0 up; ip link set {words}" for words in CHANGED))


def test_a_vlan_on_a_bond_is_no_master_and_one_on_a_slave_no_slave(lan: OnCables) -> None:
    lan.guest.run("modprobe 8021q").check()
    make = "ip link add bond0 type bond; ip link set eth0 down; ip link set eth0 master bond0"
    vlans = (f"ip link add link {dev} name v-{dev} type vlan id 5" for dev in ("bond0", "eth0"))
    alike(lan, "; ".join((make, *vlans)))
