"""TCP as the socket calls see it, over two whole stacks."""

from __future__ import annotations

import contextlib
import errno
import socket as linux
import struct
import sys

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from stack.core import uapi
from stack.core.sock import sk_sleep
from stack.core.uapi import (
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    SIOCATMARK,
    SIOCINQ,
    SIOCOUTQ,
    SOL_SOCKET,
)
from stack.inet import tcp_sock as opt
from stack.inet.tcp import tcp_poll
from stack.ipv4.rt_cache import rt_cache_flush
from stack.ipv4.tcp_ipv4 import tcp_prot
from stack.socket import Socket
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST, SYN, B, S, TcpNet, transfer
from tests.stack.ipv4.net import ME, PEER, one_host
from tests.support import errno_of

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 1, 2, 4, 8, 16, 0x2000


def pattern(n: int) -> bytes:
    return b"".join(i.to_bytes(4, "big") for i in range((n + 3) // 4))[:n]


def test_the_next_input_route_is_remembered_when_one_is_gone() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"x")
        net.run(MS * 20)
        old = server.sk.sk_rx_dst
        assert not old.obsolete
        rt_cache_flush(net.b)
        client.send(b"y")
        net.run(MS * 20)
        assert old.obsolete
        assert not server.sk.sk_rx_dst.obsolete
        assert server.recv_all() == b"xy"


def test_handshake_is_three_segments_with_the_options() -> None:
    with TcpNet() as net:
        _client, _server = net.pair()
        syn, synack, ack = net.log[:3]
        assert (syn.flags, synack.flags, ack.flags) == (SYN, SYN | ACK, ACK)
        assert synack.ack == syn.seq + 1
        assert (ack.seq, ack.ack) == (syn.seq + 1, synack.seq + 1)
        for segment in (syn, synack):
            assert segment.opt(2) == (1460).to_bytes(2, "big")
            assert segment.opt(3) == bytes((7,))
            assert segment.opt(4) == b""
            assert len(segment.opt(8) or b"") == 8
        assert len(net.log) == 3


def test_options_follow_the_peer() -> None:
    """What either end lacks is not used."""
    with TcpNet(sysctl_b={"tcp_sack": 0, "tcp_timestamps": 0, "tcp_window_scaling": 0}) as net:
        client, server = net.pair()
        for sock in (client, server):
            assert not sock.sk.rx_opt.sack_ok
            assert not sock.sk.rx_opt.tstamp_ok
            assert sock.sk.rx_opt.snd_wscale == sock.sk.rx_opt.rcv_wscale == 0
        data = pattern(300_000)
        assert transfer(net, client, server, data) == data


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("size", [1, 1448, 1449, 100_000, 1_000_000])
def test_bytes_arrive_in_order(size: int, gso: bool) -> None:
    with TcpNet(gso=gso) as net:
        client, server = net.pair()
        data = pattern(size)
        assert transfer(net, client, server, data) == data
        assert net.a.mib.tcp.RetransSegs == 0


def test_both_directions_at_once() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        up, down = pattern(400_000), pattern(300_000)[::-1]
        got_up, got_down = bytearray(), bytearray()
        sent = {client: 0, server: 0}
        while len(got_up) < len(up) or len(got_down) < len(down):
            for sock, data in ((client, up), (server, down)):
                if sent[sock] < len(data):
                    with contextlib.suppress(BlockingIOError):
                        sent[sock] += sock.send(data[sent[sock] : sent[sock] + 50_000])
            got_up += server.recv_all()
            got_down += client.recv_all()
            assert net.clock.step() or len(got_up) == len(up)
        assert bytes(got_up) == up
        assert bytes(got_down) == down


def test_half_close() -> None:
    """One direction ends, the other goes on (RFC 9293 3.6)."""
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"question")
        client.shutdown(2)
        net.run(50 * MS)
        assert server.recv() == b"question"
        assert server.recv() == b""
        assert (client.state, server.state) == ("FIN_WAIT2", "CLOSE_WAIT")
        answer = pattern(200_000)
        assert transfer(net, server, client, answer) == answer
        net.run(50 * MS)
        assert server.state == "CLOSE"
        assert errno_of(client.send, b"more") == errno.EPIPE


