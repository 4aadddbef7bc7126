"""Our driver on the e1000 that QEMU emulates: probe, then TCP through it to a host of our own."""

import hashlib
import time

from e1000emu.clock import RealClock
from e1000emu.embed.qtest import QtestMachine
from e1000emu.lab import add_nic, pump
from stack.host import Host
from stack.socket import create_connection, create_server

DATA = bytes(range(256)) * 16384  # 4 MiB

clock = RealClock()  # QEMU's time is real
with QtestMachine(clock) as qemu:
    a = Host("a", clock=clock, ram=qemu.ram)  # its memory is QEMU's
    qemu.connect_irq(a.irq_line(qemu.irq))
    dev = a.pci_add(qemu.slot, qemu.irq)
    if dev is None:
        raise SystemExit("no driver took the device")
    print(f"{dev.name}: {dev.priv.pdev} of QEMU, {dev.dev_addr.hex(':')}")
    print(f"probed in {qemu.qtest.commands} accesses")

    b = Host("b", clock=clock)
    add_nic(b, qemu.link, addr="10.0.0.2/24", wait=False)
    a.ifconfig("eth0", "10.0.0.1/24", up=True)
    if not a.wait_carrier("eth0"):
        raise SystemExit("no link")

    listener = create_server(b, ("10.0.0.2", 5001))
    sender = create_connection(a, ("10.0.0.2", 5001))
    receiver, _ = listener.accept()
    digest, pieces = hashlib.sha256(), iter([memoryview(DATA)])
    before, start = qemu.qtest.commands, time.monotonic()
    received = pump(sender, receiver, lambda: next(pieces, None), digest.update)
    seconds = time.monotonic() - start
    if digest.digest() != hashlib.sha256(DATA).digest():
        raise SystemExit("the bytes differ")
    print(
        f"{received} bytes of TCP in {seconds:.3f} s ({received * 8 / seconds / 1e6:.0f} Mbit/s), "
        f"{qemu.qtest.commands - before} accesses, {qemu.interrupts} interrupts"
    )
    a.close()
    b.close()
clock.close()
