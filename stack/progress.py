"""The state of a machine that a VirtualClock compares to find stalls.

The clock must tell long waits from endless ones; e1000emu/clock/stall.py defines this interface.
"""

from __future__ import annotations

from typing import Any

from stack.core.bsd_socket import sock_poll
from stack.core.tcp_states import TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_NEW_SYN_RECV, TCP_TIME_WAIT
from stack.inet.af_ops import inet_ehash_entries
from stack.machine import Machine
from stack.proc.ss import end_text

M32 = 0xFFFFFFFF


def progress(machine: Machine) -> tuple[Any, ...] | None:
    """A tuple that changes with each event of a socket; None while a TCP_USER_TIMEOUT runs.

    It has the sequence numbers, queues, errors and readiness that an application can notice, and
    the counts of retransmissions and probes, which lead to an error.
    """
    connections: list[tuple[Any, ...]] = []
    for sk in _connections(machine):
        if sk.sk_state == TCP_NEW_SYN_RECV:
            connections.append((id(sk), sk.num_timeout))
        elif sk.sk_state == TCP_TIME_WAIT:
            connections.append((id(sk),))
        elif sk.icsk_user_timeout and (
            sk.icsk_probes_tstamp or sk.packets_out or sk.icsk_probes_out
        ):
            return None
        else:
            connections.append(
                (
                    *(id(sk), sk.sk_state, sk.snd_una, sk.snd_nxt, sk.write_seq),
                    *(sk.rcv_nxt, sk.copied_seq, sk.icsk_retransmits, sk.icsk_probes_out),
                )
            )
    sockets = []
    for net in machine.net_namespace_list:
        for fd, file in net.fdtable.fd.items():
            sock = file.sock
            if sock is not None and sock.sk is not None:
                sk = sock.sk
                queued = sk.sk_receive_queue.qlen, sk.sk_error_queue.qlen, sk.sk_wmem_alloc
                sockets.append((fd, sock_poll(sock), sk.sk_err, *queued))
    return tuple(connections), tuple(sockets)


def describe(machine: Machine) -> list[str]:
    """The connections whose peer does not read, a sentence each."""
    found = []
    for sk in _connections(machine):
        if sk.sk_state not in (TCP_ESTABLISHED, TCP_CLOSE_WAIT):
            continue
        queued = (sk.write_seq - sk.snd_una) & M32
        if queued and sk.sk_write_queue.peek() is not None and not sk.packets_out:
            peer = end_text(sk, sk.inet_daddr, sk.inet_dport)
            found.append(
                f"{sk.net.name}: {queued} bytes for {peer} wait because nobody reads there"
            )
    return found


def _connections(machine: Machine) -> list[Any]:
    return [sk for net in machine.net_namespace_list for sk in inet_ehash_entries(net.tcp_hashinfo)]
