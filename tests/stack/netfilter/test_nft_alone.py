"""Expressions of nf_tables that are not compared with the kernel: it has no `queue` here, and nft
1.0.6 has no `last`. And what no program sees: how long connections are held for a count."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.core.netfilter import NF_QUEUE_NR, NF_VERDICT_FLAG_QUEUE_BYPASS
from stack.netfilter.nf_conncount import nf_conncount_data
from stack.netfilter.nf_conntrack import IPS_DYING
from stack.netfilter.nf_tables import nft_ctx, nft_regs
from stack.netfilter.nft_attrs import NFTA_EXPR
from stack.netfilter.nft_last import nft_last
from stack.netfilter.nft_queue import NFT_QUEUE_FLAG_BYPASS, NFT_QUEUE_FLAG_CPU_FANOUT, nft_queue
from stack.netlink.nlattr import NlError

PKT: Any = SimpleNamespace()
CTX: Any = SimpleNamespace(reg_inited=set(range(4, 20)))


class Connection:
    """What counts of an nf_conn."""

    status = 0
    tcp = None


def conn() -> Any:
    """A connection that is active until its status is IPS_DYING."""
    return Connection()


def made(**given: int) -> nft_queue:
    tb: Any = {f"NFTA_QUEUE_{name.upper()}": value for name, value in given.items()}
    ctx: nft_ctx = CTX
    return nft_queue(ctx, tb)


def verdict(expr: nft_queue, register: bytes = b"") -> int:
    regs = nft_regs()
    if register:
        regs.store(expr.sreg, register)
    expr.eval(regs, PKT)
    return regs.verdict


def test_a_number_is_the_verdicts_upper_half() -> None:
    assert verdict(made(num=7)) == NF_QUEUE_NR(7)
    bypass = made(num=7, flags=NFT_QUEUE_FLAG_BYPASS)
    assert verdict(bypass) == NF_QUEUE_NR(7) | NF_VERDICT_FLAG_QUEUE_BYPASS
    assert bypass.dump() == {
        "NFTA_QUEUE_NUM": 7,
        "NFTA_QUEUE_TOTAL": 1,
        "NFTA_QUEUE_FLAGS": NFT_QUEUE_FLAG_BYPASS,
    }


def test_by_processor_it_is_the_first_of_several() -> None:
    assert verdict(made(num=7, total=4, flags=NFT_QUEUE_FLAG_CPU_FANOUT)) == NF_QUEUE_NR(7)


def test_a_register_has_the_number() -> None:
    expr = made(sreg_qnum=8)
    assert verdict(expr, (300).to_bytes(4, sys.byteorder)) == NF_QUEUE_NR(300)
    assert expr.dump() == {"NFTA_QUEUE_SREG_QNUM": 1, "NFTA_QUEUE_FLAGS": 0}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, errno.EINVAL),
        ({"num": 1, "sreg_qnum": 8}, errno.EINVAL),
        ({"sreg_qnum": 8, "total": 2}, errno.EINVAL),
        ({"num": 1, "total": 0}, errno.EINVAL),
        ({"num": 0xFFFF, "total": 2}, errno.ERANGE),
        ({"num": 1, "flags": 4}, errno.EINVAL),
        ({"sreg_qnum": 8, "flags": NFT_QUEUE_FLAG_CPU_FANOUT}, errno.EOPNOTSUPP),
    ],
)
def test_what_is_refused(given: dict[str, int], error: int) -> None:
    with pytest.raises(NlError) as info:
        made(**given)
    assert info.value.errno == error


def test_last_tells_how_long_ago_a_packet_came() -> None:
    clock = VirtualClock()
    ctx: Any = SimpleNamespace(net=SimpleNamespace(clock=clock))
    tb: Any = {}
    expr = nft_last(ctx, tb)
    assert expr.dump() == {"NFTA_LAST_SET": 0, "NFTA_LAST_MSECS": 0}
    expr.eval(nft_regs(), PKT)
    clock.run_for(1_234_000_000)
    other: Any = expr.clone()
    expr.eval(nft_regs(), PKT)
    assert other.dump() == {"NFTA_LAST_SET": 1, "NFTA_LAST_MSECS": 1234}
    assert expr.dump() == {"NFTA_LAST_SET": 1, "NFTA_LAST_MSECS": 0}
    told: Any = {"NFTA_LAST_SET": 1, "NFTA_LAST_MSECS": 50}
    assert nft_last(ctx, told).dump() == told


def test_counts_of_networks_forget_connections_that_ended() -> None:
    held = nf_conncount_data()
    kept = [conn() for _ in range(3)]
    for key, ct in enumerate(kept):
        assert held.count(key, ct) == 1
    for key in range(3, 10_000):
        ended = conn()
        assert held.count(key, ended) == 1
        ended.status = IPS_DYING
        assert len(held.lists) <= 14
    assert held.count(0, conn()) == 2
    assert held.count(2, None) == 2
    assert [held.lists[key].active() for key in range(3)] == [2, 1, 1]


def test_an_expression_in_a_message() -> None:
    data = nft_last.attrs.build({"NFTA_LAST_SET": 1, "NFTA_LAST_MSECS": 50})
    whole = NFTA_EXPR.build({"NFTA_EXPR_NAME": "last", "NFTA_EXPR_DATA": data})
    found = NFTA_EXPR.parse(whole)
    assert found["NFTA_EXPR_NAME"] == "last"
    start, end = found.span("NFTA_EXPR_DATA")
    assert nft_last.attrs.parse(whole, start, end=end)["NFTA_LAST_MSECS"] == 50