def test_simultaneous_close() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.shutdown(2)
        server.shutdown(2)
        net.run(6 * MS)
        assert (client.state, server.state) == ("CLOSING", "CLOSING")
        net.run(6 * MS)
        assert len(net.a.tcp_hashinfo.ehash) == len(net.b.tcp_hashinfo.ehash) == 1
        net.finish()
        assert not net.a.tcp_hashinfo.ehash


def test_close_with_unread_data_resets() -> None:
    """RFC 2525 2.17: the sender learns that its data was lost."""
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"x" * 5000)
        net.run(50 * MS)
        server.close()
        assert net.log[-1].flags & RST
        net.run(50 * MS)
        assert client.state == "CLOSE"
        with pytest.raises(ConnectionResetError):
            client.recv()
        assert net.b.mib.linux.TCPAbortOnClose == 1


def test_linger_zero_aborts() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.sk.sk_flags |= 1 << 4  # SOCK_LINGER
        client.sk.sk_lingertime = 0
        client.send(b"lost")
        client.close()
        net.run(50 * MS)
        assert net.log[-1].flags & RST
        assert server.state == "CLOSE"
        assert server.recv() == b"lost"  # it came before the RST
        with pytest.raises(ConnectionResetError):
            server.recv()


def test_linger_waits_for_the_fin_exchange() -> None:
    with TcpNet(latency_ns=100 * MS) as net:
        client, server = net.pair()
        client.send(b"last words")
        start = net.clock.now_ns()
        client.close(5 * S)  # blocks: runs the simulation
        waited = net.clock.now_ns() - start
        assert 200 * MS <= waited < 300 * MS
        assert server.recv() == b"last words"


def test_linger_gives_up_after_its_time() -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        net.filter = lambda segment: False
        start = net.clock.now_ns()
        client.close(2 * S)
        assert net.clock.now_ns() - start == 2 * S
        net.filter = None


def test_connection_refused() -> None:
    with TcpNet() as net:
        client = net.client(81)
        net.run(20 * MS)
        assert client.state == "CLOSE"
        assert client.sk.sk_err == errno.ECONNREFUSED
        assert tcp_poll(None, client.sock, None) & (POLLERR | POLLHUP) == POLLERR | POLLHUP
        assert net.b.mib.tcp.OutRsts == 1


def test_backlog_limits_the_accept_queue() -> None:
    """More than backlog + 1 children are not made; the other SYNs are answered later."""
    with TcpNet(sysctl={"tcp_syncookies": 0}) as net:
        listener = net.listening(2)
        clients = [net.socket(net.a) for _ in range(5)]
        for client in clients:
            client.connect(B, 80)
        net.run(100 * MS)
        assert listener.sk.sk_ack_backlog == 3
        assert net.b.mib.linux.ListenDrops > 0
        servers = []
        for _ in range(3):
            servers.append(listener.accept())
        with pytest.raises(BlockingIOError):
            listener.accept()
        net.run(20 * S)  # SYN and SYN-ACK retransmissions bring the others in
        while listener.readable:
            servers.append(listener.accept())
            net.run(20 * S)
        assert len(servers) == 5


def test_closing_a_listener_resets_what_waits() -> None:
    with TcpNet() as net:
        listener = net.listening(5)
        client = net.client()
        net.run(50 * MS)
        assert client.state == "ESTABLISHED"
        listener.close()
        net.run(50 * MS)
        assert client.state == "CLOSE"
        with pytest.raises(ConnectionResetError):
            client.recv()
        net.finish()
        assert not net.b.tcp_hashinfo.bhash
        assert not net.b.tcp_hashinfo.lhash2


