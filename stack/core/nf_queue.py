"""Packets that wait for a verdict from outside (net/netfilter/nf_queue.c).

    def judge(entry: nf_queue_entry) -> None:
        waiting.append(entry)

    nf_register_queue_handler(host, 3, judge)       # hooks return NF_QUEUE_NR(3)
    ...
    nf_reinject(waiting.pop(), NF_ACCEPT)

The listener of a queue gets an `nf_queue_entry` and answers at once or later. A queue without a
listener drops its packets, but lets them pass with NF_VERDICT_FLAG_QUEUE_BYPASS. Programs bind
queues by netlink: stack/netlink/nfnetlink_queue.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core import netfilter
from stack.core.drop_reason import SKB_DROP_REASON_NETFILTER_DROP, kfree_skb_reason
from stack.core.netfilter import nf_hook_ops, nf_hook_slow, nf_hook_state
from stack.core.rows import row, state
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.net import Net

NF_MAX_QUEUES = 65536


@state
class nf_queue_entry:
    """struct nf_queue_entry: a queued packet and its hook point. The listener owns it."""

    skb: sk_buff
    state: nf_hook_state
    queuenum: int
    ops: nf_hook_ops
    """The hook that queued the packet, which continues behind it."""
    route_key: Any = row()
    """The routing key of a LOCAL_OUT packet (nf_queue_entry_saveroute)."""
    done: bool = row(False)


QueueHandler = Callable[[nf_queue_entry], int | None]


@state
class nf_queue_net:
    """The listeners of a namespace, and each family's functions to reroute changed packets."""

    handlers: dict[int, QueueHandler] = row(make=dict)
    reroute: dict[int, Any] = row(make=dict)
    """By family: `(key(skb), route(net, sk, skb) -> error)`."""
    nf_hook_drop: Callable[[], None] | None = row()
    """Called when a hook was removed: drops what programs' queues hold."""

    def take(self, skb: sk_buff, state: nf_hook_state, verdict: int) -> bool:
        """nf_queue: pass a packet to its queue. True: no listener, and the packet may continue.

        Takes ownership of skb otherwise.
        """
        queuenum = verdict >> netfilter.NF_VERDICT_QBITS & 0xFFFF
        handler = self.handlers.get(queuenum)
        if handler is None:
            if verdict & netfilter.NF_VERDICT_FLAG_QUEUE_BYPASS:
                return True
            kfree_skb_reason(state.net, skb, SKB_DROP_REASON_NETFILTER_DROP)
            return False
        entry = nf_queue_entry(skb, state, queuenum, state.entries[state.index])
        if state.hook == netfilter.NF_INET_LOCAL_OUT and state.pf in self.reroute:
            entry.route_key = self.reroute[state.pf][0](skb)
        status = handler(entry)
        if status is not None and status < 0:
            kfree_skb_reason(state.net, skb, SKB_DROP_REASON_NETFILTER_DROP)
        return False


def nf_register_queue_handler(net: Net, queuenum: int, handler: QueueHandler) -> None:
    """Register `handler(entry)` for the packets of queue `queuenum` of the namespace.

    If the handler returns a negative errno, the packet is dropped.

    Raises: ValueError: there is no such queue, or it has a listener.
    """
    if not 0 <= queuenum < NF_MAX_QUEUES:
        raise ValueError(f"queue {queuenum}: they are 0 to {NF_MAX_QUEUES - 1}")
    if queuenum in net.nf_queue.handlers:
        raise ValueError(f"queue {queuenum} of {net.name} has a listener already")
    net.nf_queue.handlers[queuenum] = handler


def nf_unregister_queue_handler(net: Net, queuenum: int) -> None:
    """Remove a queue's listener; no error without one. It can still answer for packets it holds."""
    net.nf_queue.handlers.pop(queuenum, None)


