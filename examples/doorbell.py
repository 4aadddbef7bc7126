"""A PCI device of one's own on our vfio-user server: it sums bytes of the guest's memory.

One BAR with four registers. A guest writes ADDRESS and LENGTH, then rings DOORBELL; the device
reads the bytes by DMA, puts their sum into RESULT and raises INTA#, which a read of RESULT lowers.
Start it with the path of a socket, and QEMU with -device vfio-user-pci on that socket.
"""

import sys
from typing import Any

from e1000emu.embed import DeviceServer, PciDevice

ADDRESS, LENGTH, DOORBELL, RESULT = 0x0, 0x4, 0x8, 0xC
MAX_BYTES = 1 << 20


class Doorbell(PciDevice):
    """Vendor 1234 is nobody's; class FF0000 says that no driver of an operating system fits."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(
            **ports, vendor_id=0x1234, device_id=0x0D00, class_code=0xFF0000, bars={0: 16}
        )
        self.registers = dict.fromkeys((ADDRESS, LENGTH, DOORBELL, RESULT), 0)

    def reset(self) -> None:
        self.registers = dict.fromkeys(self.registers, 0)
        super().reset()

    def read(self, bar: int, off: int, size: int) -> int:
        if off == RESULT:
            self.set_interrupt(False)
        return self.registers.get(off, 0)

    def write(self, bar: int, off: int, value: int, size: int) -> None:
        if off in (ADDRESS, LENGTH):
            self.registers[off] = value
        elif off == DOORBELL:
            count = min(self.registers[LENGTH], MAX_BYTES)
            data = self.memory.read(self.registers[ADDRESS], count)
            self.registers[RESULT] = sum(data) & 0xFFFF_FFFF
            self.set_interrupt(True)


if __name__ == "__main__":
    DeviceServer(sys.argv[1], Doorbell, report=print).serve_forever()