def test_bind_conflicts() -> None:
    with TcpNet() as net:
        one, two = net.socket(net.a), net.socket(net.a)
        one.bind(1000)
        with pytest.raises(OSError, match="Address already in use"):
            two.bind(1000)
        two.bind(0)
        assert 32768 <= two.sk.inet_num <= 60999
        one.sk.sk_reuse = two.sk.sk_reuse = 1
        three = net.socket(net.a)
        three.sk.sk_reuse = 1
        three.bind(1000)  # both may share, neither listens
        one.listen(1)
        four = net.socket(net.a)
        four.sk.sk_reuse = 1
        with pytest.raises(OSError, match="Address already in use"):
            four.bind(1000)
        net.finish()
        assert not net.a.tcp_hashinfo.bhash


def test_ports_of_connects_differ() -> None:
    with TcpNet() as net:
        listener = net.listening(64)
        clients = [net.socket(net.a) for _ in range(20)]
        for client in clients:
            client.connect(B, 80)
        assert len({c.sk.inet_num for c in clients}) == 20
        net.run(100 * MS)
        assert all(c.state == "ESTABLISHED" for c in clients)
        [listener.accept() for _ in clients]
        net.finish()
        assert not net.a.tcp_hashinfo.bhash


def test_out_of_ports() -> None:
    with TcpNet(sysctl={"ip_local_port_range": (5000, 5003)}) as net:
        net.listening(64)
        clients = [net.socket(net.a) for _ in range(4)]
        for client in clients:
            client.connect(B, 80)
        late = net.socket(net.a)
        assert errno_of(late.connect, B, 80) == errno.EADDRNOTAVAIL


def test_peek_and_waitall() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"abcdef")
        net.run(20 * MS)
        assert server.recv(4, MSG_PEEK) == b"abcd"
        assert server.recv(3) == b"abc"
        assert server.recv(100, MSG_PEEK) == b"def"
        with pytest.raises(OSError, match=r"."):
            server.recv(1, MSG_OOB)
        assert server.recv(3, MSG_WAITALL) == b"def"
        with pytest.raises(BlockingIOError):
            server.recv(1)


def test_urgent_byte_beside_the_stream() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"abc")
        client.send(b"!", MSG_OOB)
        client.send(b"def")
        net.run(100 * MS)
        assert tcp_poll(None, server.sock, None) & POLLPRI
        assert server.recv(100) == b"abc"  # reading stops at the mark
        assert tcp_prot.ioctl(server.sk, SIOCATMARK) == 1
        assert server.recv(1, MSG_OOB) == b"!"
        assert server.recv(100) == b"def"
        with pytest.raises(OSError, match=r"."):
            server.recv(1, MSG_OOB)


def test_urgent_byte_inline() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        server.sk.sk_flags |= 1 << 2  # SOCK_URGINLINE
        client.send(b"ab")
        client.send(b"!", MSG_OOB)
        net.run(100 * MS)
        assert server.recv(100) == b"ab"
        assert server.recv(100) == b"!"


def test_ioctls_count_bytes() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"x" * 1000)
        assert tcp_prot.ioctl(client.sk, SIOCOUTQ) == 1000
        net.run(20 * MS)
        assert tcp_prot.ioctl(client.sk, SIOCOUTQ) == 0
        assert tcp_prot.ioctl(server.sk, SIOCINQ) == 1000
        assert errno_of(tcp_prot.ioctl, client.sk, 0x1234) == errno.ENOTTY
        server.recv()


def test_poll_masks() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        assert tcp_poll(None, client.sock, None) & (POLLIN | POLLOUT) == POLLOUT
        server.send(b"x")
        net.run(20 * MS)
        assert tcp_poll(None, client.sock, None) & (POLLIN | POLLOUT) == POLLIN | POLLOUT
        client.recv()
        server.shutdown(2)
        net.run(20 * MS)
        assert tcp_poll(None, client.sock, None) & POLLRDHUP
        client.shutdown(3)
        assert tcp_poll(None, client.sock, None) & POLLHUP


