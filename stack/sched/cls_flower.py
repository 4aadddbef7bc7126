"""net/sched/cls_flower.c: filters by the fields of a packet's headers.

A filter is a value and a mask for some fields (FIELDS). Filters of the same fields and masks share
a table of their masked values (`tables`), so a packet is looked up once for each such set.

    flow_fields             the fields that a packet has, by name; one it lacks is 0
    cls_flower.classify     each set of masks: mask, look up; the first that has the values

Read classify first.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_UNSPEC, tcf_action_destroy, tcf_result
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import (
    cls_flags,
    cls_hw,
    tcf_change_indev,
    tcf_exts_exec,
    tcf_filter,
    tcf_indev_name,
    tcf_proto,
)
from stack.sched.flow_dissector import flow_l4
from stack.sched.sch_generic import Options

FIELDS: dict[str, int] = {
    **dict.fromkeys(("eth_dst", "eth_src", "arp_sha", "arp_tha"), 48),
    **dict.fromkeys(("ipv4_src", "ipv4_dst", "arp_sip", "arp_tip"), 32),
    **dict.fromkeys(("ipv6_src", "ipv6_dst"), 128),
    **dict.fromkeys(("vlan_id", "cvlan_id", "tcp_flags"), 12),
    **dict.fromkeys(("vlan_prio", "cvlan_prio"), 3),
    **dict.fromkeys(("ip_proto", "ip_tos", "ip_ttl", "arp_op"), 8),
    **dict.fromkeys(("tcp_src", "tcp_dst", "udp_src", "udp_dst", "sctp_src", "sctp_dst"), 16),
    **dict.fromkeys(("icmpv4_type", "icmpv4_code", "icmpv6_type", "icmpv6_code"), 8),
    "key_flags": 2,
}
"""The bits of each field that a filter can name."""
MASKED = frozenset(FIELDS) - {"ip_proto", "vlan_id", "vlan_prio", "cvlan_id", "cvlan_prio"}
"""Those that have an attribute for the mask, too."""
PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
VLANS = (0x8100, 0x88A8)
RANGES = ("port_src", "port_dst")
TYPES = ("eth_type", "vlan_eth_type", "cvlan_eth_type")
"""EtherTypes: of the frame, of what its tag holds, of what the second tag holds."""


@state
class cls_fl_filter(tcf_filter):
    """A filter: its values and masks by field, and the ranges of ports."""

    values: dict[str, int] = row(make=dict)
    masks: dict[str, int] = row(make=dict)
    ranges: dict[str, tuple[int, int]] = row(make=dict)
    types: dict[str, int] = row(make=dict)
    """The EtherTypes as they came (TYPES)."""

    def key(self) -> tuple[int, ...]:
        """Its place in the table of its masks."""
        return tuple(self.values[name] & mask for name, mask in self.masks.items())


FlowTable = dict[tuple[int, ...], list[cls_fl_filter]]
Masks = tuple[tuple[str, int], ...]


@state
class cls_flower(tcf_proto):
    """net/sched/cls_flower.c."""

    kind = "flower"

    tables: dict[Masks, FlowTable] = row(make=dict)

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_flower.c: fl_classify."""
        fields = flow_fields(skb, res.at_ingress)
        for masks, table in self.tables.items():
            key = tuple(fields.get(name, 0) & mask for name, mask in masks)
            for f in table.get(key, ()):
                ranges = f.ranges.items()
                if all(least <= fields.get(name, -1) <= most for name, (least, most) in ranges):
                    res.classid = f.classid
                    return tcf_exts_exec(skb, f, res)
        return TC_ACT_UNSPEC

    # --- tc

    def change(
        self, handle: int, opt: Options | None, f: cls_fl_filter | None, replace: bool
    ) -> cls_fl_filter:
        """net/sched/cls_flower.c: fl_change. Raises: OSError EINVAL, EEXIST, EOPNOTSUPP."""
        if opt is None or (f is not None and handle and f.handle != handle):
            raise os_error(errno.EINVAL)
        flags = cls_flags(opt)
        new = cls_fl_filter(f.handle if f is not None else handle or self.new_handle())
        self.set_key(new, opt)
        same = self.tables.get(tuple(new.masks.items()), {}).get(new.key(), [])
        if any(one is not f and one.ranges == new.ranges for one in same):
            raise os_error(errno.EEXIST)
        new.actions = tcf_exts_validate(self, opt, replace)
        try:
            new.flags = cls_hw(flags)
        except OSError:
            tcf_action_destroy(new.actions, True)
            raise
        new.classid = opt.get("classid", 0)
        if f is not None:
            self.unhash(f)
            tcf_action_destroy(f.actions, True)
        table = self.tables.setdefault(tuple(new.masks.items()), {})
        table.setdefault(new.key(), []).append(new)
        self.filters[new.handle] = new
        return new

    def set_key(self, f: cls_fl_filter, opt: Options) -> None:
        """net/sched/cls_flower.c: fl_set_key. Raises: OSError EINVAL, EOPNOTSUPP."""
        for name, bits in FIELDS.items():
            value = opt.get(name)
            if value is None:
                continue
            full = (1 << bits) - 1
            if value > full:
                raise os_error(errno.EINVAL if name == "key_flags" else errno.ERANGE)
            mask = opt.get(f"{name}_mask") if name in MASKED else None
            if mask is None:
                if name == "key_flags":
                    raise ExtAckError(errno.EINVAL, "Missing flags mask")
                mask = full
            f.values[name], f.masks[name] = value, mask & full
        f.types = {name: opt[name] for name in TYPES if opt.get(name) is not None}
        kinds = [f.types[name] for name in TYPES if name in f.types]
        for prefix in ("vlan", "cvlan"):
            if kinds and kinds[0] in VLANS:
                f.values[f"{prefix}_type"], f.masks[f"{prefix}_type"] = kinds.pop(0), 0xFFFF
        if kinds:
            f.values["eth_type"], f.masks["eth_type"] = kinds[0], 0xFFFF
        for name in RANGES:
            least, most = opt.get(f"{name}_min"), opt.get(f"{name}_max")
            if (least is None) != (most is None):
                raise ExtAckError(
                    errno.EINVAL, "Both min and max of a port range must be specified"
                )
            if least is not None and most is not None:
                if least >= most:
                    raise ExtAckError(errno.EINVAL, "Invalid port range (min must be < max)")
                f.ranges[name] = least, most
        ifindex = tcf_change_indev(self, opt)
        if ifindex is not None:
            f.values["indev"], f.masks["indev"] = ifindex, 0xFFFFFFFF

    def unhash(self, f: cls_fl_filter) -> None:
        """Take a filter out of the table of its masks."""
        masks, key = tuple(f.masks.items()), f.key()
        table = self.tables[masks]
        table[key].remove(f)
        if not table[key]:
            del table[key]
        if not table:
            del self.tables[masks]

    def delete(self, f: Any) -> bool:
        self.unhash(f)
        return tcf_proto.delete(self, f)

    def dump(self, f: cls_fl_filter) -> Options:
        indev = tcf_indev_name(self, f.values.get("indev"))
        found: dict[str, Any] = {"classid": f.classid or None, "indev": indev}
        found |= {name: kind for name, kind in f.types.items() if name != "eth_type"}
        found["eth_type"] = f.values.get("eth_type")
        for name, value in f.values.items():
            if name not in FIELDS:
                continue
            found[name] = value & f.masks[name]
            if name in MASKED:
                found[f"{name}_mask"] = f.masks[name]
        for name, (least, most) in f.ranges.items():
            found[f"{name}_min"], found[f"{name}_max"] = least, most
        return {**found, "flags": f.flags, **tcf_exts_dump(f.actions), "in_hw_count": 0}


