"""What the kernel was seen to do with a TCP socket, and this stack once did not."""

from __future__ import annotations

import errno
import struct
from contextlib import suppress

import pytest

from e1000emu.clock import VirtualClock
from stack.core import uapi
from stack.core.ioctl import sys_ioctl
from stack.core.rows import clone_state
from stack.core.sock_flags import SOCK_DEAD
from stack.host import Host
from stack.inet import tcp_sock as opt
from stack.inet.tcp import tcp_poll
from stack.inet.tcp_close import tcp_abort
from stack.socket import SHUT_RD, SO_TYPE, SOL_SOCKET, Socket, create_connection, create_server
from tests.stack.inet.tcpnet import RST, SYN, A, B, S, Sock, TcpNet, build_segment
from tests.support import errno_of

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


# --- ports and addresses ------------------------------------------------------------------


def test_a_socket_uses_its_port_range_to_the_last_port() -> None:
    """IP_LOCAL_PORT_RANGE: Linux tries these ports in one pass, not by parity."""
    with TcpNet() as net:
        listener = net.listening()
        socks = [net.socket(net.a) for _ in range(4)]
        for sock in socks:
            sock.sk.local_port_range = (50010, 50012)
        for sock in socks[:3]:
            sock.connect(B, 80)
        assert sorted(sock.sk.inet_num for sock in socks[:3]) == [50010, 50011, 50012]
        assert errno_of(lambda: socks[3].connect(B, 80)) == errno.EADDRNOTAVAIL
        net.finish(listener, *socks)


def test_a_failed_connect_forgets_the_local_address() -> None:
    with TcpNet() as net:
        listener = net.listening()
        first, second = net.socket(net.a), net.socket(net.a)
        first.sk.local_port_range = second.sk.local_port_range = (50000, 50000)
        first.connect(B, 80)
        assert errno_of(lambda: second.connect(B, 80)) == errno.EADDRNOTAVAIL
        assert (second.sk.inet_saddr, second.sk.inet_rcv_saddr, second.sk.inet_dport) == (0, 0, 0)
        net.finish(listener, first, second)


def reuseport(net: TcpNet, addr: int, device: int = 0) -> Sock:
    """A listener of b with SO_REUSEPORT."""
    sock = net.socket(net.b)
    sock.sk.sk_reuseport = True
    sock.sk.sk_bound_dev_if = device
    sock.bind(80, addr)
    sock.listen(64)
    return sock


def test_a_bound_address_counts_more_than_a_bound_device() -> None:
    with TcpNet() as net:
        device = reuseport(net, 0, net.wires[1].dev.ifindex)
        address = reuseport(net, B)
        clients = [net.client() for _ in range(12)]
        net.run(S)
        assert (device.sk.sk_ack_backlog, address.sk.sk_ack_backlog) == (0, 12)
        net.finish(device, address, *clients)


def test_reuseport_shares_a_port_with_what_waits_in_time_wait() -> None:
    with TcpNet() as net:
        listener = reuseport(net, B)
        client = net.client()
        net.run(S)
        server = listener.accept()
        server.close()
        net.run(S)
        client.close()
        net.run(S)
        other = net.socket(net.b)
        other.bind(80, B + 100)  # without SO_REUSEPORT, so each bind is compared with all owners
        listener.close()
        reuseport(net, B).close()
        alone = net.socket(net.b)
        assert errno_of(lambda: alone.bind(80, B)) == errno.EADDRINUSE
        net.finish(other, alone)


# --- options ------------------------------------------------------------------------------


def test_a_child_does_not_defer_accept() -> None:
    with TcpNet() as net:
        listener = net.socket(net.b)
        listener.setsockopt(opt.TCP_DEFER_ACCEPT, 5)
        listener.bind(80)
        listener.listen()
        client = net.client()
        net.run(S)
        client.send(b"x")
        net.run(S)
        child = listener.accept()
        assert listener.getsockopt(opt.TCP_DEFER_ACCEPT) == 7
        assert child.getsockopt(opt.TCP_DEFER_ACCEPT) == 0
        net.finish(listener, client, child)


