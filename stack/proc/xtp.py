"""/proc/net/xtp: the counters of XTP in a net."""

from __future__ import annotations

from stack.core.rows import rows_of
from stack.net import Net
from stack.proc.text import group, text
from stack.xtp.xtp_sock import xtp_mib


def xtp(net: Net) -> str:
    """Names and values in two lines, as /proc/net/snmp has them."""
    mib = net.xtp.mib
    return text(group("Xtp", ((name, getattr(mib, name)) for name in rows_of(xtp_mib))))