def test_writer_is_told_when_there_is_room() -> None:
    with TcpNet(sysctl={"tcp_wmem": (4096, 65536, 65536)}) as net:
        client, server = net.pair()
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(b"x" * 30_000)
        assert not client.writable
        woken = []
        sk_sleep(client.sk).add(lambda: woken.append(net.clock.now_ns()))
        net.run(100 * MS)
        assert woken
        assert client.writable
        while server.recv_all():
            net.run(20 * MS)


def test_blocking_send_and_receive_advance_the_simulation() -> None:
    from stack.core.iov import msghdr
    from stack.inet.tcp_recvmsg import tcp_recvmsg
    from stack.inet.tcp_sendmsg import tcp_sendmsg

    with TcpNet(sysctl={"tcp_wmem": (4096, 65536, 65536), "tcp_rmem": (4096, 65536, 65536)}) as net:
        client, server = net.pair()
        data = pattern(500_000)
        out = bytearray(len(data))
        got = []

        def reader() -> None:
            try:
                n = tcp_recvmsg(
                    server.sk, msghdr(None, memoryview(out)[sum(got) :]), len(out), 0x40
                )
                got.append(n)
            except BlockingIOError:
                pass
            if sum(got) < len(out):
                net.clock.call_at(net.clock.now_ns() + MS, reader)

        reader()
        assert tcp_sendmsg(client.sk, msghdr(None, data), len(data)) == len(data)
        net.run_until(lambda: sum(got) == len(out), 10 * S)
        assert bytes(out) == data


# --- options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        (opt.TCP_NODELAY, 1, 1),
        (opt.TCP_CORK, 1, 1),
        (opt.TCP_MAXSEG, 1000, 1000),
        (opt.TCP_KEEPIDLE, 10, 10),
        (opt.TCP_KEEPINTVL, 5, 5),
        (opt.TCP_KEEPCNT, 3, 3),
        (opt.TCP_SYNCNT, 2, 2),
        (opt.TCP_LINGER2, 20, 20),
        (opt.TCP_LINGER2, -1, -1),
        (opt.TCP_DEFER_ACCEPT, 7, 7),
        (opt.TCP_WINDOW_CLAMP, 50_000, 50_000),
        (opt.TCP_QUICKACK, 0, 0),
        (opt.TCP_USER_TIMEOUT, 3000, 3000),
        (opt.TCP_NOTSENT_LOWAT, 16384, 16384),
        (opt.TCP_INQ, 1, 1),
        (opt.TCP_SAVE_SYN, 1, 1),
        (opt.TCP_CONGESTION, b"reno", b"reno".ljust(16, b"\0")),
    ],
)
def test_option_reads_back(name: int, value: object, read: object) -> None:
    with TcpNet() as net:
        sock = net.socket(net.a)
        sock.setsockopt(name, value)
        assert sock.getsockopt(name) == read


@pytest.mark.parametrize(
    ("name", "value", "err"),
    [
        (opt.TCP_MAXSEG, 10, errno.EINVAL),
        (opt.TCP_KEEPIDLE, 0, errno.EINVAL),
        (opt.TCP_KEEPCNT, 128, errno.EINVAL),
        (opt.TCP_CONGESTION, b"nosuch", errno.ENOENT),
        (opt.TCP_USER_TIMEOUT, -1, errno.EINVAL),
        (9999, 1, errno.ENOPROTOOPT),
        (opt.TCP_NODELAY, b"", errno.EINVAL),
    ],
)
def test_bad_option_is_refused(name: int, value: object, err: int) -> None:
    with TcpNet() as net:
        sock = net.socket(net.a)
        assert errno_of(sock.setsockopt, name, value) == err


def test_maxseg_bounds_both_ends() -> None:
    with TcpNet() as net:
        listener = net.socket(net.b)
        listener.setsockopt(opt.TCP_MAXSEG, 600)
        listener.bind(80)
        listener.listen(1)
        client = net.client()
        net.run(50 * MS)
        server = listener.accept()
        assert net.log[1].opt(2) == (600).to_bytes(2, "big")
        data = pattern(20_000)
        assert transfer(net, client, server, data) == data
        assert max(len(s.payload) for s in net.log) == 588  # 600 less the timestamps


