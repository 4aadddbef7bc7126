"""Netfilter's hook points and verdicts (include/linux/netfilter.h, net/netfilter/core.c).

`net.nf_hooks[NF_INET_*]`, for IPv6 `net.ipv6.nf_hooks[...]`, is a list of `nf_hook_ops` in order of
priority; an empty list costs one test. A hook is `hook(skb, state) -> verdict`. A packet that a
hook queues (NF_QUEUE) continues by `nf_reinject` behind that hook: stack/core/nf_queue.py.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from fastpath.base.skbuff import sk_buff
from stack.core.drop_reason import SKB_DROP_REASON_NETFILTER_DROP, kfree_skb_reason
from stack.core.netdevice import net_device
from stack.core.rows import row, state
from stack.core.sock import sock
from stack.core.softirq import raise_later
from stack.net import Net

NF_INET_PRE_ROUTING = 0
NF_INET_LOCAL_IN = 1
NF_INET_FORWARD = 2
NF_INET_LOCAL_OUT = 3
NF_INET_POST_ROUTING = 4
NF_INET_NUMHOOKS = 5

NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10

# include/uapi/linux/netfilter.h: the low byte of a verdict; above it a queue's number or an errno
NF_DROP = 0
NF_ACCEPT = 1
NF_STOLEN = 2
NF_QUEUE = 3
NF_REPEAT = 4
NF_STOP = 5
NF_MAX_VERDICT = NF_STOP
NF_VERDICT_MASK = 0x000000FF
NF_VERDICT_FLAG_QUEUE_BYPASS = 0x00008000
NF_VERDICT_QMASK = 0xFFFF0000
NF_VERDICT_QBITS = 16

# include/uapi/linux/netfilter_ipv4.h, netfilter_ipv6.h: priorities
NF_IP_PRI_FIRST = -0x80000000
NF_IP_PRI_RAW_BEFORE_DEFRAG = -450
NF_IP_PRI_CONNTRACK_DEFRAG = -400
NF_IP_PRI_RAW = -300
NF_IP_PRI_SELINUX_FIRST = -225
NF_IP_PRI_CONNTRACK = -200
NF_IP_PRI_MANGLE = -150
NF_IP_PRI_NAT_DST = -100
NF_IP_PRI_FILTER = 0
NF_IP_PRI_SECURITY = 50
NF_IP_PRI_NAT_SRC = 100
NF_IP_PRI_SELINUX_LAST = 225
NF_IP_PRI_CONNTRACK_HELPER = 300
NF_IP_PRI_CONNTRACK_CONFIRM = 0x7FFFFFFF
NF_IP_PRI_LAST = 0x7FFFFFFF

NF_REPEAT_MAX = 1000
"""A packet is dropped after this many NF_REPEAT, because hooks might never finish."""


def NF_DROP_ERR(err: int) -> int:
    """include/uapi/linux/netfilter.h: drop, and return `err`, a negative errno, to the sender."""
    return -err << 16 | NF_DROP


def NF_DROP_GETERR(verdict: int) -> int:
    """include/uapi/linux/netfilter.h: the negative errno of a verdict, 0 without one."""
    return -(verdict >> NF_VERDICT_QBITS)


def NF_QUEUE_NR(number: int) -> int:
    """include/uapi/linux/netfilter.h: pass the packet to the listener of queue `number`."""
    return number << NF_VERDICT_QBITS & NF_VERDICT_QMASK | NF_QUEUE


Okfn = Callable[[Any, Any, Any], int]
"""`okfn(net, sk, skb)`: continues with a packet after the hooks. Takes ownership of skb."""


@state
class nf_hook_state:
    """struct nf_hook_state: the context of a packet when a hook is called.

    `sk` is the sender's, None for a received packet. `okfn(net, sk, skb)` follows the last hook.
    """

    hook: int
    net: Net
    sk: sock | None
    indev: net_device | None
    outdev: net_device | None
    pf: int
    okfn: Okfn
    entries: list[nf_hook_ops]
    index: int = row(0)
    """The index in `entries` of the hook being called."""


Hook = Callable[[Any, nf_hook_state], int]


@state
class nf_hook_ops:
    """struct nf_hook_ops: a registered hook. They run by priority, the newest first of equals."""

    hook: Hook
    pf: int
    hooknum: int
    priority: int


def new_nf_hooks() -> list[list[nf_hook_ops]]:
    """Empty hook lists of one family of a namespace."""
    return [[] for _ in range(NF_INET_NUMHOOKS)]


def _hooks_of(net: Net, pf: int) -> list[list[nf_hook_ops]]:
    return net.ipv6.nf_hooks if pf == NFPROTO_IPV6 else net.nf_hooks


def nf_register_net_hook(
    net: Net, hook: int, fn: Hook, pf: int = NFPROTO_IPV4, priority: int = NF_IP_PRI_FILTER
) -> nf_hook_ops:
    """net/netfilter/core.c: call `fn(skb, state)` for the packets at a hook point of a family.

    Lower priorities come first, and of equal ones the newest (nf_hook_entries_grow). A packet
    between two hooks does not pass the new one.

    Raises: ValueError: there is no such hook point or family.
    """
    if not 0 <= hook < NF_INET_NUMHOOKS:
        raise ValueError(f"hook point {hook}: they are 0 (PRE_ROUTING) to 4 (POST_ROUTING)")
    if pf not in (NFPROTO_IPV4, NFPROTO_IPV6):
        raise ValueError(f"family {pf}: it is NFPROTO_IPV4 (2) or NFPROTO_IPV6 (10)")
    ops = nf_hook_ops(fn, pf, hook, priority)
    lists = _hooks_of(net, pf)
    entries = lists[hook]
    at = len(entries)
    while at and entries[at - 1].priority >= priority:
        at -= 1
    lists[hook] = [*entries[:at], ops, *entries[at:]]  # nf_hook_slow may be in the old list
    return ops


def nf_unregister_net_hook(net: Net, hook: int, fn: Hook, pf: int = NFPROTO_IPV4) -> None:
    """net/netfilter/core.c: remove a hook; no error when absent.

    The packets in queues of programs are dropped (nf_queue_nf_hook_drop), and one that a handler
    of Python has at its verdict.
    """
    lists = _hooks_of(net, pf)
    for i, ops in enumerate(lists[hook]):
        if ops.hook == fn:
            lists[hook] = [*lists[hook][:i], *lists[hook][i + 1 :]]
            if net.nf_queue.nf_hook_drop is not None:
                net.nf_queue.nf_hook_drop()
            return


def nf_hook_slow(skb: sk_buff, state: nf_hook_state, s: int) -> int:
    """net/netfilter/core.c: call `state.entries` from `s` on.

    Returns 1 when the packet may continue. Otherwise it is consumed: 0, or a drop's negative errno
    (-EPERM unless the verdict has another).
    """
    entries = state.entries
    repeats = 0
    ops: nf_hook_ops
    while s < len(entries):
        ops = entries[s]
        state.index = s
        verdict = ops.hook(skb, state)
        kind = verdict & NF_VERDICT_MASK
        if kind == NF_ACCEPT:
            s += 1
            continue
        if kind == NF_REPEAT and repeats < NF_REPEAT_MAX:
            repeats += 1
            continue
        if kind == NF_STOLEN:
            return NF_DROP_GETERR(verdict)
        if kind == NF_STOP:
            return 1
        if kind == NF_QUEUE:
            if state.net.nf_queue.take(skb, state, verdict):
                s += 1
                continue
            return 0
        kfree_skb_reason(state.net, skb, SKB_DROP_REASON_NETFILTER_DROP)
        if kind > NF_MAX_VERDICT:
            raise ValueError(f"{ops.hook!r} returned {verdict:#x}, which is no verdict (NF_*)")
        ret = NF_DROP_GETERR(verdict) if kind == NF_DROP else 0
        return ret if ret < 0 else -errno.EPERM
    return 1


def nf_hook_list(
    entries: list[nf_hook_ops],
    pf: int,
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
    okfn: Okfn,
) -> int:
    """include/linux/netfilter.h (in nf_hook): call these hooks. 1 = the caller calls `okfn`.

    Otherwise the packet is consumed: 0, or a negative errno.
    """
    return nf_hook_slow(skb, nf_hook_state(hook, net, sk, indev, outdev, pf, okfn, entries), 0)


def nf_hook_each(
    entries: list[nf_hook_ops],
    pf: int,
    hook: int,
    net: Net,
    sk: sock | None,
    skbs: list[sk_buff],
    indev: net_device | None,
    outdev: net_device | None,
    okfn: Okfn,
) -> list[sk_buff]:
    """include/linux/netfilter.h NF_HOOK_LIST: call the hooks for each packet.

    Returns the packets that may continue; takes ownership of the others.
    """
    passed: list[sk_buff] = []
    for skb in skbs:
        try:
            if nf_hook_list(entries, pf, hook, net, sk, skb, indev, outdev, okfn) == 1:
                passed.append(skb)
        except BaseException as wrong:
            raise_later(net.machine, wrong)
    return passed


def nf_hook(
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
    okfn: Okfn,
) -> int:
    """include/linux/netfilter.h: call IPv4's hooks, as nf_hook_list does."""
    entries = net.nf_hooks[hook]
    return nf_hook_list(entries, NFPROTO_IPV4, hook, net, sk, skb, indev, outdev, okfn)


def nf_hook6(
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
    okfn: Okfn,
) -> int:
    """include/linux/netfilter.h: call IPv6's hooks, as nf_hook_list does."""
    entries = net.ipv6.nf_hooks[hook]
    return nf_hook_list(entries, NFPROTO_IPV6, hook, net, sk, skb, indev, outdev, okfn)
