"""Netfilter's hook points (include/linux/netfilter.h, net/netfilter/core.c).

`net.nf_hooks[NF_INET_*]`, for IPv6 `net.ipv6.nf_hooks[...]`, is a list of
`hook(skb, state) -> verdict`; an empty list costs one test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stack.core.drop_reason import SKB_DROP_REASON_NETFILTER_DROP, kfree_skb_reason
from stack.core.rows import state

if TYPE_CHECKING:
    from fastpath.skbuff import sk_buff
    from stack.core.netdevice import net_device
    from stack.core.sock import sock
    from stack.net import Net

NF_INET_PRE_ROUTING = 0
NF_INET_LOCAL_IN = 1
NF_INET_FORWARD = 2
NF_INET_LOCAL_OUT = 3
NF_INET_POST_ROUTING = 4
NF_INET_NUMHOOKS = 5

NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10

NF_DROP = 0
NF_ACCEPT = 1
NF_STOLEN = 2


@state
class nf_hook_state:
    """struct nf_hook_state: where a packet is when a hook looks at it."""

    hook: int
    net: Net
    sk: sock | None
    indev: net_device | None
    outdev: net_device | None


Hook = Callable[[Any, nf_hook_state], int]


def new_nf_hooks() -> list[list[Hook]]:
    """Empty hook lists of one host."""
    return [[] for _ in range(NF_INET_NUMHOOKS)]


def _hooks_of(net: Net, pf: int) -> list[list[Hook]]:
    return net.ipv6.nf_hooks if pf == NFPROTO_IPV6 else net.nf_hooks


def nf_register_net_hook(net: Net, hook: int, fn: Hook, pf: int = NFPROTO_IPV4) -> None:
    """net/netfilter/core.c: append `fn` to a hook point of a family."""
    _hooks_of(net, pf)[hook].append(fn)


def nf_unregister_net_hook(net: Net, hook: int, fn: Hook, pf: int = NFPROTO_IPV4) -> None:
    """net/netfilter/core.c: remove it; no error when absent."""
    hooks = _hooks_of(net, pf)[hook]
    if fn in hooks:
        hooks.remove(fn)


def nf_hook_list(
    hooks: list[Hook],
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
) -> int:
    """net/netfilter/core.c nf_hook_slow: run these hooks. 1 = go on; else the packet is gone."""
    state = nf_hook_state(hook, net, sk, indev, outdev)
    for fn in tuple(hooks):
        verdict = fn(skb, state)
        if verdict == NF_DROP:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NETFILTER_DROP)
            return -1
        if verdict == NF_STOLEN:
            return 0
    return 1


def nf_hook_each(
    hooks: list[Hook],
    hook: int,
    net: Net,
    sk: sock | None,
    skbs: list[sk_buff],
    indev: net_device | None,
    outdev: net_device | None,
) -> list[sk_buff]:
    """include/linux/netfilter.h NF_HOOK_LIST: run these hooks for each packet; those that go on.

    Takes ownership of the packets that it does not return.
    """
    return [skb for skb in skbs if nf_hook_list(hooks, hook, net, sk, skb, indev, outdev) == 1]


def nf_hook(
    hook: int,
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    indev: net_device | None,
    outdev: net_device | None,
) -> int:
    """include/linux/netfilter.h: run IPv4's hooks. 1 = go on; otherwise the packet is gone."""
    return nf_hook_list(net.nf_hooks[hook], hook, net, sk, skb, indev, outdev)