def test_tcp_info_layout() -> None:
    """Offsets of struct tcp_info (uapi/linux/tcp.h)."""
    with TcpNet() as net:
        client, server = net.pair()
        data = pattern(100_000)
        transfer(net, client, server, data, close=False)
        net.run(100 * MS)
        info = client.getsockopt(opt.TCP_INFO)
        assert len(info) == 280
        assert info[0] == 1  # tcpi_state ESTABLISHED
        assert info[5] & 7 == 7  # timestamps, SACK, window scale
        (rto, _ato, snd_mss) = struct.unpack_from("=III", info, 8)
        assert 200_000 < rto < 300_000
        assert snd_mss == 1448
        (rtt,) = struct.unpack_from("=I", info, 68)
        assert 10_000 <= rtt < 60_000
        (cwnd,) = struct.unpack_from("=I", info, 80)
        assert cwnd == client.sk.snd_cwnd
        (bytes_acked,) = struct.unpack_from("=Q", info, 120)
        assert bytes_acked == 100_001  # the SYN counts
        assert struct.unpack_from("=Q", server.getsockopt(opt.TCP_INFO), 128)[0] == 100_000


def test_inq_comes_as_control_message() -> None:
    from stack.core.iov import msghdr
    from stack.inet.tcp_recvmsg import tcp_recvmsg

    with TcpNet() as net:
        client, server = net.pair()
        server.setsockopt(opt.TCP_INQ, 1)
        client.send(b"x" * 100)
        net.run(20 * MS)
        control: list = []
        msg = msghdr(None, bytearray(10), control)
        assert tcp_recvmsg(server.sk, msg, 10, 0) == 10
        level, kind, data = control[0]
        assert (level, kind, struct.unpack("=i", data)[0]) == (6, opt.TCP_INQ, 90)
        server.recv()


def test_cork_holds_partial_segments() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_CORK, 1)
        start = len(net.log)
        for _ in range(5):
            client.send(b"x" * 100)
        assert len(net.log) == start
        client.setsockopt(opt.TCP_CORK, 0)
        assert [len(s.payload) for s in net.log[start:]] == [500]
        net.run(20 * MS)
        assert len(server.recv()) == 500


def test_cork_lets_go_after_200_ms() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_CORK, 1)
        client.send(b"x" * 100)
        net.run(150 * MS)
        assert not server.readable
        net.run(150 * MS)
        assert server.recv() == b"x" * 100


def test_msg_more_is_a_cork_for_one_call() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        start = len(net.log)
        client.send(b"head", MSG_MORE)
        assert len(net.log) == start
        client.send(b"tail")
        assert [s.payload for s in net.log[start:]] == [b"headtail"]
        net.run(20 * MS)
        server.recv()


def test_msg_more_holds_back_only_the_last_segment() -> None:
    """Whole segments go at once, also while others are in flight."""
    with TcpNet(latency_ns=10 * MS) as net:
        client, server = net.pair()
        start = len(net.log)
        client.send(b"x" * 4500, MSG_MORE)
        assert [len(s.payload) for s in net.log[start:]] == [1448, 1448, 1448]
        net.run(300 * MS)
        assert server.recv() == b"x" * 4500


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
def test_a_send_buffer_counts_writes_as_the_kernels_does() -> None:
    """sk_wmem_queued after each of some corked writes, beside SO_MEMINFO of the kernel."""
    with TcpNet() as net, linux.create_server(("127.0.0.1", 0)) as listener:
        theirs = linux.create_connection(listener.getsockname())
        client, _server = net.pair()
        theirs.setsockopt(linux.IPPROTO_TCP, linux.TCP_CORK, 1)
        client.setsockopt(opt.TCP_CORK, 1)
        for size in (1, 1, 100, 1000):
            theirs.send(b"x" * size)
            client.send(b"x" * size)
            meminfo = theirs.getsockopt(linux.SOL_SOCKET, uapi.SO_MEMINFO, 36)
            assert client.sk.sk_wmem_queued == struct.unpack("=9I", meminfo)[5]
        theirs.close()
        net.finish()
        assert client.sk.sk_wmem_queued == 0


