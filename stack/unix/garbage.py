"""Descriptors that nobody can reach any more (net/unix/garbage.c, as of Linux 6.9).

A socket whose only holders are messages in queues that are read through sockets of that kind alone
cannot be received by anybody. The collector finds such circles and frees the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.skbuff import kfree_skb, sk_buff
from stack.core.tcp_states import TCP_LISTEN
from stack.unix.unix_scm import unix_get_socket
from stack.unix.unix_sock import unix_skb_parms, unix_sock

if TYPE_CHECKING:
    from stack.core.scm import scm_fp_list
    from stack.net import Net
    from stack.unix.unix_sock import netns_unix

UNIX_INFLIGHT_TRIGGER_GC = 16000


def wait_for_unix_gc(net: Net) -> None:
    """net/unix/garbage.c: too much is on its way: look whether it can be freed."""
    if net.unx.tot_inflight > UNIX_INFLIGHT_TRIGGER_GC:
        unix_gc(net)


def scan_messages(sk: unix_sock) -> list[sk_buff]:
    """net/unix/garbage.c (scan_inflight): the messages with descriptors that wait for `sk`."""
    found: list[sk_buff] = []
    for skb in sk.sk_receive_queue:
        parms = skb.cb
        if parms.__class__ is unix_skb_parms and parms.fp is not None:
            found.append(skb)
    return found


def scan_children(sk: unix_sock) -> list[sk_buff]:
    """net/unix/garbage.c: the same, and for a listener what waits for its connections."""
    if sk.sk_state != TCP_LISTEN:
        return scan_messages(sk)
    found: list[sk_buff] = []
    for skb in sk.sk_receive_queue:
        embryo: unix_sock = skb.sk  # type: ignore[assignment]  # who connects
        found += scan_messages(embryo)
    return found


def in_message(skb: sk_buff) -> list[unix_sock]:
    """The AF_UNIX sockets whose descriptors a message carries."""
    parms: unix_skb_parms = skb.cb
    fpl: scm_fp_list | None = parms.fp
    found: list[unix_sock] = []
    if fpl is not None:
        for file in fpl.fp:
            sk = unix_get_socket(file)
            if sk is not None:
                found.append(sk)
    return found


def unix_gc(net: Net) -> None:
    """net/unix/garbage.c: free the messages of which nobody can receive the descriptors."""
    unx: netns_unix = net.unx
    if not unx.tot_inflight:
        unx.gc_maybe_cyclic = False
    if unx.gc_in_progress or not unx.gc_maybe_cyclic:
        return
    unx.gc_in_progress = True
    try:
        hitlist = unix_garbage(unx)
        for skb in hitlist:
            queue = skb.list
            if queue is not None:
                queue.unlink(skb)
                kfree_skb(skb)
    finally:
        unx.gc_in_progress = False


def unix_garbage(unx: netns_unix) -> list[sk_buff]:
    """The messages in circles. Candidates are the sockets that only messages hold.

    References from candidates to candidates are taken away; who has one left is reachable from
    outside, and so is what can be received through it.
    """
    left: dict[int, int] = {}
    candidates: dict[int, unix_sock] = {}
    for cookie, sk in unx.gc_inflight.items():
        sock = sk.sk_socket
        file = sock.file if sock is not None else None
        if file is not None and file.f_count == sk.inflight:
            candidates[cookie] = sk
            left[cookie] = sk.inflight
    if not candidates:
        return []
    messages = {cookie: scan_children(sk) for cookie, sk in candidates.items()}
    for mine in messages.values():
        for skb in mine:
            for child in in_message(skb):
                if child.sk_cookie in left:
                    left[child.sk_cookie] -= 1
    reachable = [cookie for cookie, count in left.items() if count]
    while reachable:
        cookie = reachable.pop()
        if cookie not in candidates:
            continue
        del candidates[cookie]
        for skb in messages[cookie]:
            reachable += [child.sk_cookie for child in in_message(skb)]
    return [skb for cookie in candidates for skb in messages[cookie] if in_message(skb)]
