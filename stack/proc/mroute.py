"""/proc/net/ip_mr_vif, ip_mr_cache, ip6_mr_vif, ip6_mr_cache: multicast routing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stack.inet.ipmr_base import NEVER, mr_mfc, mr_table, mr_unresolved, vif_device
from stack.net import Net
from stack.proc.text import full6, le_word, text

VIFS = "Interface      BytesIn  PktsIn  BytesOut PktsOut Flags"


def ip_mr_vif(net: Net) -> str:
    """net/ipv4/ipmr.c ipmr_vif_seq_show: the interfaces and their counters."""
    return _vifs(net.ipv4.mrt, " Local    Remote", _ends)


def ip6_mr_vif(net: Net) -> str:
    """net/ipv6/ip6mr.c ip6mr_vif_seq_show: the same without addresses."""
    return _vifs(net.ipv6.mrt, "", lambda vif: "")


def ip_mr_cache(net: Net) -> str:
    """net/ipv4/ipmr.c ipmr_mfc_seq_show: the routes, and unresolved ones."""
    head = "Group    Origin   Iif     Pkts    Bytes    Wrong Oifs"
    return _cache(net.ipv4.mrt, head, le_word)


def ip6_mr_cache(net: Net) -> str:
    """net/ipv6/ip6mr.c ipmr_mfc_seq_show."""
    blank = " " * 32
    head = f"Group{blank[5:]} Origin{blank[6:]} Iif      Pkts  Bytes     Wrong  Oifs"
    return _cache(net.ipv6.mrt, head, full6)


def _ends(vif: vif_device) -> str:
    return f" {le_word(vif.local)} {le_word(vif.remote)}"


def _vifs(mrt: mr_table | None, more: str, ends: Callable[[vif_device], str]) -> str:
    lines = [VIFS + more]
    for at, vif in enumerate(mrt.vif_table if mrt is not None else ()):
        if vif.dev is not None:
            lines.append(
                f"{at:2d} {vif.dev.name:<10} {vif.bytes_in:8d} {vif.pkt_in:7d}  {vif.bytes_out:8d} "
                f"{vif.pkt_out:7d} {vif.flags:05X}{ends(vif)}"
            )
    return text(lines)


def _cache(mrt: mr_table | None, head: str, addr: Callable[[Any], str]) -> str:
    lines = [head]
    if mrt is None:
        return text(lines)
    for found in mrt.mfc_hash.values():
        for c in found:
            counts = f" {c.pkt:8d} {c.bytes:8d} {c.wrong_if:8d}"
            lines.append(_route(c, addr) + counts + _ways(mrt, c))
    for c in mr_unresolved(mrt):
        lines.append(_route(c, addr) + f" {0:8d} {0:8d} {0:8d}")
    return text(lines)


def _route(c: mr_mfc, addr: Callable[[Any], str]) -> str:
    return f"{addr(c.group)} {addr(c.origin)} {c.mfc_parent:<3d}"


def _ways(mrt: mr_table, c: mr_mfc) -> str:
    return "".join(
        f" {at:2d}:{c.ttls[at]:<3d}"
        for at in range(c.minvif, c.maxvif)
        if mrt.vif_table[at].dev is not None and c.ttls[at] < NEVER
    )
