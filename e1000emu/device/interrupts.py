"""Interrupt causes, masks and moderation (SDM 3.2.7, 3.4.3, 13.4.17-13.4.21): the control plane.

The machine is the compiled `IrqBlock` (fastpath/nic/irqblock.pyx): it serves the registers, keeps
the delays and decides the level of the line.  How long a cause waits beyond the datasheet's delays
is a policy, chosen by name (fastpath/nic/moderation.pyx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from e1000emu.device.state import FOREVER, U32, BlockState, Count, Due, moved
from e1000emu.errors import E1000Error
from e1000emu.ports import InterruptLine
from fastpath.nic.irqblock import IrqBlock
from fastpath.nic.moderation import POLICIES

if TYPE_CHECKING:
    from e1000emu.ports import Clock
    from fastpath.nic.regfile import RegFile

NEVER_NS = -(1 << 40)
"""Times before this mean that there was no assertion."""
MODERATIONS = tuple(POLICIES)
"""The names that `Interrupts.moderation` takes."""


class InterruptsState(BlockState):
    """The line and running timers; causes and masks are registers."""

    asserted: bool
    assertions: Count
    disabled: bool
    last_ns: Annotated[int, msgspec.Meta(ge=-FOREVER, le=FOREVER)]
    """The last assertion; before NEVER_NS: there was none."""
    rx: tuple[Due, Due]
    """RDTR and RADV."""
    tx: tuple[Due, Due]
    """TIDV and TADV."""
    flushed: U32 = 0

    def move(self, ns: int) -> None:
        """Move the delays."""
        self.last_ns = moved(self.last_ns, ns, NEVER_NS)
        self.rx = (moved(self.rx[0], ns), moved(self.rx[1], ns))
        self.tx = (moved(self.tx[0], ns), moved(self.tx[1], ns))


class Interrupts(IrqBlock):
    """ICR, ICS, IMS, IMC, ITR and the delay timers; drives the interrupt line."""

    def __init__(
        self, regs: RegFile, clock: Clock, line: InterruptLine, moderation: str = "datasheet"
    ) -> None:
        self._intx = line
        self._bind(regs, clock, line)
        self.moderation = moderation

    @property
    def moderation(self) -> str:
        """How causes are held back: `datasheet` (by ITR and the delays alone) or `adaptive`.

        `adaptive` is for a guest, for which each interrupt costs round trips to another process:
        few frames at a time interrupt at once, many interrupt together.
        Raises (when set): E1000Error.
        """
        return self.policy.name

    @moderation.setter
    def moderation(self, name: str) -> None:
        policy = POLICIES.get(name)
        if policy is None:
            known = ", ".join(MODERATIONS)
            raise E1000Error(f"moderation {name!r}: there is none of that name; use one of {known}")
        self._set_policy(policy())

    def set_disabled(self, disabled: bool) -> None:
        """Keep the line low while PCI command bit 10 or the power state requires it."""
        if disabled != self.disabled:
            self._set_disabled(disabled)

    def set_messages(self, line: InterruptLine | None) -> None:
        """Drive `line` (MSI) from now on instead of INTA#; None: INTA# again.

        In a device with threads the line is an eventfd either way, and its holder chooses.
        """
        wanted = line or self._intx
        if wanted is self._line or self.threaded:
            return
        if self.out:
            self._line.set_level(False)
        self._line = wanted
        self._again()

    # --- reset, end, snapshot ---------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST and above: no cause, no mask, no timer, line low (the registers are reset)."""
        self._stop()

    def halt(self) -> None:
        """Stop for good: line low, no timer, in whatever state the device was."""
        self._stop()
        self.thaw()
        self.freeze()

    def state(self) -> InterruptsState:
        """Return what a snapshot needs beyond the registers; what a policy has learned is not."""
        last, rx, rx_absolute, tx, tx_absolute = self._times()
        return InterruptsState(
            asserted=self.asserted,
            assertions=self.assertions,
            disabled=self.disabled,
            last_ns=last,
            rx=(rx or -1, rx_absolute or -1),
            tx=(tx or -1, tx_absolute or -1),
            flushed=self.flushed,
        )

    def load(self, state: InterruptsState) -> None:
        """Take back what `state` returned; the registers are loaded already."""
        self._stop()
        self.assertions = state.assertions
        self.set_disabled(state.disabled)
        due = [max(0, at) for at in (*state.rx, *state.tx)]
        self._go_on(state.asserted, state.last_ns, *due)

    def loaded(self, state: InterruptsState) -> None:
        """Resume after the whole device was loaded: perform requested flushes."""
        self._flush(state.flushed)
