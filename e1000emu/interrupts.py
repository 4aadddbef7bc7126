"""Interrupt causes, masks and moderation (SDM 3.2.7, 3.4.3, 13.4.17-13.4.21): the control plane.

The machine is the compiled `IrqBlock` (fastpath/irqblock.pyx): it serves the registers, keeps the
delays and decides the level of the line.  How long a cause waits beyond what the datasheet asks is
a policy, chosen by name (fastpath/moderation.pyx).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e1000emu.errors import E1000Error
from e1000emu.ports import InterruptLine
from fastpath.irqblock import IrqBlock
from fastpath.moderation import POLICIES

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["MODERATIONS", "Interrupts"]

MODERATIONS = tuple(POLICIES)
"""The names that `Interrupts.moderation` takes."""


class Interrupts(IrqBlock):
    """ICR, ICS, IMS, IMC, ITR and the delay timers; drives the interrupt line."""

    def __init__(self, nic: Nic, line: InterruptLine, moderation: str = "datasheet") -> None:
        self._intx = line
        self._bind(nic.regs.file, nic.clock, line)
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
        """Keep the line low while PCI command bit 10 or the power state asks for it."""
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

    # --- life, reset, snapshot --------------------------------------------------------------------

    def reset(self) -> None:
        """CTRL.RST and above: no cause, no mask, no timer, line low (the registers are reset)."""
        self._stop()

    def halt(self) -> None:
        """Stop for good: line low, no timer, in whatever state the device was."""
        self._stop()
        self.thaw()
        self.freeze()

    def state(self) -> dict[str, Any]:
        """Return what a snapshot needs beyond the registers; what a policy has learned is not."""
        last, *delays = self._times()
        due = [at or -1 for at in delays]
        flushed = {"flushed": self.flushed} if self.flushed else {}
        return flushed | {
            "asserted": self.asserted,
            "assertions": self.assertions,
            "disabled": self.disabled,
            "last_ns": last,
            "rx": due[:2],
            "tx": due[2:],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned; the registers are loaded already."""
        self._stop()
        self.assertions = int(state["assertions"])
        self.set_disabled(bool(state["disabled"]))
        due = [max(0, int(at)) for at in (*state["rx"], *state["tx"])]
        self._go_on(bool(state["asserted"]), int(state["last_ns"]), *due)
