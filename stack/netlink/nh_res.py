"""Resilient groups of next hops: a table of buckets that keeps flows where they are.

net/ipv4/nexthop.c nh_res_*, Documentation/networking/nexthop-group-resilient.rst. A flow's hash
chooses a bucket, and the bucket has a member of the group. When members or weights change, only
so many buckets move as the new weights need, and those that carry traffic move last:

    nh_res_wants            the number of buckets of each member
    nh_res_table_upkeep     moves buckets from overweight members; next time
        nh_res_bucket_should_migrate    now, later, or not

A bucket is idle when it was not used for `idle_timer`, or not since it moved. With an
`unbalanced_timer` busy ones move too, once the table has been unbalanced for so long. A bucket
whose member has gone moves at once. Times are ns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import timer_list

if TYPE_CHECKING:
    from stack.netlink.nexthop import nexthop

RES_DEFAULT_IDLE_TIMER = 120 * NSEC_PER_SEC
RES_DEFAULT_UNBALANCED_TIMER = 0
NEVER = (1 << 63) - 1


@state
class nh_res_table:
    """struct nh_res_table: one entry per bucket in each list; None: no member yet."""

    buckets: list[nexthop | None]
    idle_timer: int = RES_DEFAULT_IDLE_TIMER
    unbalanced_timer: int = RES_DEFAULT_UNBALANCED_TIMER
    """0: buckets that are busy stay."""
    used: list[int] = row(make=list)
    migrated: list[int] = row(make=list)
    unbalanced_since: int = row(-1)
    """-1: it is balanced."""
    upkeep_dw: timer_list | None = row()


def nh_res_table_alloc(count: int) -> nh_res_table:
    """net/ipv4/nexthop.c: a table of `count` buckets without members."""
    table = nh_res_table([None] * count)
    table.used, table.migrated = [0] * count, [0] * count
    return table


def nh_res_select(table: nh_res_table, found: int, now: int) -> nexthop | None:
    """net/ipv4/nexthop.c nexthop_select_path_res: the member for a flow with the hash `found`."""
    at = found % len(table.buckets)
    table.used[at] = now
    return table.buckets[at]


def nh_res_wants(count: int, members: list[tuple[nexthop, int]]) -> list[int]:
    """net/ipv4/nexthop.c nh_res_group_rebalance: the buckets of each member by its weight."""
    total = sum(weight for _, weight in members)
    wants, weights, before = [], 0, 0
    for _, weight in members:
        weights += weight
        upper = (count * weights + total // 2) // total
        wants.append(upper - before)
        before = upper
    return wants


def nh_res_bucket_should_migrate(table: nh_res_table, at: int, now: int) -> int:
    """net/ipv4/nexthop.c: when a bucket may leave an overweight member, ns; NEVER."""
    used = table.used[at]
    idle_point = now if used == table.migrated[at] else used + table.idle_timer
    if not table.unbalanced_timer:
        return idle_point
    return min(idle_point, table.unbalanced_since + table.unbalanced_timer)


def nh_res_table_upkeep(
    table: nh_res_table, members: list[tuple[nexthop, int]], now: int
) -> tuple[list[int], int]:
    """net/ipv4/nexthop.c: move all buckets that may move now.

    Returns the moved buckets, and when the next may move; NEVER: the table is balanced.
    """
    wants = dict(
        zip((nh.id for nh, _ in members), nh_res_wants(len(table.buckets), members), strict=True)
    )
    have = dict.fromkeys(wants, 0)
    for nh in table.buckets:
        if nh is not None and nh.id in have:
            have[nh.id] += 1
    # The last member comes first, as the kernel's list has it.
    under = [nh for nh, _ in reversed(members) if have[nh.id] < wants[nh.id]]
    if not under:
        table.unbalanced_since = -1
    elif table.unbalanced_since < 0:
        table.unbalanced_since = now
    moved: list[int] = []
    deadline = NEVER
    for at, nh in enumerate(table.buckets):
        if not under:
            break
        if nh is not None and nh.id in have:
            if have[nh.id] <= wants[nh.id]:
                continue
            when = nh_res_bucket_should_migrate(table, at, now)
            if when > now:
                deadline = min(deadline, when)
                continue
            have[nh.id] -= 1
        to = under[0]
        table.buckets[at] = to
        table.used[at] = table.migrated[at] = now
        moved.append(at)
        have[to.id] += 1
        if have[to.id] >= wants[to.id]:
            del under[0]
    if not under:
        table.unbalanced_since, deadline = -1, NEVER
    return moved, deadline
