"""The client's memory as mapped and unmapped by it, for the NIC as bus master."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from e1000emu.embed.vfio_user.protocol import MAX_DMA_MAPS, DmaMap, DmaUnmap, Refused
from fastpath.base.dma import DmaTable
from fastpath.nic.busguard import BusGuard

RAM_STARTS = (0, 1 << 20, 1 << 32)
"""Where a PC's RAM begins: the low megabyte, above it, above the PCI hole."""
VGA_WINDOW = range(0xA0000, 0xC0000)
"""Where a PC shows display memory, with RAM on both sides."""


class Piece(NamedTuple):
    """One DMA_MAP in effect."""

    size: int
    area: mmap.mmap | None
    guard: BusGuard | None
    readable: bool
    writable: bool


class GuestMemory:
    """The pieces mapped now; `table` is for the Nic.  Call with the clock's lock held.

    A piece with a descriptor is mapped and reached directly. One without (ROM, RAM that the client
    does not share, another device's memory) is only recorded; DMA there uses messages.

    A client may shorten a file that is mapped here; the missing part then reads as zeros. QEMU's
    memfds are sealed against that; a file in /dev/shm cannot be, and Cloud Hypervisor seals none.
    """

    def __init__(self) -> None:
        self.table = DmaTable()
        self.changed: Callable[[], None] = _nothing
        """Called after each change."""
        self.any_by_message = False
        """Whether there is a piece without descriptor."""
        self.ram_by_message = False
        """Whether there is guest RAM without descriptor, which may hold rings and buffers."""
        self._pieces: dict[int, Piece] = {}
        self._shared = False
        """The client has shared RAM. While QEMU remaps it, only display memory is mapped."""
        self._bases: list[int] = []
        self._spans: list[tuple[int, int, bool, bool]] = []
        self._faults = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def mapped_bytes(self) -> int:
        """Bytes accessible directly."""
        return sum(piece.size for piece in self._pieces.values() if piece.area is not None)

    @property
    def message_bytes(self) -> int:
        """Bytes accessible by messages."""
        return sum(piece.size for piece in self._pieces.values() if piece.area is None)

    @property
    def faults(self) -> int:
        """Pages of shortened files that the NIC has accessed since the start."""
        guards = (piece.guard for piece in self._pieces.values())
        return self._faults + sum(guard.faults for guard in guards if guard is not None)

    def map(self, piece: DmaMap, fd: int | None) -> None:
        """Add one piece; borrows `fd`.  Raises: Refused."""
        end = piece.iova + piece.size
        for base, old in self._pieces.items():
            if piece.iova < base + old.size and base < end:
                raise Refused(
                    errno.EEXIST,
                    f"DMA_MAP: {piece.iova:#x} + {piece.size:#x} bytes overlaps {base:#x}",
                )
        if len(self._pieces) >= MAX_DMA_MAPS:
            raise Refused(errno.ENOSPC, f"DMA_MAP: {MAX_DMA_MAPS} pieces are mapped already")
        area, guard = (None, None) if fd is None else self._add(piece, fd)
        self._pieces[piece.iova] = Piece(piece.size, area, guard, piece.readable, piece.writable)
        self._shared |= area is not None and piece.writable
        self._sort()

    def _add(self, piece: DmaMap, fd: int) -> tuple[mmap.mmap, BusGuard]:
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if piece.writable else 0)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise Refused(errno.EINVAL, "DMA_MAP: the descriptor is not a memfd or a file")
            if piece.offset + piece.size > about.st_size:
                raise Refused(
                    errno.EINVAL,
                    f"DMA_MAP: {piece.size:#x} bytes at {piece.offset:#x} of a file that has "
                    f"{about.st_size:#x}",
                )
            # The block size of hugetlbfs is the huge page, which is mapped and replaced only as a
            # whole, while a PC's low memory may be split anywhere.
            block = about.st_blksize if about.st_blksize.bit_count() == 1 else 0
            block = max(block, mmap.PAGESIZE)
            skip = piece.offset % block
            size = min(
                -(-(skip + piece.size) // block) * block, about.st_size - piece.offset + skip
            )
            area = mmap.mmap(fd, size, mmap.MAP_SHARED, prot, offset=piece.offset - skip)
            guard = BusGuard(area, block)
            try:
                self.table.add(
                    piece.iova,
                    memoryview(area)[skip : skip + piece.size],
                    readable=piece.readable,
                    writable=piece.writable,
                )
            except BaseException:
                guard.close()
                raise
        except BufferError as error:
            raise Refused(errno.EBUSY, f"DMA_MAP: {error}") from None
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            number = getattr(error, "errno", None) or errno.EINVAL
            raise Refused(
                number, f"DMA_MAP: {piece.size:#x} bytes at {piece.offset:#x}: {error}"
            ) from None
        return area, guard

    def unmap(self, wanted: DmaUnmap) -> int:
        """Unmap whole pieces; return their size in bytes.  Raises: Refused."""
        if wanted.all:
            return self._drop_all()
        end = wanted.iova + wanted.size
        inside = []
        for base, piece in self._pieces.items():
            if base < end and wanted.iova < base + piece.size:
                if base < wanted.iova or base + piece.size > end:
                    raise Refused(
                        errno.EINVAL,
                        f"DMA_UNMAP: {wanted.iova:#x} + {wanted.size:#x} bytes cuts the piece at "
                        f"{base:#x} in two",
                    )
                inside.append(base)
        if not inside:
            raise Refused(
                errno.ENOENT, f"DMA_UNMAP: nothing at {wanted.iova:#x} + {wanted.size:#x} bytes"
            )
        try:
            return sum(self._drop(base) for base in inside)
        finally:
            self._sort()

    def _drop(self, base: int) -> int:
        piece = self._pieces[base]
        if piece.area is not None:
            try:
                self.table.remove(base, piece.size)
            except BufferError as error:
                raise Refused(errno.EBUSY, f"DMA_UNMAP: {error}") from None
            assert piece.guard is not None
            piece.guard.close()
            self._faults += piece.guard.faults
            # An array (insight/arrays.py) may still refer to a ring: the last reference unmaps it.
            with contextlib.suppress(BufferError):
                piece.area.close()
        del self._pieces[base]
        return piece.size

    def _drop_all(self) -> int:
        try:
            return sum(self._drop(base) for base in list(self._pieces))
        finally:
            self._sort()

    def clear(self) -> None:
        """Unmap everything after the client has disconnected."""
        self._shared = False
        self._drop_all()

    # --- memory by messages -------------------------------------------------------------------

    def _sort(self) -> None:
        """Find the pieces without descriptor, and whether RAM is among them."""
        pieces = sorted(self._pieces.items())
        self._spans = [
            (base, base + piece.size, piece.readable, piece.writable)
            for base, piece in pieces
            if piece.area is None
        ]
        self._bases = [span[0] for span in self._spans]
        self.any_by_message = bool(self._spans)
        self.ram_by_message = _ram_by_message(pieces, self._shared)
        self.changed()

    def parts(self, addr: int, n: int) -> list[tuple[int, int]]:
        """Return the parts of `addr` … `addr + n` readable by messages, as (address, bytes)."""
        out = []
        end = addr + n
        for base, above, readable, _ in self._spans[max(0, bisect_right(self._bases, addr) - 1) :]:
            if base >= end:
                break
            low, high = max(base, addr), min(above, end)
            if readable and low < high:
                out.append((low, high - low))
        return out

    def takes(self, addr: int, n: int, *, write: bool) -> bool:
        """Return whether all of it is memory for messages, and may be read (or written)."""
        end = addr + n
        for base, above, readable, writable in self._spans[
            max(0, bisect_right(self._bases, addr) - 1) :
        ]:
            if not base <= addr < above or not (writable if write else readable):
                return False
            addr = above
            if addr >= end:
                return True
        return False

    def shares(self, addr: int, n: int) -> bool:
        """Return whether all of it is in one piece that is mapped here, and may be written."""
        return any(
            base <= addr and addr + n <= base + piece.size
            for base, piece in self._pieces.items()
            if piece.area is not None and piece.writable
        )


def _ram_by_message(pieces: list[tuple[int, Piece]], shared: bool) -> bool:
    """Return whether a writable piece without descriptor is RAM.

    It is if the client has `shared` none. Beside shared RAM a piece is RAM when it touches such a
    piece or lies where RAM begins. Display memory is in the VGA window or in the PCI hole.
    """
    writable = [
        (base, piece)
        for base, piece in pieces
        if piece.writable and (piece.area is not None or base not in VGA_WINDOW)
    ]
    if not shared:
        return bool(writable)
    end = -1
    is_ram = by_message = False
    for base, piece in writable:
        if base != end:
            if is_ram and by_message:
                return True
            is_ram, by_message = base in RAM_STARTS, False
        is_ram |= piece.area is not None
        by_message |= piece.area is None
        end = base + piece.size
    return is_ram and by_message


def _nothing() -> None:
    pass
