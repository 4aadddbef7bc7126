"""Interrupts over eventfds: INTx, or the one message of MSI.

INTx has a level in the device and edges to the client: a rise writes the trigger eventfd and masks
the interrupt, as the client expects of an automasked one.  Its UNMASK comes when the guest has
touched a register after the interrupt. If the level is still high then, the eventfd is written
again at once; else that interrupt would be lost.  With MSI each rise is a message and nothing
masks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from e1000emu.embed.vfio_user.protocol import (
    VFIO_IRQ_INFO_AUTOMASKED,
    VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    IrqFlags,
    Refused,
    SetIrqs,
)
from e1000emu.ports import Clock
from fastpath.nic.irqblock import EventLine


class Irqs:
    """The interrupt line (`ports.InterruptLine`), towards a client.  Call with the lock held."""

    __slots__ = ("_clock", "_lost", "_trigger", "_unmask", "line", "msi")

    def __init__(self, clock: Clock, *, msi: bool = False) -> None:
        self.msi = msi
        """Whether the part has the MSI capability."""
        self._lost = False
        """A message came before the client's eventfd for it."""
        self._clock = clock
        self._trigger = -1
        self._unmask = -1
        self.line = EventLine()
        """The compiled part: level, mask and the trigger eventfd."""

    @property
    def _messages(self) -> bool:
        """Whether the client uses MSI, which is never masked."""
        return not self.line.automask

    @property
    def level(self) -> bool:
        """The NIC's level."""
        return self.line.level

    @property
    def masked(self) -> bool:
        """Whether INTx is masked, by an interrupt or by the client."""
        return self.line.masked

    @property
    def fired(self) -> int:
        """Number of interrupts sent to the client."""
        return self.line.fired

    @property
    def unmasks(self) -> int:
        """Number of unmasks by the client."""
        return self.line.unmasks

    def set_level(self, level: bool) -> None:
        """Set the NIC's level."""
        self.line.set_level(level)

    def message(self, address: int, data: int) -> None:
        """Send a message; the client emulates its address and data, so they are not used here."""
        if self._messages:
            self.line.trigger()
        else:
            self._lost = True

    def unmask(self) -> None:
        """Unmask the interrupt; a pending one is sent now."""
        self.line.let()

    def apply(self, request: SetIrqs, fds: Sequence[int]) -> None:
        """Execute DEVICE_SET_IRQS; borrows `fds`.  Raises: Refused."""
        if request.index not in self._indices():
            if request.count:
                raise Refused(errno.EINVAL, f"SET_IRQS: index {request.index} has no interrupt")
            return
        name = "MSI" if request.index else "INTx"
        if request.start != 0 or request.count > 1:
            raise Refused(
                errno.EINVAL,
                f"SET_IRQS: {name} {request.start} + {request.count}: there is one, number 0",
            )
        if bool(request.index) != self._messages:
            if not request.count:
                return  # disabled
            self._turn_off()
            self.line.automask = not request.index
        if not request.count:
            self._turn_off()
            return
        if request.data_kind == IrqFlags.DATA_EVENTFD:
            fd = _eventfd(fds)
            if request.action == IrqFlags.ACTION_TRIGGER:
                self._set_trigger(fd)
            elif request.action == IrqFlags.ACTION_UNMASK:
                self._set_unmask(fd)
            else:
                if fd >= 0:
                    os.close(fd)
                raise Refused(errno.ENOTSUP, f"SET_IRQS: no eventfd masks {name}")
        elif request.data_kind == IrqFlags.DATA_BOOL and not request.data[0]:
            return
        elif request.action == IrqFlags.ACTION_MASK:
            self.line.masked = True
        elif request.action == IrqFlags.ACTION_UNMASK:
            self.unmask()
        else:
            self.line.trigger()  # a test by the client

    def _set_trigger(self, fd: int) -> None:
        old, self._trigger = self._trigger, fd
        self.line.attach(fd)
        if fd >= 0 and self._messages and self._lost:
            self._lost = False
            self.line.trigger()
        if old >= 0:
            os.close(old)

    def _set_unmask(self, fd: int) -> None:
        if self._unmask >= 0:
            self._clock.remove_reader(self._unmask)
            os.close(self._unmask)
        self._unmask = fd
        if fd >= 0:
            self._clock.add_reader(fd, self._unmask_readable)

    def _unmask_readable(self) -> None:
        try:
            os.read(self._unmask, 8)
        except BlockingIOError:
            return
        self.unmask()

    def _indices(self) -> tuple[int, ...]:
        both = (VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX)
        return both if self.msi else both[:1]

    def describe(self, index: int) -> tuple[int, int]:
        """Return flags and number of the interrupts of an index, for DEVICE_GET_IRQ_INFO."""
        if index not in self._indices():
            return 0, 0
        if index == VFIO_PCI_MSI_IRQ_INDEX:
            return VFIO_IRQ_INFO_EVENTFD, 1
        return VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED, 1

    def disable(self) -> None:
        """Remove the client's settings; the NIC's level stays."""
        self._turn_off()
        self._lost = False

    def _turn_off(self) -> None:
        """Remove the eventfds and the mask, and return to INTx.

        A lost message stays recorded, because a client enables MSI in the device first, then turns
        INTx off, and sets the message's eventfd last.
        """
        self._set_trigger(-1)
        self._set_unmask(-1)
        self.line.automask = True


def _eventfd(fds: Sequence[int]) -> int:
    """Return our own, non-blocking copy of the eventfd in `fds`, -1 without one.

    Raises: Refused, for other files: a write to a pipe or a file of the client could block.
    """
    if not fds:
        return -1
    if len(fds) > 1:
        raise Refused(errno.EINVAL, f"SET_IRQS: {len(fds)} file descriptors for one interrupt")
    try:
        kind = os.readlink(f"/proc/self/fd/{fds[0]}")
    except OSError as error:
        raise Refused(error.errno or errno.EINVAL, f"SET_IRQS: /proc: {error.strerror}") from None
    if kind != "anon_inode:[eventfd]":
        raise Refused(errno.EINVAL, f"SET_IRQS: {kind} is not an eventfd")
    try:
        fd = os.dup(fds[0])
    except OSError as error:
        raise Refused(error.errno or errno.EMFILE, f"SET_IRQS: {error.strerror}") from None
    os.set_blocking(fd, False)
    return fd
