"""net/sched/cls_u32.c: filters that compare words of 32 bits, in a tree of hash tables.

Each proto has a table of its own (`root`), of one bucket. `tc` makes others (`divisor`). A key of a
filter is a word at an offset from the network header, compared under a mask. A filter with `link`
passes a matching packet on to another table: `hmask` and `hoff` give the bucket, `offset` the start
of the next header. Its own actions are executed if that table has no verdict.

    handle  0xTTT BB NNN    table, bucket, number; a table's own has BB and NNN 0

All protos of a discipline share the tables (tc_u_common). Read classify first.
"""

from __future__ import annotations

import errno
import struct
from sys import byteorder
from typing import Any

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from stack.core.errors import os_error
from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.act_api import TC_ACT_UNSPEC, tcf_action_destroy, tcf_result
from stack.sched.act_kinds import tcf_exts_dump, tcf_exts_validate
from stack.sched.cls_api import (
    TCA_CLS_FLAGS_IN_HW,
    TCA_CLS_FLAGS_NOT_IN_HW,
    TCA_CLS_FLAGS_SKIP_SW,
    cls_flags,
    tcf_change_indev,
    tcf_exts_exec,
    tcf_filter,
    tcf_indev_name,
    tcf_proto,
)
from stack.sched.sch_generic import Options

SEL = struct.Struct("=BBBxHHhhI")
"""struct tc_u32_sel: flags, offshift, nkeys, offmask (big-endian), off, offoff, hoff, hmask (the
same)."""
KEY = struct.Struct("=IIii")
"""struct tc_u32_key: mask, val, off, offmask."""
TC_U32_TERMINAL, TC_U32_OFFSET, TC_U32_VAROFFSET, TC_U32_EAT = 1, 2, 4, 8
TC_U32_MAXDEPTH = 8
TC_U32_ROOT = 0xFFF00000
HTID, NODE, KEYPART = 0xFFF00000, 0xFFF, 0x000FFFFF
FIRST_NODE = 0x800


def bucket_of(handle: int) -> int:
    """include/uapi/linux/pkt_cls.h: TC_U32_HASH."""
    return handle >> 12 & 0xFF


@state
class tc_u_hnode(tcf_filter):
    """A hash table; `divisor`: its last bucket. `prio`: of the proto that made it."""

    divisor: int
    prio: int
    is_root: bool = False
    links: int = row(0)
    """Filters that go on with it."""
    buckets: dict[int, list[tc_u_knode]] = row(make=dict)

    def key(self, handle: int) -> tc_u_knode | None:
        """net/sched/cls_u32.c u32_lookup_key."""
        found = self.buckets.get(bucket_of(handle), ())
        return next((n for n in found if n.handle == handle), None)

    def nodes(self) -> list[tc_u_knode]:
        """All, by bucket."""
        return [n for at in sorted(self.buckets) for n in self.buckets[at]]


@state
class tc_u_knode(tcf_filter):
    """A filter: `sel` as it came, and `keys` as rows (mask, value, offset, offmask)."""

    up: tc_u_hnode = row()
    down: tc_u_hnode | None = row()
    """The table that it goes on with."""
    sel: bytes = row(b"")
    sel_flags: int = row(0)
    offshift: int = row(0)
    offmask: int = row(0)
    off: int = row(0)
    offoff: int = row(0)
    hoff: int = row(0)
    hmask: int = row(0)
    fshift: int = row(0)
    keys: list[tuple[int, ...]] = row(make=list)
    mark: tuple[int, int, int] | None = row()
    """Value, mask and successes."""
    ifindex: int | None = row()
    """Of the device at which packets must have been received; None: any."""

    def select(self, sel: bytes) -> None:
        """Take the selector. Raises: OSError EINVAL."""
        flags, shift, nkeys, offmask, off, offoff, hoff, hmask = SEL.unpack_from(sel)
        size = SEL.size + nkeys * KEY.size
        if len(sel) < size:
            raise os_error(errno.EINVAL)
        self.sel = sel[:size]
        self.sel_flags, self.offshift, self.off = flags, shift, off
        self.offmask, self.hmask = _swapped(offmask, 2), _swapped(hmask, 4)
        self.offoff, self.hoff = offoff, hoff
        self.fshift = (self.hmask & -self.hmask).bit_length() - 1 if self.hmask else 0
        self.keys = [
            (_swapped(mask, 4), _swapped(val, 4), at, offmask)
            for mask, val, at, offmask in KEY.iter_unpack(sel[SEL.size : size])
        ]


