"""include/linux/netlink.h struct netlink_ext_ack: the text that the kernel sends with an errno.

`os_error` has a text for callers in Python, which netlink does not send, because Linux has none. An
`ExtAckError` carries a text that Linux sends.
"""

from __future__ import annotations

import os

from stack.core.rows import row, state


class ExtAckError(OSError):
    """An OSError with the text of NLMSGERR_ATTR_MSG; "": none."""

    def __init__(self, err: int, msg: str = "") -> None:
        super().__init__(err, f"{os.strerror(err)}: {msg}" if msg else os.strerror(err))
        self.msg = msg


@state
class netlink_ext_ack:
    """The warning for a request that succeeds, or ""."""

    msg: str = row("")
