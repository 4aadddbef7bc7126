"""A TAP device of Linux: connects to the kernel's network stack.

Frames are read and written by compiled loops, up to `batch_frames` per wake-up. If the NIC has
no room, reading stops and the kernel's own queue fills, as behind a slow adapter.

If the kernel supports it, each packet carries a virtio_net_hdr. TCP is then passed in super-packets
of up to 64 KiB with one system call, segmented (or merged) on our side. In either case
the port above receives wire frames.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from e1000emu.clock import RealClock
from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES, ReadingLink, whole
from fastpath.nic.tap_end import TapEnd
from fastpath.nic.tap_gso import TapQueue

if TYPE_CHECKING:
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock
    from fastpath.base.batch import FrameBatch

log = logging.getLogger(__name__)

# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNGETFEATURES = 0x800454CF
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
TUN_F = {"csum": 0x01, "tso4": 0x02, "tso6": 0x04, "tso_ecn": 0x08, "uso4": 0x20, "uso6": 0x40}
# Requested sets, best first; an older kernel rejects a set with an unknown bit.
OFFLOADS = (
    ("csum", "tso4", "tso6", "tso_ecn", "uso4", "uso6"),  # USO: Linux 6.2
    ("csum", "tso4", "tso6", "tso_ecn"),
    ("csum", "tso4", "tso6"),
    ("csum",),
)
IFNAMSIZ = 16
SIOCGIFFLAGS, IFF_UP = 0x8913, 0x1  # linux/sockios.h, linux/if.h
VNET_HDR_BYTES = 10
# The longest IP packet: tot_len and the IPv6 payload length have 16 bits.
GSO_MAX_BYTES = 65535
# Retry interval of transmit() if the kernel has no room.
RETRY_NS = 1_000_000


class Tap(TapEnd, ReadingLink):
    """`Tap("tap0", clock)`: opens the TAP device, creating it if it does not exist.

    Needs a clock that can wait for file descriptors. The interface must be brought up at
    the other end (`ip link set tap0 up`); while it is down, frames to it are lost and
    counted. With `offload` super-packets are requested; `offloads` has what the kernel grants
    (names of TUN_F_*), `caps` what `transmit` accepts. A persistent device may have one queue or
    several.
    """

    def __init__(
        self, name: str, clock: Clock, *, batch_frames: int = 256, offload: bool = True
    ) -> None:
        super().__init__(clock)
        self._batch_frames = whole(self, "batch_frames", batch_frames, 1)
        self._queue_frames = DEFAULT_QUEUE_FRAMES
        before = _flags(name)
        fd, self.name, header_bytes, self.offloads = _open(name, offload)
        self.queue = TapQueue(fd, header_bytes)
        """The compiled reader and writer, and its counters."""
        self._carrier = True
        self._reading = self._lent = False
        self.hint = _hint(self.name, before)
        """Why the far end does not respond yet, and the command to fix it; or empty."""
        if self.hint:
            log.warning("%s", self.hint)

    @classmethod
    def open(cls, name: str, *, batch_frames: int = 256, offload: bool = True) -> Tap:
        """Return a `Tap` on a RealClock of its own, for a program with one clock."""
        return cls(name, RealClock(), batch_frames=batch_frames, offload=offload)

    def __repr__(self) -> str:
        return f"Tap({self.name!r}, fd={self.queue.fd})"

    @property
    def caps(self) -> LinkCaps:
        """A kernel that sends UDP super-packets also accepts them."""
        return replace(
            super().caps,
            gso_max_bytes=GSO_MAX_BYTES if self.queue.header_bytes else 0,
            gso_udp={"uso4", "uso6"} <= set(self.offloads),
        )

    def fileno(self) -> int:
        """Return the descriptor, -1 when closed."""
        return self.queue.fd

    def lend(self) -> TapQueue:
        """Let the caller read and write `queue` itself, in a thread of its own.

        `transmit` still works; the caller reports read errors to `failed`.
        """
        self._pause()
        self._lent = True
        self._drop_held("lent")
        return self.queue

    def reclaim(self, left: tuple[FrameBatch, int] | None = None) -> None:
        """Read and write `queue` here again; the borrower has stopped.

        `left` is a batch that it has read, and the index of its first undelivered frame.
        """
        self._lent = False
        if left is None:
            self._resume()
        else:
            self._batch, self._at = left
            self.clock.call_soon(self._give)

    def settle(self) -> None:
        """Update `stats` with the frames moved by the borrower."""
        queue, stats = self.queue, self.stats
        stats.rx_frames, stats.rx_bytes = queue.rx_frames, queue.rx_bytes
        stats.tx_frames, stats.tx_bytes = queue.tx_frames, queue.tx_bytes
        self._count_drops()

    def failed(self, error: int) -> bool:
        """Count a read error; False if the device no longer exists."""
        # EBADFD: the device was deleted. EIO: the interface is down for now.
        self.stats.drop(f"read {errno.errorcode.get(error, error)}", 1)
        if error == errno.EIO:
            return True
        self._pause()
        self._set_carrier(False)
        return False

    def _resume(self) -> None:
        if self._lent or self._reading or self.port is None or self.queue.fd < 0:
            return
        self.clock.add_reader(self.queue.fd, self._readable)
        self._reading = True

    def _pause(self) -> None:
        if self._reading and not self._lent:
            self.clock.remove_reader(self.queue.fd)
            self._reading = False

    def _count_drops(self) -> None:
        for reason, packets in self.queue.take_drops().items():
            self.stats.drop(reason, packets)

    def _given(self, end: int) -> None:
        """The port has accepted the frames only up to `end`."""
        if self._took(end):
            self._give()

    def rx_ready(self) -> None:
        """The port has room again."""
        if not self._held:
            return
        self._held = False
        if self._batch is not None and not self._reading:
            self.clock.call_soon(self._give)

    def _left(self, batch: FrameBatch, end: int, dropped: int, error: int) -> None:
        """The kernel rejected `dropped` frames of `batch`, or has no room from `end` on."""
        self._refused(dropped, error)
        if end == len(batch):
            pool.put(batch)
            return
        self._unsent.append([batch, end])
        self._unsent_frames += len(batch) - end
        if len(self._unsent) == 1:
            self._write()

    def _refused(self, frames: int, error: int) -> None:
        self.stats.drop(f"write {errno.errorcode.get(error, 'bad frame')}", frames)

    def _write(self) -> None:
        while self._unsent:
            entry = self._unsent[0]
            batch, start = entry
            if self.queue.fd < 0:
                end, dropped, error = len(batch), len(batch) - start, errno.EBADF
            else:
                end, dropped, error = self.queue.write(batch, start)
            self._refused(dropped, error)
            self._unsent_frames -= end - start
            if end < len(batch):
                entry[1] = end
                self.clock.call_at(self.clock.now_ns() + RETRY_NS, self._retry)
                return
            self._unsent.pop(0)
            pool.put(batch)

    def _retry(self) -> None:
        full = self._unsent_frames >= self._queue_frames
        self._write()
        if full and self.port is not None and self.tx_room():
            self.port.tx_ready()

    def close(self) -> None:
        """Close the device; one created here is removed."""
        self.detach()
        fd, self.queue.fd = self.queue.fd, -1
        if fd >= 0:
            # A persistent device stays, and its next user may need plain frames.
            with contextlib.suppress(OSError):
                fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
            os.close(fd)
            self._carrier = False


def _flags(name: str) -> int | None:
    """Return IFF_* of the interface `name`, None if there is none (of the caller's namespace)."""
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            reply = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode()[:15], 0))
        except OSError:
            return None
    return int(struct.unpack_from("H", reply, 16)[0])


