"""include/linux/netlink.h struct netlink_ext_ack: the text that the kernel tells with an errno.

`os_error` gives a text for callers in Python. Requests about links, addresses, routes, neighbours
and rules do not tell it, since Linux has none. Where Linux has one an `ExtAckError` carries it.
"""

from __future__ import annotations

import os

from stack.core.rows import row, state


class ExtAckError(OSError):
    """An OSError with what NLMSGERR_ATTR_MSG says; "": nothing."""

    def __init__(self, err: int, msg: str = "") -> None:
        super().__init__(err, f"{os.strerror(err)}: {msg}" if msg else os.strerror(err))
        self.msg = msg


@state
class netlink_ext_ack:
    """What is told of a request that succeeds: a warning, or ""."""

    msg: str = row("")
