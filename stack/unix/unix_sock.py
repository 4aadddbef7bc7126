"""What AF_UNIX keeps: struct unix_sock, notes on packets, the names of a net (net/af_unix.h).

A host has no processes. What its programs would be seen as is one process of number 1, of the user
and group of their namespace (`Net.uid`, `Net.gid`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.skbuff import sk_buff
from stack.core.rows import FRESH, row, state
from stack.core.scm import NO_ID, scm_fp_list
from stack.core.sock import KEY_OUT, sock
from stack.core.tcp_states import TCP_LISTEN
from stack.core.wait import wait_queue_head, wake_up_poll

if TYPE_CHECKING:
    from stack.core.sockaddr import sockaddr_un
    from stack.core.workqueue import work_struct

UNIX_PATH_MAX = 108  # sizeof(sun_path)
FAMILY_BYTES = 2  # offsetof(struct sockaddr_un, sun_path)


@state
class unix_skb_parms:
    """struct unix_skb_parms, `skb.cb` of a message that has credentials or descriptors.

    pid 0: the sender's credentials were not noted. What a reader has taken of a stream's message
    is `skb.seq` (UNIXCB(skb).consumed), since nearly every message has nothing but that.
    """

    pid: int = row(0)
    uid: int = row(NO_ID)
    gid: int = row(NO_ID)
    fp: scm_fp_list | None = row()


def UNIXCB(skb: sk_buff) -> unix_skb_parms:
    """include/net/af_unix.h: the message's notes, made when there are none."""
    parms = skb.cb
    if parms.__class__ is not unix_skb_parms:
        parms = skb.cb = unix_skb_parms()
    return parms


def unix_skb_len(skb: sk_buff) -> int:
    """net/unix/af_unix.c: what is left of a stream's message."""
    return skb.len - skb.seq


@state
class unix_sock(sock):
    """struct unix_sock."""

    addr: sockaddr_un | None = row(None, clone=FRESH)
    """The name; a path as it was given."""
    path: bytes = row(b"", clone=FRESH)
    """The entry of the net's name space that leads here, as `unix_path` writes it."""
    peer: unix_sock | None = row(None, clone=FRESH)
    """What `unix_peer` tells."""
    oob_skb: sk_buff | None = row(None, clone=FRESH)
    """The message of one byte that was sent with MSG_OOB and not read."""
    vertex: unix_vertex | None = row(None, clone=FRESH)
    """Its place in the collector's graph while descriptors of it are in messages."""
    listener: unix_sock | None = row(None, clone=FRESH)
    """Who would accept it, while nobody has."""

    sk_peer_pid: int = row(0, clone=FRESH)
    sk_peer_uid: int = row(NO_ID, clone=FRESH)
    sk_peer_gid: int = row(NO_ID, clone=FRESH)

    peer_wait: wait_queue_head = row(of=lambda sk: wait_queue_head(sk.net.wake_clock), clone=FRESH)
    """Who waits for room in its receive queue."""
    peer_sleepers: int = row(0, clone=FRESH)
    peer_wake: unix_peer_wake | None = row(None, clone=FRESH)
    """How it hears of room in its peer's."""


@state
class unix_edge:
    """struct unix_edge: a message with a descriptor of `predecessor` waits for `successor`."""

    predecessor: unix_sock
    successor: unix_sock


@state
class unix_vertex:
    """struct unix_vertex: a socket whose descriptors are in messages, and the graph's numbers."""

    sk: unix_sock
    edges: list[unix_edge] = row(make=list)
    index: int = row(0)
    """When the collector came to it: 0 is not yet, -1 says that its component is known."""
    scc_index: int = row(0)
    """The lowest index that can be reached; at last the number of its component."""
    next_edge: int = row(0)
    """Where among its edges the collector is."""


@state
class unix_peer_wake:
    """u->peer_wake: an entry in `other`'s `peer_wait` by which `sk` hears of room there."""

    sk: unix_sock
    other: unix_sock

    def relay(self) -> None:
        """net/unix/af_unix.c (unix_dgram_peer_wake_relay): once, then who waits on `sk` looks."""
        sk = self.sk
        self.other.peer_wait.remove(self.relay)
        if sk.peer_wake is self:
            sk.peer_wake = None
        wake_up_poll(sk.sk_wq, KEY_OUT)


@state
class netns_unix:
    """struct netns_unix and what the kernel has once: names, sockets, descriptors in messages."""

    sockets: dict[int, unix_sock] = row(make=dict)
    """All of them, by sk_cookie; /proc/net/unix."""
    abstract: dict[tuple[int, bytes], unix_sock] = row(make=dict)
    """Abstract names. Each type of socket has its own, as the kernel's hash has it."""
    paths: dict[bytes, unix_sock | None] = row(make=dict)
    """Names in the name space of files; None when the socket is closed and the name stays."""
    folders: dict[bytes, int] = row(make=dict)
    """How many names lie in and below each folder."""
    vertices: dict[int, unix_vertex] = row(make=dict)
    """The sockets whose descriptors are in messages, by sk_cookie."""
    user_inflight: int = row(0)
    """Descriptors in messages, of sockets of any family (user_struct.unix_inflight)."""
    graph_maybe_cyclic: bool = row(False)
    """There may be something to collect (unix_graph_state is not UNIX_GRAPH_NOT_CYCLIC)."""
    graph_cyclic_sccs: int = row(0)
    """Components with a circle that were alive when the collector ran last."""
    gc_work: work_struct = row()


def unix_peer(sk: unix_sock) -> unix_sock | None:
    """include/net/af_unix.h"""
    return sk.peer


def unix_writable(sk: unix_sock) -> bool:
    """net/unix/af_unix.c: at most a quarter of the send buffer is with receivers."""
    return sk.sk_state != TCP_LISTEN and (sk.sk_wmem_alloc + 1) << 2 <= sk.sk_sndbuf


def unix_recvq_full(sk: unix_sock) -> bool:
    """net/unix/af_unix.c: more messages (or connections) wait than the backlog lets."""
    return sk.sk_receive_queue.qlen > sk.sk_max_ack_backlog


unix_recvq_full_lockless = unix_recvq_full


def unix_may_send(sk: unix_sock, other: unix_sock) -> bool:
    """net/unix/af_unix.c: `other` has no peer, or `sk` is it."""
    return other.peer is None or other.peer is sk
