"""Calls through slots of the compiled stack: what packets pass goes by C, the rest by Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack import COMPILED
from stack.core.bsd_socket import sock_sendmsg, socket
from stack.core.datagram import skb_came
from stack.core.iov import msghdr
from stack.core.napi import net_rx_action
from stack.core.proto import proto_ops
from stack.core.rows import replace
from stack.drivers.e1000.txrx import e1000_clean, e1000_intr, e1000_xmit_frame
from stack.host import Host
from stack.inet.inet_common import inet_recvmsg, inet_sendmsg
from stack.inet.tcp_sendmsg import tcp_sendmsg
from stack.inet.udp import udp_recvmsg
from stack.ipv4.ip_input import ip_local_deliver, ip_rcv
from stack.ipv4.ip_output import ip_output, ip_queue_xmit
from stack.ipv4.tcp_ipv4 import tcp_v4_rcv
from stack.ipv4.udp import udp4_flow_xmit, udp_rcv, udp_sendmsg
from stack.ipv6.ip6_input import ip6_input, ipv6_rcv
from stack.ipv6.ip6_output import ip6_output
from stack.ipv6.udp import udp6_flow_xmit, udpv6_sendmsg
from stack.socket import AF_INET, SOCK_DGRAM, Socket

compiled = pytest.mark.skipif(not COMPILED, reason="the sources themselves run")


@compiled
@pytest.mark.parametrize(
    ("fn", "shape"),
    [
        (inet_sendmsg, "OOLL"),
        (inet_recvmsg, "OOLLL"),
        (udp_sendmsg, "OOLL"),
        (udpv6_sendmsg, "OOLL"),
        (tcp_sendmsg, "OOLL"),
        (udp_recvmsg, "OOLLL"),
        (udp4_flow_xmit, "OOOLL"),
        (udp6_flow_xmit, "OOOLL"),
        (ip_queue_xmit, "OOOL"),
        (ip_output, "OOOL"),
        (ip6_output, "OOOL"),
        (e1000_xmit_frame, "OOL"),
        (e1000_intr, "LOL"),
        (e1000_clean, "OLL"),
        (ip_rcv, "OOOOL"),
        (ipv6_rcv, "OOOOL"),
        (ip_local_deliver, "OL"),
        (ip6_input, "OL"),
        (udp_rcv, "OL"),
        (tcp_v4_rcv, "OL"),
        (skb_came, "OOB"),
        (net_rx_action, "OO"),
    ],
)
def test_functions_of_the_packet_path_have_the_shape_of_their_slots(fn: Any, shape: str) -> None:
    known, types = vars(sys.modules[fn.__module__])["_slot_shapes"][fn.__name__]
    assert known == shape
    assert len(types) == len(shape) - 1
    assert fn.__name__ in vars(sys.modules[fn.__module__])["__pyx_capi__"]


def test_whatever_a_slot_holds_is_called() -> None:
    """A compiled function, a Python one, a method, a partial; None is an error."""
    seen: list[Any] = []

    class Owner:
        def sendmsg(self, sock: socket, msg: msghdr, size: int) -> int:
            seen.append((self, sock, size))
            return size + 2

    def function(sock: socket, msg: msghdr, size: int) -> int:
        seen.append((None, sock, size))
        return size + 1

    def told(number: int, sock: socket, msg: msghdr, size: int) -> int:
        return number

    with Host(clock=VirtualClock()) as host, Socket(host, AF_INET, SOCK_DGRAM) as s:
        sock = s.sk.sk_socket
        plain: proto_ops = sock.ops
        owner = Owner()
        for _ in range(3):  # the second time it is known

            def send(fn: Callable[[socket, msghdr, int], int] | None, size: int = 5) -> int:
                sock.ops = replace(plain, sendmsg=fn)
                return sock_sendmsg(sock, msghdr(None, bytes(size)))

            assert send(function) == 6
            assert send(owner.sendmsg) == 7
            assert seen[-2:] == [(None, sock, 5), (owner, sock, 5)]
            assert send(partial(told, 9)) == 9
            with pytest.raises(OSError, match="no destination"):
                send(inet_sendmsg)
            with pytest.raises(OSError, match="ZeroDivision"):
                send(failing)
            with pytest.raises(TypeError):
                send(None)
        sock.ops = plain


def failing(sock: socket, msg: msghdr, size: int) -> int:
    """What a slot raises comes out."""
    raise OSError("ZeroDivision")


@compiled
def test_a_compiled_function_gets_no_argument_of_another_type() -> None:
    with Host(clock=VirtualClock()) as host, Socket(host, AF_INET, SOCK_DGRAM) as s:
        sock = s.sk.sk_socket
        plain: proto_ops = sock.ops
        for _ in range(3):  # a derived type that was let in before does not let another in
            derived = type("derived", (socket,), {})(host)
            derived.sk, derived.type = sock.sk, sock.type
            derived.ops = sock.ops = plain
            for right in (sock, derived):
                with pytest.raises(OSError, match="no destination"):
                    sock_sendmsg(right, msghdr(None, b"abc"))
            # udp_sendmsg takes a udp_sock where the slot gives a socket
            derived.ops = sock.ops = replace(plain, sendmsg=udp_sendmsg)
            for wrong in (sock, derived):
                with pytest.raises(TypeError, match="udp_sock"):
                    sock_sendmsg(wrong, msghdr(None, b"abc"))
        sock.ops = plain
