"""net/sched/act_police.c: a token bucket, with verdicts for conforming and other packets."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff
from fastpath.net.gso import skb_gso_validate_network_len
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.sched.act_api import (
    TC_ACT_GOTO_CHAIN,
    TC_ACT_OK,
    TC_ACT_SHOT,
    tc_act_ext,
    tc_action,
    tcf_action_check_ctrlact,
    tcf_result,
)
from stack.sched.cls_api import tcf_block
from stack.sched.psched import PSCHED_SHIFT, psched_ratecfg, psched_ticks, rate_from, rate_told
from stack.sched.sch_generic import Options

U32_MAX = 0xFFFFFFFF


@state
class tcf_police(tc_action):
    """`result` for packets within the rates, `action` for the rest. Tokens are times, ns."""

    kind = "police"

    rate: psched_ratecfg | None = row()
    peak: psched_ratecfg | None = row()
    pps: int = row(0)
    """Packets per second; 0: they are not limited."""
    pktburst: int = row(0)
    """The burst at `pps`, ns."""
    mtu: int = row(U32_MAX)
    """Bytes of the largest packet that passes."""
    burst: int = row(0)
    toks: int = row(0)
    ptoks: int = row(0)
    mtu_ptoks: int = row(0)
    t_c: int = row(0)
    """When tokens were last counted, ns."""
    result: int = row(TC_ACT_OK)
    avrate: int = row(0)
    """Bytes/s that the estimator may say; 0: it is not asked."""

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """`rate`, `peakrate`, `burst`, `mtu`; `pktrate64`, `pktburst64`; `avrate`, `result`.

        Bursts are in ticks of the scheduler (PSCHED_SHIFT). Raises: OSError EINVAL.
        """
        pps, result = opt.get("pktrate64") or 0, opt.get("result", TC_ACT_OK)
        rate = rate_from(opt, "rate", "rate64") if opt.get("rate") else None
        peaks = rate is not None and opt.get("peakrate")
        peak = rate_from(opt, "peakrate", "peakrate64") if peaks else None
        if (rate is not None and "rtab" not in opt) or (peak is not None and "ptab" not in opt):
            raise os_error(errno.EINVAL)
        if opt.get("avrate") is not None and self.rate_est is None:
            raise os_error(errno.EINVAL)
        if tc_act_ext(result) == TC_ACT_GOTO_CHAIN:
            raise ExtAckError(errno.EINVAL, "goto chain not allowed on fallback")
        if (opt.get("pktrate64") is None) != (opt.get("pktburst64") is None):
            text = "Both or neither packet-per-second burst and rate must be provided"
            raise ExtAckError(errno.EINVAL, text)
        if pps and rate is not None:
            text = "packet-per-second and byte-per-second rate limits not allowed in same action"
            raise ExtAckError(errno.EINVAL, text)
        self.set_ctrlact(opt["action"], tcf_action_check_ctrlact(opt["action"], block))
        self.rate, self.peak, self.pps, self.result = rate, peak, pps, result
        self.mtu = opt.get("mtu") or U32_MAX
        if not opt.get("mtu") and rate is not None:
            self.mtu = 255 << opt.get("rate_cell_log", 0)
        self.burst = (opt.get("burst") or 0) << PSCHED_SHIFT
        self.toks = self.burst
        if peak is not None:
            self.mtu_ptoks = self.ptoks = peak.l2t_ns(self.mtu)
        self.pktburst = (opt.get("pktburst64") or 0) << PSCHED_SHIFT
        self.avrate = opt.get("avrate") or 0
        self.t_c = self.net.clock.now_ns()

    def mtu_check(self, skb: sk_buff, res: tcf_result) -> bool:
        """net/sched/act_police.c tcf_police_mtu_check: the frame, or each segment, fits."""
        if skb.gso_size:
            mac_len = skb.network_header - skb.mac_header
            return skb_gso_validate_network_len(skb, max(self.mtu - mac_len, 0))
        return res.pkt_len(skb) + res.mac_len(skb) <= self.mtu

    def within(self, nbytes: int) -> bool:
        """Whether there are tokens for a packet, which takes them."""
        now = self.net.clock.now_ns()
        passed = now - self.t_c
        toks, ptoks = self.toks, self.ptoks
        if self.rate is not None:
            toks = min(toks + passed, self.burst) - self.rate.l2t_ns(nbytes)
        elif self.pps:  # a super-packet counts once
            toks = min(toks + passed, self.pktburst) - NSEC_PER_SEC // self.pps
        if self.peak is not None:
            ptoks = min(ptoks + passed, self.mtu_ptoks) - self.peak.l2t_ns(nbytes)
        if min(toks, ptoks) < 0:
            return False
        self.toks, self.ptoks, self.t_c = toks, ptoks, now
        return True

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_police.c: tcf_police_act."""
        self.used(skb, res)
        over = self.avrate and (self.rate_est is None or self.rate_est.read()[0] >= self.avrate)
        verdict = self.action
        if not over and self.mtu_check(skb, res):
            if self.rate is None and not self.pps:
                return self.result
            if self.within(res.pkt_len(skb)):
                verdict = self.result
                if verdict == TC_ACT_SHOT:
                    self.qstats.drops += 1
                return verdict
        self.qstats.overlimits += 1
        if verdict == TC_ACT_SHOT:
            self.qstats.drops += 1
        return verdict

    def parms(self) -> Options:
        none = psched_ratecfg(linklayer=0)
        return {
            "burst": psched_ticks(self.burst),
            "mtu": self.mtu,
            **rate_told(self.rate or none, "rate", "rate64"),
            **rate_told(self.peak or none, "peakrate", "peakrate64"),
            "pktrate64": self.pps or None,
            "pktburst64": self.pktburst >> PSCHED_SHIFT if self.pps else None,
            "result": self.result or None,
            "avrate": self.avrate or None,
        }
