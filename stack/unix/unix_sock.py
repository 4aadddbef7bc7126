"""AF_UNIX's state: struct unix_sock, metadata of messages, the names of a net (net/af_unix.h).

A host has no processes. Its programs appear as one process with pid 1, and with the user and group
of their namespace (`Net.uid`, `Net.gid`).
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.rows import FRESH, row, state
from stack.core.scm import NO_ID, scm_fp_list
from stack.core.sock import KEY_OUT, sock
from stack.core.sockaddr import sockaddr_un
from stack.core.tcp_states import TCP_LISTEN
from stack.core.wait import wait_queue_head, wake_up_poll
from stack.core.workqueue import work_struct

UNIX_PATH_MAX = 108  # sizeof(sun_path)


@state
class unix_skb_parms:
    """struct unix_skb_parms, `skb.cb` of a message that has credentials or descriptors.

    pid 0: the sender's credentials are not stored. The bytes read of a stream's message are in
    `skb.seq` (UNIXCB(skb).consumed), so that most messages need no unix_skb_parms.
    """

    pid: int = row(0)
    uid: int = row(NO_ID)
    gid: int = row(NO_ID)
    fp: scm_fp_list | None = row()


def UNIXCB(skb: sk_buff) -> unix_skb_parms:
    """include/net/af_unix.h: the message's unix_skb_parms, made when it has none."""
    parms = skb.cb
    if parms.__class__ is not unix_skb_parms:
        parms = skb.cb = unix_skb_parms()
    return parms


def unix_skb_len(skb: sk_buff) -> int:
    """net/unix/af_unix.c: the unread bytes of a stream's message."""
    return skb.len - skb.seq


@state
class unix_sock(sock):
    """struct unix_sock."""

    addr: sockaddr_un | None = row(None, clone=FRESH)
    """The name; a path is as it was given to bind."""
    path: bytes = row(b"", clone=FRESH)
    """The socket's entry in the net's name space, normalized by `unix_path`."""
    peer: unix_sock | None = row(None, clone=FRESH)
    """The result of `unix_peer`."""
    oob_skb: sk_buff | None = row(None, clone=FRESH)
    """The message with the unread byte that was sent with MSG_OOB."""
    vertex: unix_vertex | None = row(None, clone=FRESH)
    """The socket's vertex in the collector's graph, while its descriptors are in messages."""
    listener: unix_sock | None = row(None, clone=FRESH)
    """The listener that has it in its queue, until it is accepted."""

    sk_peer_pid: int = row(0, clone=FRESH)
    sk_peer_uid: int = row(NO_ID, clone=FRESH)
    sk_peer_gid: int = row(NO_ID, clone=FRESH)

    peer_wait: wait_queue_head = row(of=lambda sk: wait_queue_head(sk.net.wake_clock), clone=FRESH)
    """The senders that wait for room in the receive queue."""
    peer_sleepers: int = row(0, clone=FRESH)
    peer_wake: unix_peer_wake | None = row(None, clone=FRESH)
    """The entry that wakes this socket when its peer's queue has room."""


@state
class unix_edge:
    """struct unix_edge: a message in `successor`'s queue has a descriptor of `predecessor`."""

    predecessor: unix_sock
    successor: unix_sock


@state
class unix_vertex:
    """struct unix_vertex: a socket whose descriptors are in messages, for Tarjan's algorithm."""

    sk: unix_sock
    edges: list[unix_edge] = row(make=list)
    index: int = row(0)
    """Its place in the collector's order of visits; 0: not yet, -1: its component is known."""
    scc_index: int = row(0)
    """The lowest index that can be reached; in the end the number of its component."""
    next_edge: int = row(0)
    """The index of the edge that the collector follows next."""


@state
class unix_peer_wake:
    """u->peer_wake: an entry of `other`'s `peer_wait` that wakes `sk` when `other` has room."""

    sk: unix_sock
    other: unix_sock

    def relay(self) -> None:
        """net/unix/af_unix.c (unix_dgram_peer_wake_relay): wake those that wait on `sk`, once."""
        sk = self.sk
        self.other.peer_wait.remove(self.relay)
        if sk.peer_wake is self:
            sk.peer_wake = None
        wake_up_poll(sk.sk_wq, KEY_OUT)


@state
class netns_unix:
    """struct netns_unix, and the kernel's globals: names, sockets, descriptors in messages."""

    sockets: dict[int, unix_sock] = row(make=dict)
    """All sockets, by sk_cookie; for /proc/net/unix."""
    abstract: dict[tuple[int, bytes], unix_sock] = row(make=dict)
    """Abstract names by (socket type, name), as in the kernel's hash."""
    paths: dict[bytes, unix_sock | None] = row(make=dict)
    """Names in the name space of files; None: the socket is closed, but its name remains."""
    folders: dict[bytes, int] = row(make=dict)
    """The number of names in and below each folder."""
    vertices: dict[int, unix_vertex] = row(make=dict)
    """The sockets whose descriptors are in messages, by sk_cookie."""
    user_inflight: int = row(0)
    """Descriptors in messages, of sockets of any family (user_struct.unix_inflight)."""
    graph_maybe_cyclic: bool = row(False)
    """There may be something to collect (unix_graph_state is not UNIX_GRAPH_NOT_CYCLIC)."""
    graph_cyclic_sccs: int = row(0)
    """Living components with a cycle, as of the collector's last run."""
    gc_work: work_struct = row()


def unix_writable(sk: unix_sock) -> bool:
    """net/unix/af_unix.c: whether at most a quarter of the send buffer is in use."""
    return sk.sk_state != TCP_LISTEN and (sk.sk_wmem_alloc + 1) << 2 <= sk.sk_sndbuf


def unix_recvq_full(sk: unix_sock) -> bool:
    """net/unix/af_unix.c: whether more messages (or connections) wait than the backlog allows."""
    return sk.sk_receive_queue.qlen > sk.sk_max_ack_backlog


def unix_may_send(sk: unix_sock, other: unix_sock) -> bool:
    """net/unix/af_unix.c: whether `other` has no peer, or has `sk` as its peer."""
    return other.peer is None or other.peer is sk