def _hint(name: str, before: int | None) -> str:
    """Return what to do about an interface that was absent (`before` is None) or is down."""
    if before is not None and before & IFF_UP:
        return ""
    what = "did not exist and was made" if before is None else "is administratively down"
    return f"tap {name!r}: {what}; nothing answers there until: ip link set {name} up" + (
        f" && ip addr add ADDR/PREFIX dev {name}" if before is None else ""
    )


def _open(name: str, offload: bool) -> tuple[int, str, int, tuple[str, ...]]:
    """Open a TAP device; return its descriptor, name, header bytes per packet and offloads.

    Raises LinkError with the remedy.
    """
    if sys.platform != "linux":
        raise LinkError(f"tap {name!r}: TAP devices need Linux; use pair() or PcapReplay here")
    raw = name.encode()
    if not raw or len(raw) >= IFNAMSIZ or b"/" in raw or b" " in raw:
        raise LinkError(
            f"tap {name!r}: not an interface name; give 1 to 15 letters without / or space"
        )
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            remedy = "no TUN driver; run: modprobe tun"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = "not permitted; run as root, or give this user rights on the device file"
        else:
            remedy = str(error.strerror)
        raise LinkError(f"tap {name!r}: /dev/net/tun: {remedy}") from None
    try:
        found, header_bytes = _attach(fd, raw, offload)
    except OSError as error:
        os.close(fd)
        remedies = {
            errno.EPERM: "needs CAP_NET_ADMIN; run as root, or let root make it for you once: "
            f"ip tuntap add dev {name} mode tap user $USER",
            errno.EBUSY: "in use by another program; stop that one or choose another name",
            errno.EINVAL: "exists and is not a TAP device of this kind; choose another name",
        }
        remedy = remedies.get(error.errno or 0, str(error.strerror))
        raise LinkError(f"tap {name!r}: {remedy}") from None
    return fd, found, header_bytes, _offload(fd) if header_bytes else ()


def _attach(fd: int, name: bytes, offload: bool) -> tuple[str, int]:
    """Attach `fd` to the device and return its name and the header bytes per packet.

    Raises OSError.
    """
    features = 0
    with contextlib.suppress(OSError):
        features = struct.unpack("I", fcntl.ioctl(fd, TUNGETFEATURES, bytes(4)))[0]
    wanted = (IFF_VNET_HDR if offload else 0) & features
    try:
        reply = _set_iff(fd, name, wanted)
    except OSError as error:
        # A device created with multi_queue only accepts such queues.
        if error.errno != errno.EINVAL or not features & IFF_MULTI_QUEUE:
            raise
        reply = _set_iff(fd, name, wanted | IFF_MULTI_QUEUE)
    if wanted:
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_HDR_BYTES))
    # A persistent device keeps the offloads granted to an earlier user.
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
    return reply[:IFNAMSIZ].rstrip(b"\0").decode(), VNET_HDR_BYTES if wanted else 0


def _set_iff(fd: int, name: bytes, flags: int) -> bytes:
    return fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name, IFF_TAP | IFF_NO_PI | flags))


def _offload(fd: int) -> tuple[str, ...]:
    """Request the best set of offloads that this kernel grants."""
    for names in OFFLOADS:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, TUNSETOFFLOAD, sum(TUN_F[name] for name in names))
            return names
    return ()
