"""net/sched/act_pedit.c: edit a packet's bytes, in words of 32 bits.

A key names a word by its offset from a header. The bits of `mask` are kept, `val` has the others.
As in Linux, checksums are not updated.
"""

from __future__ import annotations

import errno
import struct
from sys import byteorder

from fastpath.base.skbuff import (
    sk_buff,
    skb_copy_bits,
    skb_cow,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_store_bits,
)
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.act_api import tc_action, tcf_action_check_ctrlact, tcf_result
from stack.sched.cls_api import tcf_block
from stack.sched.flow_dissector import flow_l4
from stack.sched.sch_generic import Options

KEY = struct.Struct("=IIiIII")
"""struct tc_pedit_key: mask, val, off, at, offmask, shift."""
HDR_NETWORK, HDR_ETH, HDR_IP4, HDR_IP6, HDR_TCP, HDR_UDP = range(6)
CMD_SET, CMD_ADD = 0, 1
U32 = 0xFFFFFFFF
SHIFT_MAX = 31


@state
class tcf_pedit(tc_action):
    """`keys`: (mask, val, off, at, offmask, shift); `extended`: (header, command) of each."""

    kind = "pedit"

    keys: list[tuple[int, ...]] = row(make=list)
    extended: list[tuple[int, int]] = row(make=list)
    pedit_flags: int = row(0)

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """`nkeys`, `keys` (their bytes), `extended`. Raises: OSError EINVAL."""
        nkeys, data, extended = opt["nkeys"], opt["keys"], list(opt.get("extended") or ())
        if not nkeys:
            raise ExtAckError(errno.EINVAL, "act_pedit: Pedit requires keys to be passed")
        if len(data) < nkeys * KEY.size or (extended and len(extended) != nkeys):
            raise ExtAckError(errno.EINVAL, "act_pedit: Pedit attribute size is invalid")
        found = KEY.iter_unpack(data[: nkeys * KEY.size])
        keys = [(*key[:5], min(key[5], SHIFT_MAX)) for key in found]
        if any(key[2] % 4 for key in keys):
            raise ExtAckError(errno.EINVAL, "act_pedit: Pedit offsets must be on 32bit boundaries")
        if any(header > HDR_UDP or cmd > CMD_ADD for header, cmd in extended):
            raise os_error(errno.EINVAL)
        self.set_ctrlact(opt["action"], tcf_action_check_ctrlact(opt["action"], block))
        self.keys, self.extended, self.pedit_flags = keys, extended, opt.get("pedit_flags", 0)

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_pedit.c: tcf_pedit_act."""
        mac_len = res.mac_len(skb)
        self.used(skb, res)
        skb_push(skb, mac_len)
        done = skb_cow(skb, 0) and self.edit(skb)
        skb_pull(skb, mac_len)
        if not done:
            self.qstats.overlimits += 1
        return self.action

    def edit(self, skb: sk_buff) -> bool:
        """Every key; False: one is outside of the packet. data at the MAC header."""
        network = skb_network_offset(skb)
        for at, (mask, val, off, where, offmask, shift) in enumerate(self.keys):
            header, cmd = self.extended[at] if self.extended else (HDR_NETWORK, CMD_SET)
            base = pedit_hdr_offset(skb, header, network)
            if base is None:
                return False
            if offmask:
                if not 0 <= base + where < skb.len:
                    return False
                off += (skb_copy_bits(skb, base + where, 1)[0] & offmask) >> shift
                if off % 4:
                    return False
            if not 0 <= base + off <= skb.len - 4:
                return False
            word = int.from_bytes(skb_copy_bits(skb, base + off, 4), byteorder)
            if cmd == CMD_ADD:
                val = word + val & ~mask & U32
            skb_store_bits(skb, base + off, ((word & mask) ^ val).to_bytes(4, byteorder))
        return True

    def parms(self) -> Options:
        return {
            "nkeys": len(self.keys),
            "pedit_flags": self.pedit_flags,
            "keys_ex" if self.extended else "keys": b"".join(KEY.pack(*k) for k in self.keys),
            "extended": self.extended or None,
        }


def pedit_hdr_offset(skb: sk_buff, header: int, network: int) -> int | None:
    """net/sched/act_pedit.c pedit_skb_hdr_offset: where a header begins; None: there is none."""
    if header == HDR_ETH:
        return 0
    if header in (HDR_TCP, HDR_UDP):
        proto = 6 if header == HDR_TCP else 17
        found = flow_l4(skb, network, skb.protocol)
        return found[1] if found is not None and found[0] == proto else None
    return network  # as in Linux, of either IP version
