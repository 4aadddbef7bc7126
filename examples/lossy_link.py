"""The same transfer over links of growing loss, in virtual time: what the loss costs, and that no
byte is lost."""

import hashlib
from functools import partial

from e1000emu.lab import pump, two_hosts
from stack.socket import create_connection, create_server

DATA = bytes(range(256)) * 8192  # 2 MiB

for loss in (0.0, 0.005, 0.01, 0.03):
    a, b = two_hosts(impair={"loss": loss, "delay_ns": 1_000_000, "seed": 7})
    listener = create_server(b, ("10.0.0.2", 5001))
    sender = create_connection(a, ("10.0.0.2", 5001))
    receiver, _ = listener.accept()
    start = a.clock.now_ns()
    digest, pieces = hashlib.sha256(), iter([memoryview(DATA)])
    pump(sender, receiver, partial(next, pieces, None), digest.update)
    seconds = (a.clock.now_ns() - start) / 1e9
    assert digest.digest() == hashlib.sha256(DATA).digest()
    print(
        f"loss {loss:5.1%}: {len(DATA) * 8 / seconds / 1e6:8.1f} Mbit/s of virtual time, "
        f"{a.mib.tcp.RetransSegs} segments sent again"
    )
    a.close()
    b.close()
