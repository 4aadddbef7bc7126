"""The client's memory as it maps and unmaps it: what the NIC reaches as bus master."""

from __future__ import annotations

import errno
import mmap
import os
import stat

from e1000emu.embed.vfio_user.protocol import MAX_DMA_MAPS, DmaMap, DmaUnmap, Refused
from fastpath.dma import DmaTable

__all__ = ["GuestMemory"]

NOT_SHARED = (
    "DMA_MAP: guest RAM comes without a file descriptor, so the NIC cannot reach it; start QEMU "
    "with -object memory-backend-memfd,id=mem,share=on,size=… and -machine memory-backend=mem"
)


class GuestMemory:
    """The pieces mapped now; `table` is for the Nic.  Call with the clock's lock held.

    A piece without descriptor (ROM, another device's memory) is remembered and not reachable: an
    access is a master abort.  The client is trusted not to shorten a file that it has mapped here;
    QEMU seals its memfds against that.
    """

    def __init__(self) -> None:
        self.table = DmaTable()
        self._pieces: dict[int, tuple[int, mmap.mmap | None]] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def mapped_bytes(self) -> int:
        """Bytes that the NIC can reach."""
        return sum(size for size, area in self._pieces.values() if area is not None)

    def map(self, piece: DmaMap, fd: int | None) -> None:
        """Add one piece; borrows `fd`.  Raises: Refused."""
        end = piece.iova + piece.size
        for base, (size, _) in self._pieces.items():
            if piece.iova < base + size and base < end:
                raise Refused(
                    errno.EEXIST,
                    f"DMA_MAP: {piece.iova:#x} + {piece.size:#x} bytes overlaps {base:#x}",
                )
        if len(self._pieces) >= MAX_DMA_MAPS:
            raise Refused(errno.ENOSPC, f"DMA_MAP: {MAX_DMA_MAPS} pieces are mapped already")
        area = None
        if fd is not None:
            area = self._add(piece, fd)
        elif piece.writable and piece.iova == 0:
            raise Refused(errno.EOPNOTSUPP, NOT_SHARED)
        self._pieces[piece.iova] = (piece.size, area)

    def _add(self, piece: DmaMap, fd: int) -> mmap.mmap:
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if piece.writable else 0)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refused(errno.EINVAL, "DMA_MAP: the descriptor is not a memfd or a file")
            area = mmap.mmap(fd, piece.size, mmap.MAP_SHARED, prot, offset=piece.offset)
            self.table.add(piece.iova, area, readable=piece.readable, writable=piece.writable)
        except BufferError as error:
            raise Refused(errno.EBUSY, f"DMA_MAP: {error}") from None
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            number = getattr(error, "errno", None) or errno.EINVAL
            raise Refused(
                number, f"DMA_MAP: {piece.size:#x} bytes at {piece.offset:#x}: {error}"
            ) from None
        return area

    def unmap(self, wanted: DmaUnmap) -> int:
        """Take back whole pieces; return how many bytes they were.  Raises: Refused."""
        if wanted.all:
            size = sum(n for n, _ in self._pieces.values())
            self.clear()
            return size
        end = wanted.iova + wanted.size
        inside = []
        for base, (size, _) in self._pieces.items():
            if base < end and wanted.iova < base + size:
                if base < wanted.iova or base + size > end:
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
        return sum(self._drop(base) for base in inside)

    def _drop(self, base: int) -> int:
        size, area = self._pieces[base]
        if area is not None:
            try:
                self.table.remove(base, size)
            except BufferError as error:
                raise Refused(errno.EBUSY, f"DMA_UNMAP: {error}") from None
            area.close()
        del self._pieces[base]
        return size

    def clear(self) -> None:
        """Take everything back."""
        for base in list(self._pieces):
            self._drop(base)