def _swapped(value: int, size: int) -> int:
    """A number whose bytes are in network order."""
    return int.from_bytes(value.to_bytes(size, byteorder), "big")


@state
class tc_u_common:
    """Data shared by the protos of a discipline."""

    users: int = row(0)
    tables: list[tc_u_hnode] = row(make=list)
    """The newest is first."""
    last_id: int = row(0)

    def lookup(self, handle: int) -> tc_u_hnode | None:
        """net/sched/cls_u32.c u32_lookup_ht."""
        return next((ht for ht in self.tables if ht.handle == handle), None)

    def new_htid(self) -> int:
        """net/sched/cls_u32.c gen_new_htid: a table's handle, each time a higher one."""
        for _ in range(0x7FF):
            self.last_id = self.last_id % 0x7FE + 1
            handle = (self.last_id | 0x800) << 20
            if self.lookup(handle) is None:
                return handle
        raise os_error(errno.ENOMEM)


@state
class cls_u32(tcf_proto):
    """net/sched/cls_u32.c."""

    kind = "u32"

    common: tc_u_common = row()
    root: tc_u_hnode = row()

    def init(self) -> None:
        """net/sched/cls_u32.c: u32_init."""
        self.usesw = False
        q = self.chain.block.q
        if q.u32_common is None:
            q.u32_common = tc_u_common()
        common: tc_u_common = q.u32_common
        handle = common.new_htid() if common.users else 0x80000000
        self.root = tc_u_hnode(handle, 0, self.prio, True)
        common.tables.insert(0, self.root)
        common.users += 1
        self.common = common

    # --- packets

    def classify(self, skb: sk_buff, res: tcf_result) -> int:
        """net/sched/cls_u32.c: u32_classify."""
        stack: list[tuple[tc_u_knode, int, list[tc_u_knode], int]] = []
        off, off2 = skb_network_offset(skb), 0
        nodes, at = self.root.buckets.get(0, []), 0
        while True:
            if at < len(nodes):
                n = nodes[at]
                at += 1
                hit = self.matches(skb, n, off, off2)
                if hit is None:
                    return TC_ACT_UNSPEC
                if not hit:
                    continue
                if n.down is not None:
                    if len(stack) >= TC_U32_MAXDEPTH:
                        return TC_ACT_UNSPEC
                    below = self.bucket(skb, n, off)
                    if below is None:
                        return TC_ACT_UNSPEC
                    stack.append((n, off, nodes, at))
                    if n.sel_flags & (TC_U32_OFFSET | TC_U32_VAROFFSET | TC_U32_EAT):
                        step = self.step(skb, n, off, off2)
                        if step is None:
                            return TC_ACT_UNSPEC
                        off, off2 = step
                    if off < skb.len:
                        nodes, at = below, 0
                        continue
                    n, off, nodes, at = stack.pop()
            elif stack:
                n, off, nodes, at = stack.pop()
            else:
                return TC_ACT_UNSPEC
            if n.sel_flags & TC_U32_TERMINAL and n.ifindex in (None, skb.skb_iif):
                res.classid = n.classid
                verdict = tcf_exts_exec(skb, n, res)
                if verdict >= 0:
                    return verdict

    def matches(self, skb: sk_buff, n: tc_u_knode, off: int, off2: int) -> bool | None:
        """Whether all keys match; None: the packet ends before one."""
        if n.flags & TCA_CLS_FLAGS_SKIP_SW:
            return False
        if n.mark is not None:
            value, mask, hits = n.mark
            if skb.mark & mask != value:
                return False
            n.mark = value, mask, hits + 1
        for mask, value, at, offmask in n.keys:
            word = _word(skb, off + at + (off2 & offmask), 4)
            if word is None:
                return None
            if (word ^ value) & mask:
                return False
        return True

    def bucket(self, skb: sk_buff, n: tc_u_knode, off: int) -> list[tc_u_knode] | None:
        """The filters of the table below that a packet is for; None: the packet is too short."""
        assert n.down is not None
        if not n.down.divisor:
            return n.down.buckets.get(0, [])
        word = _word(skb, off + n.hoff, 4)
        if word is None:
            return None
        return n.down.buckets.get(n.down.divisor & (word & n.hmask) >> n.fshift, [])

    def step(self, skb: sk_buff, n: tc_u_knode, off: int, off2: int) -> tuple[int, int] | None:
        """Offset of the header for the table below; None: the packet is too short."""
        if n.sel_flags & (TC_U32_OFFSET | TC_U32_VAROFFSET):
            off2 = n.off + 3
            if n.sel_flags & TC_U32_VAROFFSET:
                word = _word(skb, off + n.offoff, 2)
                if word is None:
                    return None
                off2 += (n.offmask & word) >> n.offshift
            off2 &= ~3
        return (off + off2, 0) if n.sel_flags & TC_U32_EAT else (off, off2)

    # --- tc

    def get(self, handle: int) -> Any:
        """net/sched/cls_u32.c: u32_get: a filter or a table."""
        if handle & HTID == TC_U32_ROOT:
            ht: tc_u_hnode | None = self.root
        else:
            ht = self.common.lookup(handle & HTID)
        return ht if ht is None or not handle & KEYPART else ht.key(handle)

    def change(self, handle: int, opt: Options | None, f: Any, replace: bool) -> Any:
        """net/sched/cls_u32.c: u32_change. Raises: OSError EINVAL, ENOMEM, ENOSPC."""
        if opt is None:
            if handle:
                raise ExtAckError(errno.EINVAL, "cls_u32: Filter handle requires options")
            return None
        flags = cls_flags(opt)
        if f is not None:
            return self.change_key(f, opt, flags, replace)
        if "divisor" in opt:
            return self.new_table(handle, opt["divisor"], flags)
        ht, htid = self.root, self.root.handle
        if "hash" in opt and opt["hash"] & HTID != TC_U32_ROOT:
            htid = opt["hash"]
            found = self.common.lookup(htid & HTID)
            if found is None:
                raise ExtAckError(errno.EINVAL, "cls_u32: Specified hash table not found")
            ht = found
        if ht.divisor < bucket_of(htid):
            text = "cls_u32: Specified hash table buckets exceed configured value"
            raise ExtAckError(errno.EINVAL, text)
        number = self.new_kid(ht, htid, handle)
        if "sel" not in opt:
            raise ExtAckError(errno.EINVAL, "cls_u32: Selector not specified")
        n = tc_u_knode(number)
        n.up = ht
        n.select(opt["sel"])
        if "mark_mask" in opt:
            n.mark = opt["mark_val"], opt["mark_mask"], 0
        self.set_parms(n, opt, replace, flags)
        nodes = ht.buckets.setdefault(bucket_of(number), [])
        at = next((i for i, k in enumerate(nodes) if k.handle & NODE > number & NODE), len(nodes))
        nodes.insert(at, n)
        return n

    def change_key(self, n: Any, opt: Options, flags: int, replace: bool) -> tc_u_knode:
        """Change a filter's parameters, except the keys."""
        if isinstance(n, tc_u_hnode):
            raise ExtAckError(errno.EINVAL, "cls_u32: Key node id cannot be zero")
        if (n.flags ^ flags) & ~(TCA_CLS_FLAGS_IN_HW | TCA_CLS_FLAGS_NOT_IN_HW):
            raise ExtAckError(errno.EINVAL, "cls_u32: Key node flags do not match passed flags")
        old = n.actions
        self.set_parms(n, opt, replace, flags)
        tcf_action_destroy(old, True)
        return n  # type: ignore[no-any-return]

    def new_table(self, handle: int, divisor: int, flags: int) -> tc_u_hnode:
        """A table with this number of buckets."""
        if not divisor or divisor & divisor - 1:
            raise ExtAckError(errno.EINVAL, "cls_u32: Divisor is not a power of 2")
        if divisor > 0x100:
            raise ExtAckError(errno.EINVAL, "cls_u32: Exceeded maximum 256 hash buckets")
        if handle & KEYPART:
            raise ExtAckError(errno.EINVAL, "cls_u32: Divisor can only be used on a hash table")
        if flags & TCA_CLS_FLAGS_SKIP_SW:
            raise os_error(errno.EINVAL)
        if not handle:
            handle = self.common.new_htid()
        elif self.common.lookup(handle) is not None:
            raise os_error(errno.ENOSPC)
        ht = tc_u_hnode(handle, divisor - 1, self.prio)
        ht.flags = flags
        self.common.tables.insert(0, ht)
        return ht

    def new_kid(self, ht: tc_u_hnode, htid: int, handle: int) -> int:
        """net/sched/cls_u32.c gen_new_kid: the number of a new filter, as asked or a free one."""
        if handle:
            if handle & HTID and (handle ^ htid) & HTID:
                text = "cls_u32: Handle specified hash table address mismatch"
                raise ExtAckError(errno.EINVAL, text)
            handle = htid | handle & NODE
            if ht.key(handle) is not None:
                raise os_error(errno.ENOSPC)
            return handle
        taken = {n.handle for n in ht.buckets.get(bucket_of(htid), ())}
        numbers = (*range(FIRST_NODE, NODE + 1), *range(1, FIRST_NODE))
        return next((htid | at for at in numbers if htid | at not in taken), htid | NODE)

    def set_parms(self, n: tc_u_knode, opt: Options, replace: bool, flags: int) -> None:
        """net/sched/cls_u32.c: u32_set_parms. Raises: OSError EINVAL."""
        actions = tcf_exts_validate(self, opt, replace)
        try:
            ifindex = tcf_change_indev(self, opt)
            down = self.linked(opt["link"]) if "link" in opt else n.down
        except OSError:
            tcf_action_destroy(actions, True)
            raise
        if n.down is not None:
            n.down.links -= 1
        if down is not None:
            down.links += 1
        n.down, n.actions, n.flags = down, actions, flags | TCA_CLS_FLAGS_NOT_IN_HW
        n.ifindex = ifindex if ifindex is not None else n.ifindex
        n.classid = opt.get("classid", n.classid)
        self.usesw = True

    def linked(self, handle: int) -> tc_u_hnode | None:
        """The table that a filter goes on with; 0: none."""
        if handle & KEYPART:
            raise ExtAckError(errno.EINVAL, "cls_u32: u32 Link handle must be a hash table")
        if not handle:
            return None
        ht = self.common.lookup(handle)
        if ht is None:
            raise ExtAckError(errno.EINVAL, "cls_u32: Link hash table not found")
        if ht.is_root:
            raise ExtAckError(errno.EINVAL, "cls_u32: Not linking to root node")
        return ht

    def delete(self, f: Any) -> bool:
        """net/sched/cls_u32.c: u32_delete. Raises: OSError EINVAL, EBUSY."""
        if isinstance(f, tc_u_hnode):
            if f.is_root:
                raise ExtAckError(errno.EINVAL, "cls_u32: Not allowed to delete root node")
            if f.links:
                raise ExtAckError(errno.EBUSY, "cls_u32: Can not delete in-use filter")
            self.clear_hnode(f)
            self.common.tables.remove(f)
        else:
            self.delete_key(f)
        return self.common.users == 1 and not any(ht.nodes() for ht in self.common.tables)

    def delete_key(self, n: tc_u_knode) -> None:
        """net/sched/cls_u32.c: u32_delete_key."""
        n.up.buckets[bucket_of(n.handle)].remove(n)
        if n.down is not None:
            n.down.links -= 1
        tcf_action_destroy(n.actions, True)

    def clear_hnode(self, ht: tc_u_hnode) -> None:
        """net/sched/cls_u32.c: u32_clear_hnode."""
        for n in ht.nodes():
            self.delete_key(n)

    def destroy(self) -> None:
        """net/sched/cls_u32.c: u32_destroy; the last proto's tables go all."""
        common = self.common
        common.users -= 1
        self.clear_hnode(self.root)
        common.tables.remove(self.root)
        if not common.users:
            for ht in common.tables:
                self.clear_hnode(ht)
            common.tables.clear()
            self.chain.block.q.u32_common = None

    def walk(self) -> list[Any]:
        """net/sched/cls_u32.c: u32_walk: each table of this priority, and its filters."""
        found: list[Any] = []
        for ht in self.common.tables:
            if ht.prio == self.prio:
                found += [ht, *ht.nodes()]
        return found

    def dump(self, f: Any) -> Options:
        if isinstance(f, tc_u_hnode):
            return {"divisor": f.divisor + 1}
        n: tc_u_knode = f
        mark = dict(zip(("mark_val", "mark_mask", "mark_success"), n.mark or (), strict=False))
        return {
            "sel": n.sel,
            "hash": n.handle & 0xFFFFF000,
            "classid": n.classid or None,
            "link": n.down.handle if n.down is not None else None,
            "flags": n.flags or None,
            **mark,
            **tcf_exts_dump(n.actions),
            "indev": tcf_indev_name(self, n.ifindex),
        }


def _word(skb: sk_buff, at: int, size: int) -> int | None:
    """Bytes of a packet from skb.data, which may begin in its MAC header; None: it is too short."""
    if at + size > skb.len or at < skb.mac_header - skb.data_offset:
        return None
    return int.from_bytes(skb_copy_bits(skb, at, size), "big")
