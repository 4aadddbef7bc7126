"""/proc/net/xtp: the counters of XTP in a net."""

from __future__ import annotations

from stack.core.rows import rows_of
from stack.net import Net
from stack.proc.text import text
from stack.xtp.xtp_sock import xtp_mib


def xtp(net: Net) -> str:
    """Names and values in two lines, as /proc/net/snmp has them."""
    mib = net.xtp.mib
    names = list(rows_of(xtp_mib))
    return text(
        [
            "Xtp: " + " ".join(names),
            "Xtp: " + " ".join(str(getattr(mib, name)) for name in names),
        ]
    )