def test_defer_accept_waits_for_data() -> None:
    with TcpNet() as net:
        listener = net.socket(net.b)
        listener.setsockopt(opt.TCP_DEFER_ACCEPT, 10)
        listener.bind(80)
        listener.listen(5)
        client = net.client()
        net.run(100 * MS)
        assert client.state == "ESTABLISHED"
        assert not listener.readable
        client.send(b"GET")
        net.run(100 * MS)
        assert listener.readable
        server = listener.accept()
        assert server.recv() == b"GET"


def test_save_syn_keeps_the_headers() -> None:
    with TcpNet() as net:
        listener = net.socket(net.b)
        listener.setsockopt(opt.TCP_SAVE_SYN, 1)
        listener.bind(80)
        listener.listen(5)
        net.client()
        net.run(100 * MS)
        server = listener.accept()
        syn = server.getsockopt(opt.TCP_SAVED_SYN)
        assert syn[0] == 0x45
        assert syn[33] == SYN
        assert server.getsockopt(opt.TCP_SAVED_SYN) == b""


# --- disconnect, reuse --------------------------------------------------------------------


def test_disconnect_and_connect_again() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        tcp_prot.disconnect(client.sk, 0)
        assert client.state == "CLOSE"
        net.run(20 * MS)
        assert server.state == "CLOSE"
        client.sk.sk_err = 0
        listener = net.listening(1, port=81)
        client.connect(B, 81)
        net.run(50 * MS)
        again = listener.accept()
        data = pattern(50_000)
        assert transfer(net, client, again, data) == data


def test_time_wait_takes_a_new_connection() -> None:
    """RFC 6191: with timestamps a SYN may begin a new incarnation during TIME_WAIT."""
    with TcpNet(sysctl={"ip_local_port_range": (4000, 4000), "tcp_tw_reuse": 1}) as net:
        listener = net.listening(5)
        for round_ in range(3):
            client = net.client()
            net.run(50 * MS)
            server = listener.accept()
            client.send(b"%d" % round_)
            net.run(20 * MS)
            assert server.recv() == b"%d" % round_
            client.close()  # a goes to TIME_WAIT
            net.run(20 * MS)
            server.close()
            net.run(2 * S)
            assert len(net.a.tcp_hashinfo.ehash) == 1
        assert net.a.mib.linux.TWRecycled == 2
        listener.close()
        net.run(100 * S)
        assert not net.a.tcp_hashinfo.ehash


def test_time_wait_forbids_reuse_without_the_sysctl() -> None:
    with TcpNet(sysctl={"ip_local_port_range": (4000, 4000), "tcp_tw_reuse": 0}) as net:
        client, server = net.pair()
        client.close()
        net.run(20 * MS)
        server.close()
        net.run(20 * MS)
        again = net.socket(net.a)
        assert errno_of(again.connect, B, 80) == errno.EADDRNOTAVAIL


def test_a_bound_port_in_time_wait_connects_again_at_once() -> None:
    """No other port will do; the sysctl is for ports that are chosen."""
    with TcpNet(sysctl={"tcp_tw_reuse": 0}) as net:
        listener = net.listening(5)
        for round_ in range(2):
            client = net.socket(net.a)
            client.sk.sk_reuse = 1
            client.bind(4000)
            client.connect(B, 80)
            net.run(50 * MS)
            server = listener.accept()
            client.close()
            net.run(20 * MS)
            server.close()
            net.run(20 * MS)
            assert net.a.mib.linux.TWRecycled == round_


