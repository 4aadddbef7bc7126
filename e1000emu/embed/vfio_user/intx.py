"""INTx over eventfds: level in the device, edges to the client, masked until it says UNMASK.

A rise writes the trigger eventfd and masks the interrupt, as the client expects of an automasked
one.  Its UNMASK comes when the guest has touched a register after the interrupt: when the level is
still high then, the eventfd is written again at once, or that interrupt would be lost.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from e1000emu.embed.vfio_user.protocol import (
    VFIO_PCI_INTX_IRQ_INDEX,
    IrqFlags,
    Refused,
    SetIrqs,
)
from e1000emu.ports import Clock
from fastpath.macpath import EventLine

__all__ = ["Intx"]


class Intx:
    """The NIC's interrupt line (`ports.InterruptLine`), to a client.  Call with the lock held."""

    __slots__ = ("_clock", "_trigger", "_unmask", "line")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._trigger = -1
        self._unmask = -1
        self.line = EventLine()
        """The compiled part: level, mask and the trigger eventfd."""

    @property
    def level(self) -> bool:
        """The NIC's level."""
        return self.line.level

    @property
    def masked(self) -> bool:
        """The client was told and has not unmasked since, or it has masked."""
        return self.line.masked

    @property
    def fired(self) -> int:
        """How often the client was told."""
        return self.line.fired

    @property
    def unmasks(self) -> int:
        """How often the client has unmasked."""
        return self.line.unmasks

    def set_level(self, level: bool) -> None:
        """Take the NIC's level."""
        self.line.set_level(level)

    def unmask(self) -> None:
        """The client lets the next interrupt through; one that waits comes now."""
        self.line.let()

    def apply(self, request: SetIrqs, fds: Sequence[int]) -> None:
        """Do what DEVICE_SET_IRQS asks; borrows `fds`.  Raises: Refused."""
        if request.index != VFIO_PCI_INTX_IRQ_INDEX:
            if request.count:
                raise Refused(errno.EINVAL, f"SET_IRQS: index {request.index} has no interrupt")
            return
        if request.start != 0 or request.count > 1:
            raise Refused(
                errno.EINVAL,
                f"SET_IRQS: INTx {request.start} + {request.count}: there is one, number 0",
            )
        if not request.count:
            self.disable()
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
                raise Refused(errno.ENOTSUP, "SET_IRQS: no eventfd masks INTx")
        elif request.data_kind == IrqFlags.DATA_BOOL and not request.data[0]:
            return
        elif request.action == IrqFlags.ACTION_MASK:
            self.line.masked = True
        elif request.action == IrqFlags.ACTION_UNMASK:
            self.unmask()
        else:
            self.line.trigger()  # the client tests its own path

    def _set_trigger(self, fd: int) -> None:
        old, self._trigger = self._trigger, fd
        self.line.attach(fd)
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

    def disable(self) -> None:
        """Forget both eventfds and the mask; the level is the NIC's and stays."""
        self._set_trigger(-1)
        self._set_unmask(-1)


def _eventfd(fds: Sequence[int]) -> int:
    """Return an own, non-blocking copy of the eventfd in `fds`, -1 without one.

    Raises: Refused, for anything else: a write to a pipe or a file of the client could block.
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
