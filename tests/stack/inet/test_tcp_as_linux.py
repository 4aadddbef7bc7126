"""What the kernel was seen to do with a TCP socket, and this stack once did not."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest

from e1000emu.clock import VirtualClock
from stack.core import uapi
from stack.core.ioctl import sys_ioctl
from stack.core.rows import clone_state
from stack.host import Host
from stack.inet import tcp_sock as opt
from stack.socket import SHUT_RD, SO_TYPE, SOL_SOCKET, Socket, create_connection, create_server
from tests.stack.inet.tcpnet import A, S, TcpNet

SIOCOUTQNSD = 0x894B
ADDRESS = ("10.0.0.2", 5001)


@pytest.mark.parametrize("lowat", [1 << 14, 1 << 17])
def test_what_waits_unsent_stays_near_notsent_lowat(lowat: int, a: Host, b: Host) -> None:
    """A super-packet holds half a megabyte; Linux has one packet above the mark at most."""
    with a, b, create_server(b, ADDRESS) as listener, create_connection(a, ADDRESS) as client:
        server, _ = listener.accept()
        client.setsockopt(uapi.SOL_TCP, opt.TCP_NOTSENT_LOWAT, lowat)
        client.setblocking(False)
        for _ in range(40):
            with suppress(BlockingIOError):
                client.send(bytes(1 << 20))
            a.clock.run_for(10_000_000)
        assert 0 < sys_ioctl(a, client.host_fd, SIOCOUTQNSD) < lowat + (1 << 16)
        server.close()


def test_a_route_that_was_learned_goes_when_segments_are_lost() -> None:
    """dst_negative_advice after tcp_retries1 losses: a redirected or shrunk route is asked anew."""
    with TcpNet() as net:
        client, _server = net.pair()
        known = client.sk.sk_dst_cache
        assert known is not None
        route = client.sk.sk_dst_cache = clone_state(known)
        route.expires = net.a.now() + 10_000 * S
        net.filter = lambda segment: segment.src != A
        client.send(b"x" * 100)
        net.run(S)
        assert client.sk.sk_dst_cache is route
        net.run(8 * S)
        assert client.sk.sk_dst_cache is not route
        net.filter = None
        net.run(200 * S)


def test_a_read_of_no_bytes_says_what_a_longer_one_would(a: Host, b: Host) -> None:
    with a, b, create_server(b, ADDRESS) as listener, create_connection(a, ADDRESS) as client:
        server, _ = listener.accept()
        with a.socket() as fresh, pytest.raises(OSError, match=r"107|not connected"):
            fresh.recv_into(bytearray(0))
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recvmsg_into([])
        server.close()


def test_segments_have_time_stamps_too(a: Host, b: Host) -> None:
    with a, b, create_server(b, ADDRESS) as listener, create_connection(a, ADDRESS) as client:
        server, _ = listener.accept()
        server.setsockopt(SOL_SOCKET, uapi.SO_TIMESTAMPNS, 1)
        client.sendall(b"when")
        data, [(level, kind, stamp)], _, _ = server.recvmsg(10, 100)
        assert (data, level, kind) == (b"when", SOL_SOCKET, uapi.SCM_TIMESTAMPNS)
        seconds, _ = struct.unpack("=qq", stamp)
        assert abs(seconds - a.realtime_ns(a.clock.now_ns()) // 10**9) <= 1
        server.close()


def test_an_option_that_streams_do_not_have_is_einval_or_eproto() -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host, host.socket() as sock:
        mreq = bytes((239, 1, 1, 1, 127, 0, 0, 1))
        with pytest.raises(OSError, match="stream") as error:
            sock.setsockopt(uapi.SOL_IP, uapi.IP_ADD_MEMBERSHIP, mreq)
        assert error.value.errno == 71
        with pytest.raises(OSError, match="fragments"):
            sock.setsockopt(uapi.SOL_IP, uapi.IP_RECVFRAGSIZE, 1)


def test_udp_without_waiting_does_not_see_a_shutdown() -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host, host.socket(2, 2) as sock:
        sock.bind(("127.0.0.1", 7))
        sock.connect(("127.0.0.1", 7))
        sock.shutdown(SHUT_RD)
        with pytest.raises(BlockingIOError):
            sock.recv(10, uapi.MSG_DONTWAIT)
        assert sock.recv(10) == b""
        assert isinstance(sock, Socket)
        assert sock.getsockopt(SOL_SOCKET, SO_TYPE) == 2
