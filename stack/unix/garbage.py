"""Garbage collection of descriptors in messages (net/unix/garbage.c, as of Linux 6.10).

A socket whose descriptor is in a message is a vertex of a graph. The message is an edge to the
socket that would receive it. Sockets that are only referred to by messages in each other's queues
form a strongly connected component without edges to other vertices. `unix_gc` finds such components
by Tarjan's algorithm and frees their queues, with plain messages too. It runs as work in process
context, queued when a socket ends.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_SOCKET_CLOSE, kfree_skb_reason
from stack.core.file import struct_file
from stack.core.scm import SCM_MAX_FD, scm_fp_list
from stack.core.tcp_states import TCP_LISTEN
from stack.core.uapi import AF_UNIX
from stack.core.workqueue import cancel_delayed_work, schedule_work
from stack.net import Net
from stack.unix.unix_sock import netns_unix, unix_edge, unix_skb_parms, unix_sock, unix_vertex

UNIX_INFLIGHT_SANE_USER = SCM_MAX_FD * 8
"""With more descriptors in messages, senders of further ones wait for the collector."""

UNIX_VERTEX_UNVISITED = 0
UNIX_VERTEX_GROUPED = -1
UNIX_VERTEX_INDEX_START = 1


def unix_get_socket(file: struct_file) -> unix_sock | None:
    """net/unix/garbage.c: the AF_UNIX sock behind an open file, if it is one."""
    sock = file.sock
    if sock is None or sock.ops is None or sock.ops.family != AF_UNIX:
        return None
    sk: unix_sock = sock.sk
    return sk


# --- the graph -----------------------------------------------------------------------------


def unix_edge_successor(edge: unix_edge) -> unix_vertex | None:
    """net/unix/garbage.c: the receiver's vertex; its listener's until it is accepted."""
    receiver: unix_sock = edge.successor
    listener: unix_sock | None = receiver.listener
    return receiver.vertex if listener is None else listener.vertex


def unix_update_graph(net: Net, vertex: unix_vertex | None) -> None:
    """net/unix/garbage.c: an edge to a socket that is itself in a message may close a cycle."""
    if vertex is not None:
        unx: netns_unix = net.unx
        unx.graph_maybe_cyclic = True


def unix_add_edges(net: Net, fpl: scm_fp_list, receiver: unix_sock) -> None:
    """net/unix/garbage.c: add the edges of a message with these files, queued for `receiver`."""
    unx: netns_unix = net.unx
    for file in fpl.fp:
        sk: unix_sock | None = unix_get_socket(file)
        if sk is None:
            continue
        vertex: unix_vertex | None = sk.vertex
        if vertex is None:
            vertex = sk.vertex = unix_vertex(sk)
            unx.vertices[sk.sk_cookie] = vertex
        edge = unix_edge(sk, receiver)
        vertex.edges.append(edge)
        fpl.edges.append(edge)
        unix_update_graph(net, unix_edge_successor(edge))
    unx.user_inflight += len(fpl.fp)
    fpl.inflight = True


def unix_del_edges(net: Net, fpl: scm_fp_list) -> None:
    """net/unix/garbage.c: remove the edges of a message that was received or freed."""
    unx: netns_unix = net.unx
    edge: unix_edge
    for edge in fpl.edges:
        if not fpl.dead:
            unix_update_graph(net, unix_edge_successor(edge))
        sk: unix_sock = edge.predecessor
        vertex: unix_vertex | None = sk.vertex
        if vertex is None:
            continue
        edges = vertex.edges
        for at in range(len(edges)):  # messages are received in order, so it is near the front
            if edges[at] is edge:
                del edges[at]
                break
        if not edges:
            sk.vertex = None
            del unx.vertices[sk.sk_cookie]
    fpl.edges.clear()
    unx.user_inflight -= len(fpl.fp)
    fpl.inflight = False


def unix_update_edges(receiver: unix_sock) -> None:
    """net/unix/garbage.c: `receiver` is accepted: its edges no longer lead to its listener."""
    listener: unix_sock | None = receiver.listener
    if listener is not None:
        unix_update_graph(receiver.net, listener.vertex)
        receiver.listener = None


# --- the collector -------------------------------------------------------------------------


def unix_vertex_dead(vertex: unix_vertex) -> bool:
    """net/unix/garbage.c: whether only messages in queues of its own component hold the socket."""
    for edge in vertex.edges:
        successor: unix_vertex | None = unix_edge_successor(edge)
        if successor is None or successor.scc_index != vertex.scc_index:
            return False
    sk: unix_sock = vertex.sk
    sock = sk.sk_socket
    file = sock.file if sock is not None else None
    return file is not None and file.f_count == len(vertex.edges)


def unix_scc_cyclic(scc: list[unix_vertex]) -> bool:
    """net/unix/garbage.c: whether the component has a cycle, and so may become dead later."""
    cyclic = len(scc) > 1
    vertex: unix_vertex = scc[0]
    for edge in vertex.edges:
        cyclic = cyclic or unix_edge_successor(edge) is vertex
    return cyclic


def unix_collect_queue(sk: unix_sock, hitlist: list[sk_buff]) -> None:
    """Move all messages that wait for `sk` to the hitlist."""
    queue: sk_buff_head = sk.sk_receive_queue
    sk.oob_skb = None
    while True:
        skb: sk_buff | None = queue.dequeue()
        if skb is None:
            return
        hitlist.append(skb)


def unix_collect_skb(scc: list[unix_vertex], hitlist: list[sk_buff]) -> None:
    """net/unix/garbage.c: collect the component's messages; a listener's are in its embryos."""
    for vertex in scc:
        sk: unix_sock = vertex.sk
        if sk.sk_state != TCP_LISTEN:
            unix_collect_queue(sk, hitlist)
            continue
        for skb in sk.sk_receive_queue:
            embryo: unix_sock = skb.sk  # type: ignore[assignment]  # who connects
            unix_collect_queue(embryo, hitlist)


def unix_visit(vertex: unix_vertex, index: int) -> None:
    """Number a vertex when __unix_walk_scc reaches it."""
    vertex.index = vertex.scc_index = index
    vertex.next_edge = 0


def __unix_walk_scc(first: unix_vertex, last_index: int, hitlist: list[sk_buff]) -> int:
    """net/unix/garbage.c: Tarjan's algorithm from `first`; how many living components are cyclic.

    `last_index` numbers the vertices on the way.
    """
    cyclic_sccs = 0
    vertex_stack: list[unix_vertex] = [first]
    path: list[unix_vertex] = [first]
    unix_visit(first, last_index)
    while path:
        vertex: unix_vertex = path[len(path) - 1]
        if vertex.next_edge < len(vertex.edges):
            edge: unix_edge = vertex.edges[vertex.next_edge]
            vertex.next_edge += 1
            successor: unix_vertex | None = unix_edge_successor(edge)
            if successor is None:
                continue
            if successor.index == UNIX_VERTEX_UNVISITED:
                last_index += 1
                unix_visit(successor, last_index)
                vertex_stack.append(successor)
                path.append(successor)
            elif successor.index != UNIX_VERTEX_GROUPED and successor.index < vertex.scc_index:
                vertex.scc_index = successor.index
            continue
        path.pop()
        if path:
            parent: unix_vertex = path[len(path) - 1]
            if vertex.scc_index < parent.scc_index:
                parent.scc_index = vertex.scc_index
        if vertex.index != vertex.scc_index:
            continue
        scc: list[unix_vertex] = []
        while True:
            member: unix_vertex = vertex_stack.pop()
            scc.append(member)
            member.index = UNIX_VERTEX_GROUPED
            member.scc_index = vertex.scc_index
            if member is vertex:
                break
        if all(map(unix_vertex_dead, scc)):  # no program can receive its descriptors
            unix_collect_skb(scc, hitlist)
        elif unix_scc_cyclic(scc):
            cyclic_sccs += 1
    return cyclic_sccs


def unix_walk_scc(unx: netns_unix) -> list[sk_buff]:
    """net/unix/garbage.c: find the dead components; returns their messages."""
    hitlist: list[sk_buff] = []
    vertex: unix_vertex
    vertices = list(unx.vertices.values())
    for vertex in vertices:
        vertex.index = UNIX_VERTEX_UNVISITED
    cyclic_sccs = 0
    last_index = UNIX_VERTEX_INDEX_START
    for vertex in vertices:
        if vertex.index == UNIX_VERTEX_UNVISITED:
            cyclic_sccs += __unix_walk_scc(vertex, last_index, hitlist)
            last_index += len(vertices)
    unx.graph_cyclic_sccs = cyclic_sccs
    unx.graph_maybe_cyclic = bool(cyclic_sccs)
    return hitlist


def unix_gc(net: Net) -> None:
    """net/unix/garbage.c: free messages that can no longer be received."""
    unx: netns_unix = net.unx
    if not unx.graph_maybe_cyclic:
        return
    hitlist = unix_walk_scc(unx)
    for skb in hitlist:
        parms = skb.cb
        if parms.__class__ is unix_skb_parms and parms.fp is not None:
            parms.fp.dead = True
    for skb in hitlist:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_SOCKET_CLOSE)


def unix_schedule_gc(net: Net, sending: bool) -> None:
    """net/unix/garbage.c: schedule the collector, if there may be something to collect.

    When `sending`, only if too many descriptors are in messages. Then it runs at once, if the last
    run found cycles.
    """
    unx: netns_unix = net.unx
    if not unx.graph_maybe_cyclic:
        return
    if sending and unx.user_inflight < UNIX_INFLIGHT_SANE_USER:
        return
    if sending and unx.graph_cyclic_sccs:
        cancel_delayed_work(unx.gc_work)
        unix_gc(net)
    else:
        schedule_work(unx.gc_work)
