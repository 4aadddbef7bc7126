"""Drive the NIC without any stack: rings, doorbell, loopback of one frame, as a test of a driver
would."""

from e1000emu import Nic, VirtualClock
from e1000emu.testing import GuestRings, RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable, HostMemory

clock, line = VirtualClock(), RecordingLine()
link = RecordingLink()
ram = HostMemory(4 << 20)
memory = DmaTable()
memory.add(ram.base, ram.buffer)
nic = Nic(memory=memory, irq=line, link=link, clock=clock)

rings = GuestRings(nic.slot, ram)
rings.up()
clock.run_for(5_000_000_000)  # autonegotiation takes its time

frame = b"\xff" * 6 + bytes.fromhex("525400123456") + b"\x08\x00" + b"hello, wire" + bytes(35)
rings.send(frame)
clock.run_for(1_000_000)
print("on the wire:", [bytes(f)[:25] for f in link.frames])

link.inject(frame)
clock.run_for(1_000_000)
print("received:", [f.data[:25] for f in rings.receive()])
print("counters:", {name: value for name, value in nic.counters().items() if value})
