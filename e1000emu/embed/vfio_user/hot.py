"""The most frequent messages, which compiled code matches and answers.

These are 4-byte reads and writes of BAR 0, and the unmask of INTx. `fastpath.nic.datapath.BusPump`
knows nothing of vfio-user; this module defines their bytes.
"""

from __future__ import annotations

import struct

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command, IrqFlags
from fastpath.nic.datapath import MESSAGE_READ, MESSAGE_UNMASK, MESSAGE_WRITE, MessageTable

WORD = struct.Struct("<I")
ANY, ALL = 0, 0xFFFF_FFFF
HEADER_MASK = vu.HEADER.pack(ANY, 0xFFFF, ALL, ALL & ~vu.NO_REPLY, ANY)
"""Id and errno are arbitrary; of the flags only NO_REPLY may be set."""
HEADER_ECHO = vu.HEADER.pack(0xFFFF, 0xFFFF, 0, 0, 0)
"""An answer has the id and the command of its request."""
SIZE_AT, FLAGS_AT = 4, 8


def hot_messages() -> MessageTable:
    """Return the table for a `BusPump`."""
    table = MessageTable(
        header_bytes=vu.HEADER_BYTES, size_at=SIZE_AT, quiet_at=FLAGS_AT, quiet_bits=vu.NO_REPLY
    )
    offset_at = vu.HEADER_BYTES
    value_at = vu.HEADER_BYTES + vu.REGION_ACCESS.size
    bar0 = vu.REGION_ACCESS.pack(0, vu.VFIO_PCI_BAR0_REGION_INDEX, WORD.size)
    any_offset = vu.REGION_ACCESS.pack(0, ALL, ALL)
    unmask = vu.IRQ_SET.pack(
        vu.IRQ_SET.size,
        IrqFlags.DATA_NONE | IrqFlags.ACTION_UNMASK,
        vu.VFIO_PCI_INTX_IRQ_INDEX,
        0,
        1,
    )
    access_echo = b"\xff" * vu.REGION_ACCESS.size
    any_value = bytes(WORD.size)
    for kind, command, payload, mask, echo in (
        (MESSAGE_READ, Command.REGION_READ, bar0, any_offset, access_echo + any_value),
        (
            MESSAGE_WRITE,
            Command.REGION_WRITE,
            bar0 + any_value,
            any_offset + any_value,
            access_echo,
        ),
        (MESSAGE_UNMASK, Command.DEVICE_SET_IRQS, unmask, b"\xff" * len(unmask), b""),
    ):
        size, answer_size = vu.HEADER_BYTES + len(payload), vu.HEADER_BYTES + len(echo)
        table.add(
            kind,
            match=vu.HEADER.pack(0, command, size, 0, 0) + payload,
            mask=HEADER_MASK + mask,
            echo=HEADER_ECHO + echo,
            answer=vu.HEADER.pack(0, 0, answer_size, vu.TYPE_REPLY, 0) + bytes(len(echo)),
            offset_at=offset_at,
            value_at=value_at,
        )
    return table