def test_server_side_time_wait_takes_a_syn() -> None:
    """The passive side closed first: its TIME_WAIT must not keep the client out for a minute."""
    with TcpNet(sysctl={"ip_local_port_range": (4000, 4000)}) as net:
        listener = net.listening(5)
        for _ in range(2):
            client = net.client()
            net.run(50 * MS)
            server = listener.accept()
            server.close()
            net.run(20 * MS)
            client.close()
            net.run(1500 * MS)
            assert len(net.b.tcp_hashinfo.ehash) == 1
            assert not net.a.tcp_hashinfo.ehash


def test_time_wait_bucket_limit() -> None:
    with TcpNet(sysctl={"tcp_max_tw_buckets": 1}) as net:
        pairs = [net.pair(80 + i) for i in range(3)]
        for client, _server in pairs:
            client.close()
        net.run(20 * MS)
        for _client, server in pairs:
            server.close()
        net.run(20 * MS)
        assert net.a.mib.linux.TCPTimeWaitOverflow == 2
        net.run(100 * S)


def test_fin_wait2_orphan_ends_by_timeout() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.close()
        net.run(50 * MS)
        assert server.state == "CLOSE_WAIT"
        assert len(net.a.tcp_hashinfo.ehash) == 1
        net.run(61 * S)
        assert not net.a.tcp_hashinfo.ehash
        server.send(b"too late")
        net.run(50 * MS)
        assert server.state == "CLOSE"


def test_data_for_a_closed_reader_is_reset() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.close()
        net.run(50 * MS)
        server.send(b"unwanted")
        net.run(50 * MS)
        assert net.log[-1].flags & RST
        assert server.state == "CLOSE"


def test_self_connect_is_a_simultaneous_open() -> None:
    with TcpNet() as net:
        sock = net.socket(net.a)
        sock.bind(5000, 0x7F000001)
        sock.connect(0x7F000001, 5000)
        net.run(50 * MS)
        assert sock.state == "ESTABLISHED"
        sock.send(b"echo")
        net.run(50 * MS)
        assert sock.recv() == b"echo"


def test_loopback_bulk() -> None:
    with TcpNet() as net:
        listener = net.socket(net.a)
        listener.bind(80)
        listener.listen(1)
        client = net.socket(net.a)
        client.connect(0x7F000001, 80)
        net.run(50 * MS)
        server = listener.accept()
        data = pattern(2_000_000)
        assert transfer(net, client, server, data) == data


def test_syn_cookies_when_the_queue_is_full() -> None:
    with TcpNet(sysctl={"tcp_syncookies": 2}) as net:
        client, server = net.pair()
        assert net.b.mib.linux.SyncookiesSent == 1
        assert net.b.mib.linux.SyncookiesRecv == 1
        assert server.sk.rx_opt.sack_ok
        assert server.sk.rx_opt.snd_wscale == client.sk.rx_opt.rcv_wscale
        data = pattern(300_000)
        assert transfer(net, client, server, data) == data


def test_syn_flood_is_answered_by_cookies_and_leaves_nothing() -> None:
    from tests.stack.inet.tcpnet import A, build_segment

    with TcpNet() as net:
        listener = net.listening(16)
        for port in range(1000, 1100):
            net.inject(build_segment(A, port, 80, port, 0, SYN))
            net.run(100_000)
        assert net.b.mib.linux.SyncookiesSent > 50
        assert len(listener.sk.icsk_accept_queue.pending) <= 17
        net.run(200 * S)
        assert len(listener.sk.icsk_accept_queue.pending) == 0


def test_fin_survives_a_lost_ack() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        lost = []

        def lose_first_fin_ack(segment):  # type: ignore[no-untyped-def]
            if segment.flags & FIN and not lost:
                lost.append(segment)
                return False
            return None

        net.filter = lose_first_fin_ack
        client.shutdown(2)
        net.run(2 * S)
        assert server.state == "CLOSE_WAIT"


def test_many_small_writes_share_buffers() -> None:
    """A small write must not cost a page of the pool."""
    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_NODELAY, 1)
        net.filter = lambda segment: segment.flags & SYN or segment.src != 0x0A000002
        pages = net.a.skb_pages.in_use
        for _ in range(50):
            client.send(b"tick")
        assert net.a.skb_pages.in_use - pages <= 1
        net.filter = None
        net.run(5 * S)
        assert server.recv_all() == b"tick" * 50