def nf_reinject(entry: nf_queue_entry, verdict: int) -> int:
    """net/netfilter/nf_queue.c: the listener's verdict. Call with the host's lock held.

    NF_ACCEPT continues after the hook that queued the packet, NF_REPEAT with that hook, NF_STOP
    after the last one. NF_QUEUE_NR(n) queues it again; NF_STOLEN leaves it to the listener. A
    packet whose hook was removed is dropped. As on Linux, NF_ACCEPT with other bits is NF_STOP,
    and NF_REPEAT with them is NF_DROP. Returns the result of okfn, or 0.

    Raises: ValueError: no verdict, or the packet had one already.
    """
    if verdict & netfilter.NF_VERDICT_MASK > netfilter.NF_MAX_VERDICT:
        raise ValueError(f"{verdict:#x} is no verdict (NF_*)")
    if entry.done:
        raise ValueError("this packet had its verdict already")
    entry.done = True
    skb, state = entry.skb, entry.state
    net = state.net
    if verdict & netfilter.NF_VERDICT_MASK == netfilter.NF_STOLEN:
        return 0
    entries = (net.ipv6.nf_hooks if state.pf == netfilter.NFPROTO_IPV6 else net.nf_hooks)[
        state.hook
    ]
    at = next((i for i, ops in enumerate(entries) if ops is entry.ops), -1)
    if at < 0 or net.closed:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NETFILTER_DROP)
        return 0
    state.entries = entries
    state.index = at
    if verdict == netfilter.NF_REPEAT:
        verdict = entry.ops.hook(skb, state)
    if verdict == netfilter.NF_ACCEPT and not _rerouted(entry):
        verdict = netfilter.NF_DROP
    kind = verdict & netfilter.NF_VERDICT_MASK
    if kind == netfilter.NF_STOLEN:
        return 0
    if kind not in (netfilter.NF_ACCEPT, netfilter.NF_STOP, netfilter.NF_QUEUE):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NETFILTER_DROP)
        return 0
    if kind == netfilter.NF_QUEUE and not net.nf_queue.take(skb, state, verdict):
        return 0
    passes_hooks = verdict == netfilter.NF_ACCEPT or kind == netfilter.NF_QUEUE
    if passes_hooks and nf_hook_slow(skb, state, at + 1) != 1:
        return 0
    local_bh_disable(net.machine)
    try:
        return state.okfn(net, state.sk, skb)
    finally:
        local_bh_enable(net.machine)


def nf_hook_continue(skb: sk_buff, state: nf_hook_state) -> int:
    """Continue with `skb` after the running hook, in place of the hook's packet.

    A hook that reassembles fragments needs it: the whole packet is another sk_buff. The hook itself
    returns NF_STOLEN.
    """
    on = nf_hook_state(
        state.hook,
        state.net,
        state.sk,
        state.indev,
        state.outdev,
        state.pf,
        state.okfn,
        state.entries,
    )
    if nf_hook_slow(skb, on, state.index + 1) != netfilter.NF_ACCEPT:
        return 0
    return on.okfn(on.net, on.sk, skb)


def nf_queue_entry_dup(entry: nf_queue_entry, skb: sk_buff) -> nf_queue_entry:
    """net/netfilter/nfnetlink_queue.c: an entry for a segment of the packet of another one."""
    old = entry.state
    at = nf_hook_state(
        *(old.hook, old.net, old.sk, old.indev, old.outdev, old.pf, old.okfn, old.entries)
    )
    dup = nf_queue_entry(skb, at, entry.queuenum, entry.ops)
    dup.route_key = entry.route_key
    return dup


def _rerouted(entry: nf_queue_entry) -> bool:
    """nf_reroute: route the packet again if the listener changed its key. False: no route."""
    key = entry.route_key
    if key is None:
        return True
    state = entry.state
    key_of, route = state.net.nf_queue.reroute[state.pf]
    return key_of(entry.skb) == key or not route(state.net, state.sk, entry.skb)