def _be(data: bytes) -> int:
    return int.from_bytes(data, "big")


def flow_fields(skb: sk_buff, at_ingress: bool) -> dict[str, int]:
    """net/core/flow_dissector.c: the fields of a packet by name. Borrows skb."""
    network = skb_network_offset(skb)
    mac = skb.mac_header - skb.data_offset if at_ingress else 0
    head = skb_copy_bits(skb, mac, 14)
    fields = {"indev": skb.skb_iif, "eth_dst": _be(head[:6]), "eth_src": _be(head[6:12])}
    protocol = skb.protocol
    tags = []
    if skb.vlan_proto:
        tags.append((skb.vlan_proto, skb.vlan_tci))
    at = mac + 14
    while protocol in VLANS and skb.len >= at + 4:  # tags in the bytes
        tag = skb_copy_bits(skb, at, 4)
        tags.append((protocol, _be(tag[:2])))
        protocol = _be(tag[2:])
        at += 4
        network = max(network, at)
    for prefix, (proto, tci) in zip(("vlan", "cvlan"), tags, strict=False):
        fields[f"{prefix}_type"] = proto
        fields[f"{prefix}_id"], fields[f"{prefix}_prio"] = tci & 0xFFF, tci >> 13
    fields["eth_type"] = protocol
    if protocol == 0x0806:
        _arp_fields(skb, network, fields)
        return fields
    found = flow_l4(skb, network, protocol)
    if found is None:
        return fields
    if protocol == 0x0800:
        head = skb_copy_bits(skb, network, 20)
        fields["ip_tos"], fields["ip_ttl"] = head[1], head[8]
        fields["ipv4_src"], fields["ipv4_dst"] = _be(head[12:16]), _be(head[16:20])
    else:
        head = skb_copy_bits(skb, network, 40)
        fields["ip_tos"], fields["ip_ttl"] = _be(head[:2]) >> 4 & 0xFF, head[7]
        fields["ipv6_src"], fields["ipv6_dst"] = _be(head[8:24]), _be(head[24:40])
    proto, at4, fragment = found
    fields["ip_proto"], fields["key_flags"] = proto, fragment
    if at4 is not None:
        _l4_fields(skb, at4, proto, fields)
    return fields


def _arp_fields(skb: sk_buff, at: int, fields: dict[str, int]) -> None:
    """Those of ARP over Ethernet for IPv4."""
    if skb.len < at + 28:
        return
    arp = skb_copy_bits(skb, at, 28)
    if arp[:6] != b"\0\1\x08\0\6\4":
        return
    fields["arp_op"] = arp[7] if not arp[6] else 0
    fields["arp_sha"], fields["arp_sip"] = _be(arp[8:14]), _be(arp[14:18])
    fields["arp_tha"], fields["arp_tip"] = _be(arp[18:24]), _be(arp[24:28])


def _l4_fields(skb: sk_buff, at: int, proto: int, fields: dict[str, int]) -> None:
    """Ports, flags, types."""
    name = PORTS.get(proto)
    if name is not None and skb.len >= at + 4:
        ports = skb_copy_bits(skb, at, 4)
        fields[f"{name}_src"] = fields["port_src"] = _be(ports[:2])
        fields[f"{name}_dst"] = fields["port_dst"] = _be(ports[2:])
        if proto == 6 and skb.len >= at + 14:
            fields["tcp_flags"] = _be(skb_copy_bits(skb, at + 12, 2)) & 0xFFF
    elif proto in (1, 58) and skb.len >= at + 2:
        version = "v4" if proto == 1 else "v6"
        kind, code = skb_copy_bits(skb, at, 2)
        fields[f"icmp{version}_type"], fields[f"icmp{version}_code"] = kind, code
