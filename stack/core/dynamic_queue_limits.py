"""lib/dynamic_queue_limits.c: an adaptive limit of the bytes in a driver's ring.

Packets in a ring can no longer be reordered, shaped or dropped. So the limit should be just enough
to keep the hardware busy. It rises when the ring ran empty although packets were waiting, and falls
by the least excess during `slack_hold_time`.
"""

from __future__ import annotations

from stack.core.clock import Clock
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC

DQL_MAX_LIMIT = (1 << 32) // 2 - (1 << 32) // 16


@state
class dql:
    """struct dql: the bytes of a queue. `num_queued`, `num_completed` and `adj_limit` only grow."""

    num_queued: int = row(0)
    """Bytes that were put into the queue."""
    num_completed: int = row(0)
    """Bytes that were sent."""
    adj_limit: int = row(0)
    """`num_completed` and the limit: `num_queued` may reach this."""
    limit: int = row(0)
    """Bytes that may be in the queue at a time; the last packet may go beyond it."""
    last_obj_cnt: int = row(0)
    """Bytes of the last packet."""
    prev_num_queued: int = row(0)
    """`num_queued` at the last completion."""
    prev_last_obj_cnt: int = row(0)
    """`last_obj_cnt` at the last completion."""
    prev_ovlimit: int = row(0)
    """Bytes beyond the limit at the last completion."""
    lowest_slack: int = row(DQL_MAX_LIMIT)
    """The least excess of the limit since `slack_start_time`, bytes."""
    slack_start_time: int = row(0)
    """When the limit was changed or the ring ran empty, ns."""
    slack_hold_time: int = row(NSEC_PER_SEC)
    """How long an excess is watched before the limit falls, ns."""
    min_limit: int = row(0)
    """The limit is never less, bytes."""
    max_limit: int = row(DQL_MAX_LIMIT)
    """The limit is never more, bytes."""


def dql_reset(queue: dql) -> None:
    """Restart after the queue was emptied, within the administrator's bounds."""
    queue.num_queued = queue.num_completed = queue.last_obj_cnt = 0
    queue.prev_num_queued = queue.prev_last_obj_cnt = queue.prev_ovlimit = 0
    queue.adj_limit = queue.limit = queue.min_limit
    queue.lowest_slack = DQL_MAX_LIMIT
    queue.slack_start_time = 0


def dql_queued(queue: dql, count: int) -> None:
    """A packet of `count` bytes was put into the queue."""
    queue.last_obj_cnt = count
    queue.num_queued += count


def dql_avail(queue: dql) -> int:
    """Bytes that may be queued, negative beyond the limit."""
    return queue.adj_limit - queue.num_queued


def dql_completed(queue: dql, count: int, clock: Clock) -> None:
    """`count` bytes were sent: adapt the limit.

    Raises: ValueError: more than is queued.
    """
    queued, done = queue.num_queued, queue.num_completed + count
    if done > queued:
        raise ValueError(f"dql_completed: count={count}, queued are {queued - done + count}")
    limit = queue.limit
    beyond = max(queued - queue.num_completed - limit, 0)
    left = queued - done
    left_before = queue.prev_num_queued - queue.num_completed
    all_before_done = done >= queue.prev_num_queued
    if (beyond and not left) or (queue.prev_ovlimit and all_before_done):
        # It ran empty while more was waiting: allow what was missing.
        limit += max(done - queue.prev_num_queued, 0) + queue.prev_ovlimit
        queue.slack_start_time = clock.now_ns()
        queue.lowest_slack = DQL_MAX_LIMIT
    elif left and left_before and not all_before_done:
        # Busy from one completion to the next: half of the limit would have done for twice `count`.
        slack = max(limit + queue.prev_ovlimit - 2 * count, 0)
        if queue.prev_ovlimit:  # what the last packet held beside what was beyond the limit
            slack = max(slack, queue.prev_last_obj_cnt - queue.prev_ovlimit)
        queue.lowest_slack = min(queue.lowest_slack, slack)
        now = clock.now_ns()
        if now > queue.slack_start_time + queue.slack_hold_time:
            limit = max(limit - queue.lowest_slack, 0)
            queue.slack_start_time = now
            queue.lowest_slack = DQL_MAX_LIMIT
    limit = min(max(limit, queue.min_limit), queue.max_limit)
    if limit != queue.limit:
        queue.limit = limit
        beyond = 0
    queue.adj_limit = limit + done
    queue.prev_ovlimit = beyond
    queue.prev_last_obj_cnt = queue.last_obj_cnt
    queue.num_completed = done
    queue.prev_num_queued = queued