def test_a_disconnect_resets_what_the_next_connection_must_not_inherit() -> None:
    with TcpNet() as net:
        listener = net.listening()
        client = net.socket(net.a)
        client.setsockopt(opt.TCP_DEFER_ACCEPT, 5)
        client.setsockopt(opt.TCP_MAXSEG, 500)
        client.setsockopt(opt.TCP_RTO_MIN_US, 50_000)
        client.setsockopt(opt.TCP_DELACK_MAX_US, 50_000)
        client.connect(B, 80)
        net.run(S)
        server = listener.accept()
        mss = client.sk.mss_cache
        client.sk.tlp_high_seq = client.sk.snd_nxt
        client.sk.rack_reo_wnd_steps = 7
        client.sk.saved_syn = b"headers"
        client.sk.sk_peek_off = 3
        client.prot.disconnect(client.sk, 0)
        assert client.getsockopt(opt.TCP_MAXSEG) == mss
        assert client.getsockopt(opt.TCP_DEFER_ACCEPT) == 7
        assert client.getsockopt(opt.TCP_RTO_MIN_US) == 200_000
        assert client.getsockopt(opt.TCP_DELACK_MAX_US) == 200_000
        assert (client.sk.tlp_high_seq, client.sk.rack_reo_wnd_steps) == (0, 1)
        assert (client.sk.saved_syn, client.sk.sk_peek_off) == (None, -1)
        net.finish(listener, client, server)


def test_so_rcvlowat_leaves_a_buffer_that_so_rcvbuf_set() -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host, host.socket() as sock:
        sock.setsockopt(SOL_SOCKET, uapi.SO_RCVBUF, 4096)
        sock.setsockopt(SOL_SOCKET, uapi.SO_RCVLOWAT, 100_000)
        assert sock.getsockopt(SOL_SOCKET, uapi.SO_RCVLOWAT) == 4096
        assert sock.getsockopt(SOL_SOCKET, uapi.SO_RCVBUF) == 8192


def test_the_hint_of_tcp_inq_counts_the_end_of_the_stream(a: Host, b: Host) -> None:
    with a, b, create_server(b, ADDRESS) as listener, create_connection(a, ADDRESS) as client:
        server, _ = listener.accept()
        server.setsockopt(uapi.SOL_TCP, opt.TCP_INQ, 1)
        client.sendall(b"0123456789")
        client.close()
        a.clock.run_for(S)
        data, [(_, _, hint)], _, _ = server.recvmsg(4, 100)
        assert (data, struct.unpack("=i", hint)) == (b"0123", (7,))
        server.close()


# --- the end ------------------------------------------------------------------------------


def test_ss_kill_ends_a_listener_with_an_error_and_a_second_one_finds_nothing() -> None:
    with TcpNet() as net:
        listener = net.listening()
        assert tcp_abort(listener.sk, errno.ECONNABORTED) == 0
        mask = tcp_poll(None, listener.sock, None)
        assert mask & (uapi.POLLHUP | uapi.POLLERR) == uapi.POLLHUP | uapi.POLLERR
        assert listener.sk.sk_err == errno.ECONNABORTED
        assert tcp_abort(listener.sk, errno.ECONNABORTED) == -errno.ENOENT
        listener.close()


def test_ss_kill_ends_an_orphan() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        net.filter = lambda segment: segment.src != A or bool(segment.flags & RST)
        client.send(b"lost")
        client.close()
        assert client.state == "FIN_WAIT1"
        assert client.sk.sk_flags & SOCK_DEAD
        tcp_abort(client.sk, errno.ECONNABORTED)
        assert client.sk.sk_freed
        net.run(S)
        assert server.sk.sk_err == errno.ECONNRESET
        server.close()


def test_a_request_without_an_answer_is_no_failed_attempt_of_the_listener() -> None:
    with TcpNet(sysctl={"tcp_synack_retries": 1}) as net:
        listener = net.listening()
        net.filter = lambda segment: False
        net.inject(build_segment(A, 4000, 80, 1000, 0, SYN))
        net.run(20 * S)
        assert not listener.sk.icsk_accept_queue.pending
        assert (net.b.mib.tcp.RetransSegs, net.b.mib.tcp.AttemptFails) == (1, 0)
        assert listener.sk.total_retrans == 0
        listener.close()