def test_sndbuf_and_rcvbuf_lock() -> None:
    assert SOL_SOCKET == 1
    with TcpNet() as net:
        listener = net.socket(net.b)
        listener.sk.sk_rcvbuf = 16384
        listener.sk.sk_flags |= 1 << 19  # SOCK_RCVBUF_LOCK
        listener.bind(80)
        listener.listen(1)
        client = net.client()
        net.run(50 * MS)
        server = listener.accept()
        data = pattern(200_000)
        assert transfer(net, client, server, data) == data
        assert server.sk.sk_rcvbuf == 16384
        scale = server.sk.rx_opt.rcv_wscale
        windows = [s.window << scale for s in net.log if s.src == B and not s.flags & SYN]
        assert max(windows) <= 16384


def test_reset_while_closing_keeps_the_counts() -> None:
    """The RST that a lingering close waits behind arrives: one orphan fewer, never below zero."""
    with TcpNet() as net:
        for seconds in (0, 1):
            client, server = net.pair()
            server.send(b"unread")
            net.run(20 * MS)
            server.sk.sk_lock_owned = False
            client.recv()
            tcp_prot.disconnect(server.sk, 0)  # sends RST
            client.close(seconds * S)
            server.close()
            net.run(100 * MS)
            for host in (net.a, net.b):
                assert host.prot_mem["TCP"].orphan_count == 0
                assert host.prot_mem["TCP"].sockets_allocated == 0
        net.run(100 * S)


def test_host_without_buffers_makes_writers_wait() -> None:
    """Page pool dry: EAGAIN for a non-blocking writer, and nothing is lost once there is room."""
    with TcpNet(ram_bytes=4 << 20) as net:
        client, server = net.pair()
        hold = []
        from fastpath.base.skbuff import alloc_skb, kfree_skb

        while net.a.skb_pages.available:
            hold.append(alloc_skb(net.a.skb_pages, 100))
        with pytest.raises(BlockingIOError):
            client.send(b"x" * 50_000)
        assert client.send(b"small fits the head") == 19
        for skb in hold:
            kfree_skb(skb)
        data = pattern(200_000)
        assert transfer(net, client, server, data) == b"small fits the head" + data


def test_tiny_host_survives_bulk_both_ways() -> None:
    """All pools small: every allocation failure is an error path that recovers."""
    with TcpNet(ram_bytes=1 << 20, gso=True) as net:
        client, server = net.pair()
        data = pattern(600_000)
        assert transfer(net, client, server, data) == data


def test_msg_eor_ends_the_packet() -> None:
    """Data after MSG_EOR starts a new segment, even in a corked queue."""
    from stack.core.uapi import MSG_EOR

    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_CORK, 1)
        start = len(net.log)
        client.send(b"record one", MSG_EOR)
        client.send(b"record two")
        client.setsockopt(opt.TCP_CORK, 0)
        net.run(20 * MS)
        assert [s.payload for s in net.log[start:] if s.payload] == [b"record one", b"record two"]
        assert server.recv_all() == b"record onerecord two"


@pytest.mark.parametrize("least", [0, 64, 65])
def test_an_icmp_error_about_a_packet_with_too_few_hops_is_dropped(least: int) -> None:
    """IP_MINTTL holds for the quoted header too (RFC 5082; tcp_v4_err of Linux)."""
    net = one_host()
    sock = Socket(net.host)
    sock.setblocking(False)
    if least:
        sock.setsockopt(uapi.SOL_IP, uapi.IP_MINTTL, least)
    with pytest.raises(BlockingIOError):
        sock.connect((PEER, 9))
    (syn,) = net.ip_sent()
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=1) / Raw(bytes(syn)))
    ended = least <= syn.ttl
    assert bool(sock.poll() & POLLERR) is ended
    assert net.host.mib.linux.TCPMinTTLDrop == (not ended)
    sock.close()
