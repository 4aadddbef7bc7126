"""net/sched/sch_api.c: size tables: how many bytes a packet counts on the link below.

`tc` makes the table for a link layer (ATM has cells of 48 bytes in 53) or an overhead.
"""

from __future__ import annotations

import errno

from stack.core.extack import ExtAckError
from stack.core.rows import row, state
from stack.sched.sch_generic import Options

STAB_SIZE_LOG_MAX = 30


@state
class qdisc_size_table:
    """struct qdisc_size_table: `data` by (bytes + cell_align) >> cell_log."""

    szopts: Options
    data: tuple[int, ...]
    overhead: int = row(of=lambda stab: stab.szopts["overhead"])
    cell_align: int = row(of=lambda stab: stab.szopts["cell_align"])
    cell_log: int = row(of=lambda stab: stab.szopts["cell_log"])
    size_log: int = row(of=lambda stab: stab.szopts["size_log"])

    def pkt_len(self, nbytes: int) -> int:
        """net/sched/sch_api.c: __qdisc_calculate_pkt_len."""
        nbytes += self.overhead
        if self.data:
            slot = max(nbytes + self.cell_align, 0) >> self.cell_log
            times, rest = divmod(slot, len(self.data))
            nbytes = self.data[-1] * times + self.data[rest] << self.size_log
        return max(nbytes, 1)


def qdisc_get_stab(opt: Options) -> qdisc_size_table:
    """net/sched/sch_api.c: the table that a request brings. Raises: OSError EINVAL."""
    if "tsize" not in opt:
        raise ExtAckError(errno.EINVAL, "Size table base attribute is missing")
    if opt["tsize"] and "data" not in opt:
        raise ExtAckError(errno.EINVAL, "Size table data attribute is missing")
    data = tuple(opt["data"]) if opt["tsize"] else ()
    if len(data) != opt["tsize"]:
        raise ExtAckError(errno.EINVAL, "Invalid size of size table")
    if max(opt["size_log"], opt["cell_log"]) > STAB_SIZE_LOG_MAX:
        raise ExtAckError(errno.EINVAL, "Invalid logarithmic size of size table")
    szopts = {name: value for name, value in opt.items() if name != "data"}
    return qdisc_size_table(szopts, data)
