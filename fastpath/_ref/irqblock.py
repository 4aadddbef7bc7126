"""Causes, masks, delays and the interrupt line: the twin of ``fastpath.nic.irqblock``.

Its caller passes the time, and it drives a line at once; it has no clocks, threads or locks.
"""

from __future__ import annotations

from collections.abc import Callable

from fastpath._ref.moderation import Moderation

TXDW, RXT0, FPD = 0x1, 0x80, 1 << 31
NEVER_NS = -(1 << 40)
REGISTERS = {
    "ICR": 0xC0,
    "ITR": 0xC4,
    "ICS": 0xC8,
    "IMS": 0xD0,
    "IMC": 0xD8,
    "RDTR": 0x2820,
    "RADV": 0x282C,
    "TIDV": 0x3820,
    "TADV": 0x382C,
}
LEGAL = {"ICR": 0xFFFFFFFF, "ICS": 0x1FFFF, "IMS": 0x1FFFF, "IMC": 0x1FFFF}
"""Bits that a write can change; of the others 15:0, and FPD."""


LOST = -1
QUAD = (1 << 64) - 1
SCALE = 1 << 53


class LineFaults:
    """Decides for each rise of a line whether the host sees it at once, late, or never."""

    def __init__(
        self, seed_lost: int, seed_late: int, lost: float, late: float, late_ns: int
    ) -> None:
        self._states = [seed_lost, seed_late]
        self._lost, self._late, self._late_ns = int(lost * SCALE), int(late * SCALE), late_ns
        self.failed: list[tuple[int, str]] = []

    def _next(self, stream: int) -> int:
        z = self._states[stream] = self._states[stream] + 0x9E3779B97F4A7C15 & QUAD
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & QUAD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & QUAD
        return z ^ z >> 31

    def rise(self, now: int) -> int:
        """Return when it becomes visible: 0 at once, LOST never."""
        lost = self._next(0) >> 11 < self._lost
        late = self._next(1) >> 11 < self._late
        wait = 1 + self._next(1) % self._late_ns
        if lost or late:
            self.failed.append((now, "irq_lost" if lost else "irq_late"))
        return LOST if lost else now + wait if late else 0


class IrqBlock:
    """The registers by name in `regs`; `line` is called for each change of the level."""

    def __init__(
        self,
        line: Callable[[bool], object],
        policy: Moderation | None = None,
        faults: LineFaults | None = None,
    ) -> None:
        self._line = line
        self.faults = faults
        self.wanted, self.seen_from, self.late_due = False, 0, 0
        self.policy = policy or Moderation()
        self.regs = dict.fromkeys(REGISTERS, 0)
        self.asserted = self.disabled = self.out = self.frozen = False
        self.assertions = 0
        self.last_ns = NEVER_NS
        self.throttle_due = 0
        self.delays = {RXT0: (0, 0), TXDW: (0, 0)}

    def _level(self, now: int) -> None:
        out = self.asserted and not self.disabled
        if self.faults is not None and not self.frozen:
            if out != self.wanted:
                self.wanted = out
                self.seen_from = self.faults.rise(now) if out else 0
                self.late_due = max(self.seen_from, 0)
            elif self.late_due and now >= self.late_due:
                self.seen_from = self.late_due = 0
            out = out and self.seen_from == 0
        if out != self.out and not self.frozen:
            self.out = out
            self._line(out)

    def _settle(self, now: int) -> None:
        causes = self.regs["ICR"] & self.regs["IMS"]
        if not causes:
            self.asserted = False
        elif not self.asserted:
            due = max(
                self.last_ns + self.regs["ITR"] * 256,
                self.policy.hold_back(causes, self.last_ns, now),
            )
            if now < due:
                self.throttle_due = min(self.throttle_due or due, due)
                return
            self.policy.asserted(self.last_ns, now)
            self.last_ns, self.throttle_due, self.asserted = now, 0, True
            self.assertions += 1
        self._level(now)

    def _raise(self, bits: int, now: int) -> None:
        self.regs["ICR"] |= bits
        self._settle(now)

    def _delay(self, bit: int, packet: str, absolute: str, now: int) -> bool:
        """Start or restart the delay of `bit`; False when it is 0."""
        if not self.regs[packet]:
            return False
        until = self.delays[bit][1]
        if self.regs[absolute] and not until:
            until = now + self.regs[absolute] * 1024
        self.delays[bit] = now + self.regs[packet] * 1024, until
        return True

    def cause(self, bits: int, now: int) -> None:
        """Set causes."""
        self._raise(bits, now)

    def received(self, bits: int, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were stored."""
        self.policy.received(frames, descs, ring, now)
        if bits & RXT0 and self._delay(RXT0, "RDTR", "RADV", now):
            bits &= ~RXT0
        self._raise(bits, now)

    def sent(self, bits: int, delayed: bool, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were sent."""
        self.policy.sent(frames, descs, ring, now)
        if bits & TXDW:
            self.delays[TXDW] = 0, 0
        if delayed and not self._delay(TXDW, "TIDV", "TADV", now):
            self.delays[TXDW] = 0, 0
            bits |= TXDW
        self._raise(bits, now)

    def read_icr(self, now: int) -> int:
        """Return all causes and clear them."""
        value, self.regs["ICR"] = self.regs["ICR"], 0
        if self.asserted:
            self.policy.handler(now)
        self._settle(now)
        return value

    def write(self, name: str, value: int, now: int) -> None:
        """Write the register `name`."""
        flush = value & FPD
        value &= LEGAL.get(name, 0xFFFF)
        if name == "ICR":
            self.regs["ICR"] &= ~value
        elif name == "ICS":
            self.regs["ICR"] |= value
        elif name in ("IMS", "IMC"):
            ims = self.regs["IMS"]
            self.regs["IMS"] = ims | value if name == "IMS" else ims & ~value
            self.policy.masks(name == "IMS", self.regs["IMS"] != 0, now)
        else:
            self.regs[name] = value
        for bit, delay in ((RXT0, "RDTR"), (TXDW, "TIDV")):
            if name == delay and flush:
                was, self.delays[bit] = self.delays[bit], (0, 0)
                self.regs["ICR"] |= bit if was[0] else 0
        self._settle(now)

    def disable(self, disabled: bool, now: int) -> None:
        """Hold the line low while `disabled`."""
        self.disabled = disabled
        self._level(now)

    def tick(self, now: int) -> None:
        """Handle expired delays."""
        if self.frozen:
            return
        bits = 0
        for bit, due in self.delays.items():
            if any(at and now >= at for at in due):
                self.delays[bit] = 0, 0
                bits |= bit
        self.policy.tick(now)
        if now >= self.throttle_due:
            self.throttle_due = 0
        self._raise(bits, now)

    def next_due(self) -> int:
        """The earliest deadline, 0 for none."""
        if self.frozen:
            return 0
        delays = (*self.delays[RXT0], *self.delays[TXDW])
        every = (self.late_due, self.throttle_due, self.policy.due(), *delays)
        return min((at for at in every if at), default=0)

    def freeze(self) -> None:
        """Freeze the line and the delays."""
        self.frozen = True

    def thaw(self, now: int) -> None:
        """Handle delays that expired meanwhile."""
        self.frozen = False
        due = self.next_due()
        if due and now >= due:
            self.tick(now)
        self._level(now)
