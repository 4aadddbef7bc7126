"""vxlan between us and Linux over a TAP: the kernel's device is the peer, tshark judges frames."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from stack.netlink.nlattr import Attrs
from stack.netlink.rt_vxlan import VXLAN, vxlan_validate
from stack.tunnel.vxlan import vxlan_config, vxlan_newlink
from tests.hosts import real_host, run_script
from tests.linux.peer import IPV4, LINUX, LINUX6, OURS, OURS6, Wire, judged, pattern, stream
from tests.stack.packet.kernelnet import KernelNet
from tests.support import require

pytestmark = pytest.mark.netns

VNI, PORT = 77, 4789
INSIDE = replace(IPV4, linux="192.168.7.1", ours="192.168.7.2")


def number(text: str) -> int:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return int.from_bytes(socket.inet_pton(family, text), "big")


@pytest.mark.parametrize("af", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_linux_pings_us_and_streams_go_both_ways(need_linux: None, tmp_path: Path, af: int) -> None:
    require.tool("tshark")
    six = af == socket.AF_INET6
    linux, ours = (LINUX6, OURS6) if six else (LINUX, OURS)
    capture = tmp_path / "wire.pcapng"
    with Wire(ipv6=six, capture=capture) as wire:
        peer, host = wire.peer, wire.host
        words = f"v0 type vxlan id {VNI} local {linux} remote {ours} dev {peer.tap_name}"
        peer.ip("link", "add", *words.split(), "dstport", str(PORT))
        peer.ip("link", "set", "v0", "up")
        peer.ip("addr", "add", f"{INSIDE.linux}/24", "dev", "v0")
        cfg = vxlan_config()
        cfg.vni, cfg.dst_port, cfg.family = VNI, PORT, int(af)
        cfg.remote, cfg.local = number(linux), number(ours)
        with host.lock:
            cfg.link = host.dev("eth0").ifindex
            vxlan_newlink(host, "v0", cfg)
        host.ifconfig("v0", INSIDE.our_addr, up=True)
        want = json.loads(peer.ip("-j", "link", "show", "v0"))[0]["mtu"]
        assert host.dev("v0").mtu == want == (1430 if six else 1450)
        for size in (56, 1400, 4000):
            assert peer.ping(INSIDE.ours, size=size) >= 3
        data = pattern(500_000)
        sock, theirs = wire.connected(INSIDE, from_us=True)
        stream(sock, theirs, data)
        stream(theirs, sock, data)
        sock.close()
        theirs.close()
        learned = host.dev("v0").priv.fdb
        assert len(learned) == 2  # the address of zeros, and Linux's device
        stats = host.dev("v0").stats
        assert stats.rx_errors == stats.tx_errors == 0
    assert list(judged(capture)) == []


SCRIPT = """
ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up
ip addr add 10.0.0.1/24 dev e0
ip link add v0 address 02:00:00:00:00:07 type vxlan id 5 dstport 4789 local 10.0.0.1 dev e0 ttl 9
ip link add v1 address 02:00:00:00:00:08 type vxlan id 6 group 239.1.1.1 dev e0 dstport 4789 nolearning
ip link add v2 type vxlan id 5 dstport 4789 local 10.0.0.1 dev e0 2>/dev/null; echo $?
ip link add v2 type vxlan id 16777216 dstport 4789 2>/dev/null; echo $?
ip link add v2 type vxlan id 9 dstport 4789 group 239.1.1.1 2>/dev/null; echo $?
ip link set v0 up
bridge fdb append 00:00:00:00:00:00 dev v0 dst 10.0.0.2; bridge fdb append 00:00:00:00:00:00 dev v0 dst 10.0.0.3
bridge fdb add 02:00:00:00:00:99 dev v0 dst 10.0.0.4 port 1234 vni 8; echo $?
bridge fdb add 02:00:00:00:00:99 dev v0 dst 10.0.0.5 2>/dev/null; echo $?
bridge fdb replace 02:00:00:00:00:9a dev v0 dst 10.0.0.5; bridge fdb replace 02:00:00:00:00:9a dev v0 dst 10.0.0.6
bridge fdb show dev v0 | grep -v "33:33\\|01:00:5e" | sort
bridge fdb del 02:00:00:00:00:99 dev v0; bridge fdb del 02:00:00:00:00:99 dev v0 2>/dev/null; echo $?
bridge fdb del 00:00:00:00:00:00 dev v0 dst 10.0.0.2; bridge fdb show dev v0 | grep -v "33:33\\|01:00:5e" | sort
bridge fdb show dev v1 | grep -v "33:33\\|01:00:5e"
ip -d -j link show v0; ip -d -j link show v1; ip link del v0; ip link show v0 2>/dev/null; echo $?
ip link set e1 up; ip link set v1 up; ip maddr show | grep 239
ip link set v1 type vxlan group 239.1.1.2 dev e0 ttl 7 tos 4 ageing 0; ip maddr show | grep 239; ip -d -j link show v1
ip link set v1 type vxlan group 239.1.1.2 dev e1; ip maddr show | grep 239; bridge fdb show dev v1 | grep -v "33:33\\|01:00:5e"
ip link set v1 type vxlan remote 10.0.0.9; ip maddr show | grep 239; ip -d -j link show v1
ip link set v1 type vxlan dev v1 2>/dev/null; echo $?; ip link add b0 type bridge; ip link set v1 master b0
ip link set v1 type vxlan dev b0 2>/dev/null; echo $?; ip link set v1 mtu 1400 type vxlan ttl 9 2>&1; echo $?
ip link set v1 type vxlan id 7 2>&1; ip link set v1 type vxlan dstport 8 2>&1; ip link set v1 type vxlan nolearning
ip link set v1 nomaster; ip -d -j link show v1; ip link del e0; ip link show v1 2>/dev/null; echo $?
"""  # noqa: E501


def told(text: str) -> list[object]:
    """Lines; of links what a vxlan is."""
    found: list[object] = []
    for line in text.splitlines():
        if not line.startswith("[{"):
            found.append(line.strip())
            continue
        (link,) = json.loads(line)
        keep = ("ifname", "mtu", "link", "address", "broadcast", "min_mtu")
        found.append({word: link.get(word) for word in keep} | {"info": link["linkinfo"]})
    return found


def test_ip_and_bridge_tell_what_they_tell_of_the_kernels_device() -> None:
    require.netns()
    require.tool("ip", "iproute2")
    require.tool("bridge", "iproute2")
    kernel = KernelNet()
    want = kernel.run(SCRIPT)
    kernel.close()
    with real_host() as host:
        assert told(run_script(host, SCRIPT)) == told(want)


def test_the_table_of_attributes_fits_the_wire() -> None:
    data = VXLAN.build({"IFLA_VXLAN_ID": 5, "IFLA_VXLAN_PORT_RANGE": struct.pack(">HH", 1, 9)})
    assert VXLAN.parse(data)["IFLA_VXLAN_PORT_RANGE"] == b"\0\1\0\x09"


def test_of_a_port_range_that_is_too_long_the_first_bytes_count() -> None:
    data = VXLAN.parse(VXLAN.build({"IFLA_VXLAN_PORT_RANGE": struct.pack(">HHI", 1, 9, 7)}))
    vxlan_validate(Attrs(), data)
    assert data["IFLA_VXLAN_PORT_RANGE"] == b"\0\1\0\x09"
