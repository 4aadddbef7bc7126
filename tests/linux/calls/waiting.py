"""poll() in every state, and the requests of ioctl() for sockets of any kind."""

from __future__ import annotations

from tests.linux.calls.states import STATES
from tests.linux.calls.world import World

REQUESTS = {
    "SIOCINQ": 0x541B,
    "SIOCOUTQ": 0x5411,
    "SIOCOUTQNSD": 0x894B,
    "SIOCATMARK": 0x8905,
    "nobody's": 0x1234,
    "0": 0,
    "TCGETS": 0x5401,
}
MASKS = (0, 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400, 0x2000, 0x3FFF)


def waiting(w: World) -> None:
    """All of it."""
    for state in STATES:
        with w.case(f"{state.kind}/{state.name}"):
            fd = state.make(w)
            if state.kind.startswith("tcp"):
                w.raw.rest()
            for mask in MASKS:
                w.row(f"poll({mask:#x})", lambda fd=fd, mask=mask: w.raw.poll([(fd, mask)]))
            w.row("poll of nobody too", lambda fd=fd: w.raw.poll([(-1, 0x3F), (fd, 1), (-7, 1)]))
            w.row("poll of a closed one", lambda fd=fd: w.raw.poll([(60_000, 1), (fd, 1)]))
            for name, request in REQUESTS.items():
                w.row(f"ioctl({name})", w.raw.ioctl, fd, request, 0)
            w.row("error", w.raw.getsockopt, fd, 1, 4, 4)
            w.row("poll after", lambda fd=fd: w.raw.poll([(fd, 0x3FFF)]))
    with w.case("none"):
        for mask in MASKS:
            w.row(f"poll({mask:#x}) of -1", lambda mask=mask: w.raw.poll([(-1, mask)]))
            w.row(
                f"poll({mask:#x}) of a closed one", lambda mask=mask: w.raw.poll([(60_000, mask)])
            )
        w.row("poll of none", lambda: w.raw.poll([]))
