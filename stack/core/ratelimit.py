"""Rate limit of log messages caused by packets (lib/ratelimit.c, net/core/utils.c)."""

from __future__ import annotations

import logging

from stack.core.rows import row, state
from stack.net import Net

log = logging.getLogger(__name__)

NET_RATELIMIT_NS = 5_000_000_000
NET_RATELIMIT_BURST = 10


@state
class ratelimit_state:
    """struct ratelimit_state: when the interval began; messages printed and suppressed in it."""

    begin: int | None = row()
    printed: int = row(0)
    missed: int = row(0)


def net_ratelimit(net: Net) -> bool:
    """net/core/utils.c: True when a message about a packet may be logged: ten in five seconds."""
    rs = net.machine.net_ratelimit_state
    now = net.now()
    if rs.begin is None or now - rs.begin >= NET_RATELIMIT_NS:
        if rs.missed:
            log.warning("%s: net_ratelimit: %d callbacks suppressed", net.name, rs.missed)
        rs.begin, rs.printed, rs.missed = now, 0, 0
    if rs.printed >= NET_RATELIMIT_BURST:
        rs.missed += 1
        return False
    rs.printed += 1
    return True
