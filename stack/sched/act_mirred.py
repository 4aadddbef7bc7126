"""net/sched/act_mirred.c: a packet, or a copy of it, to another device: sent or as if received.

Data is after the MAC header of a received packet, and at it of a sent one. So the header is pushed
or pulled when the packet changes direction, or is sent by a device without such a header.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_clone, skb_network_offset, skb_pull, skb_push
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core import netdevice
from stack.core.backlog import netif_rx
from stack.core.dev_notifier import register_netdevice_notifier, unregister_netdevice_notifier
from stack.core.dev_queue import dev_queue_xmit
from stack.core.dev_receive import netif_receive_skb
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.netdevice import net_device, netif_carrier_ok
from stack.core.redirect import skb_set_redirected
from stack.core.rows import row, state
from stack.sched.act_api import (
    TC_ACT_CONSUMED,
    TC_ACT_QUEUED,
    TC_ACT_SHOT,
    TC_ACT_STOLEN,
    tc_action,
    tcf_action_check_ctrlact,
    tcf_result,
)
from stack.sched.cls_api import tcf_block
from stack.sched.sch_generic import Options

TCA_EGRESS_REDIR, TCA_EGRESS_MIRROR, TCA_INGRESS_REDIR, TCA_INGRESS_MIRROR = range(1, 5)
REDIRECTS = (TCA_EGRESS_REDIR, TCA_INGRESS_REDIR)
INGRESS = (TCA_INGRESS_REDIR, TCA_INGRESS_MIRROR)
MIRRED_NEST_LIMIT = 4
NO_MAC_HEADER = (
    *(netdevice.ARPHRD_TUNNEL, netdevice.ARPHRD_TUNNEL6, netdevice.ARPHRD_SIT),
    *(netdevice.ARPHRD_IPGRE, netdevice.ARPHRD_IP6GRE, netdevice.ARPHRD_NONE),
)
"""include/linux/if_arp.h dev_is_mac_header_xmit: devices that send packets without a MAC header."""


@state
class tcf_mirred(tc_action):
    """`eaction` is the operation, `dev` the other device; None: it was removed."""

    kind = "mirred"

    eaction: int = row(0)
    dev: net_device | None = row()

    @classmethod
    def check(cls, opt: Options) -> None:
        if not TCA_EGRESS_REDIR <= opt.get("eaction", 0) <= TCA_INGRESS_MIRROR:
            raise ExtAckError(errno.EINVAL, "act_mirred: Unknown mirred option")

    def init(self, opt: Options, block: tcf_block | None) -> None:
        """`eaction`, `ifindex` (0 keeps the device). Raises: OSError EINVAL, ENODEV."""
        eaction, ifindex = opt.get("eaction", 0), opt.get("ifindex", 0)
        self.check(opt)
        if not ifindex and self.dev is None:
            raise ExtAckError(errno.EINVAL, "act_mirred: Specified device does not exist")
        chain = tcf_action_check_ctrlact(opt["action"], block)
        if ifindex:
            dev = self.net.dev_by_index.get(ifindex)
            if dev is None:
                if chain is not None:
                    chain.put_by_act()
                raise os_error(errno.ENODEV)
            if self.dev is None:
                register_netdevice_notifier(self.net, self.mirred_device_event)
            self.dev = dev
        self.set_ctrlact(opt["action"], chain)
        self.eaction = eaction

    def mirred_device_event(self, event: int, dev: net_device) -> int:
        """net/sched/act_mirred.c: the device is removed."""
        if event == netdevice.NETDEV_UNREGISTER and dev is self.dev:
            self.cleanup()
        return 0

    def cleanup(self) -> None:
        if self.dev is not None:
            self.dev = None
            unregister_netdevice_notifier(self.net, self.mirred_device_event)

    def act(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/act_mirred.c: tcf_mirred_act, tcf_mirred_to_dev."""
        sd = self.net.machine.softnet_data
        if sd.mirred_nest >= MIRRED_NEST_LIMIT:
            return TC_ACT_SHOT
        self.used(skb, res)
        dev, redirects = self.dev, self.eaction in REDIRECTS
        if dev is None:
            self.qstats.overlimits += 1
            return self.action
        if not dev.flags & netdevice.IFF_UP or not netif_carrier_ok(dev):
            self.qstats.overlimits += 1
            return TC_ACT_SHOT if redirects else self.action
        takes = res.at_ingress and redirects and self.action in (TC_ACT_STOLEN, TC_ACT_QUEUED)
        send = skb if takes else skb_clone(skb)
        if send.data_len and not skb_orphan_frags(send, self.net.skb_pages):
            self.qstats.overlimits += 1
            return TC_ACT_SHOT if redirects else self.action
        if redirects:
            skb_set_redirected(send, res.at_ingress)
        sd.mirred_nest += 1
        try:
            if tcf_mirred_forward(send, dev, self.eaction in INGRESS, res.at_ingress):
                self.qstats.overlimits += 1
        finally:
            sd.mirred_nest -= 1
        return TC_ACT_CONSUMED if takes else self.action

    def parms(self) -> Options:
        ifindex = self.dev.ifindex if self.dev is not None else 0
        return {"eaction": self.eaction, "ifindex": ifindex}


def tcf_mirred_forward(skb: sk_buff, dev: net_device, ingress: bool, at_ingress: bool) -> int:
    """net/sched/act_mirred.c: give a packet to `dev`. 0 or an error. Takes ownership of skb."""
    skb.nfct = None
    skb.nfctinfo = 0
    if ingress and not at_ingress:
        skb.dst = None
    if ingress or dev.type in NO_MAC_HEADER:
        skb_pull(skb, skb_network_offset(skb))
    elif at_ingress:
        skb_push(skb, skb.network_header - skb.mac_header)
    skb.skb_iif = skb.dev.ifindex
    skb.dev = dev
    if not ingress:
        return dev_queue_xmit(skb)
    return netif_receive_skb(skb) if at_ingress else netif_rx(skb)
