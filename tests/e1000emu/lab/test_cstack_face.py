"""Calls of a C program on one host, made here: what waits, and a tun's large packets."""

from __future__ import annotations

import ctypes
import socket as linux
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from e1000emu.clock import VirtualClock
from e1000emu.lab.cstack.face import Face
from e1000emu.lab.cstack.host import Tun
from stack.core import uapi
from stack.host import Host
from tests.stack.inet.tcpnet import ACK, MS, PSH, SYN, A, S, TcpNet

NAME = ctypes.create_string_buffer(struct.pack("=H", uapi.AF_INET) + b"\0\x50\x0a\0\0\2" + bytes(8))
"""10.0.0.2, port 80."""
DATA = ctypes.create_string_buffer(1000)


def test_the_handshakes_last_ack_rides_on_what_a_writer_waits_to_send() -> None:
    """A blocking call with MSG_FASTOPEN and without a cookie: SYN, then its data at once."""
    with TcpNet(latency_ns=5 * MS) as net:
        listener = net.socket(net.b)
        listener.bind(80)
        listener.listen(5)
        face = Face(net.a, net.clock.wait)
        fd = face.call("socket", (uapi.AF_INET, uapi.SOCK_STREAM, 0))
        at = ctypes.addressof(DATA), len(DATA)
        to = ctypes.addressof(NAME), 16
        assert face.call("sendto", (fd, *at, uapi.MSG_FASTOPEN, *to)) == len(DATA)
        net.run(20 * MS)
        sent = [(s.flags, len(s.payload)) for s in net.log if s.src == A]
        assert sent == [(SYN, 0), (ACK | PSH, len(DATA))]
        assert face.descriptor(fd).sock.sk.sk_write_pending == 0
        server = listener.accept()
        assert server.recv() == DATA.raw
        face.call("close", (fd,))


@pytest.mark.parametrize("model", [None, "82540EM"])
def test_packets_have_no_padding_of_frames(model: str | None) -> None:
    """A tun's packets, also over a NIC, whose frames have 60 bytes at least."""
    with Host("h", clock=VirtualClock()) as host:
        tun = Tun(host, "tun0", 1500, model)
        host.ifconfig(tun.name, "10.0.0.1/24")
        host.clock.run_for(S)
        tun.sent.clear()
        asked = IP(src="10.0.0.2", dst="10.0.0.1") / ICMP(id=5) / Raw(b"abc")
        tun.receive(bytes(asked))
        host.clock.run_for(S)
        ((_, packet),) = tun.sent
        told = IP(packet)
        assert (len(packet), told.len, told.src) == (31, 31, "10.0.0.1")
        assert (told[ICMP].type, told[ICMP].id, told[Raw].load) == (0, 5, b"abc")


def test_a_large_packet_counts_about_its_size_to_its_receiver() -> None:
    """Else its window would close over memory that nobody uses."""
    with Host("h", clock=VirtualClock()) as host:
        tun = Tun(host, "tun0", 65_000)
        host.ifconfig("tun0", "10.0.0.1/24")
        sock = host.socket(uapi.AF_INET, uapi.SOCK_DGRAM)
        sock.bind(("10.0.0.1", 9))
        payload = bytes(range(250)) * 40
        tun.receive(
            bytes(IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=1, dport=9) / Raw(payload))
        )
        (held, *_) = struct.unpack("=9I", sock.getsockopt(linux.SOL_SOCKET, uapi.SO_MEMINFO, 36))
        assert len(payload) < held < len(payload) * 1.5
        assert sock.recv(20_000) == payload
        sock.close()
