"""Failing hardware under two drivers: ours over two hosts, and examples/baremetal's in C.

Every model, set of faults and seed.  A case fails if data arrives wrong, if data is lost that the
driver promised to deliver, or if the driver hangs for ever.  Some faults may stop a driver; `STOPS`
says which and why, and then only wrong data is a failure.

Ours sends by TCP, which must deliver all of it.  The C driver sends and receives frames on a bench.
It is compiled into the case's process (cffi; needs the source tree and a C compiler). The frames
that it accepted must be on the wire, and the frames that it delivers must be those received.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import sys
import tempfile
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from e1000emu.campaign import Campaign, Case, Limits, Result
from e1000emu.campaign.builtin import of_the_tree
from e1000emu.insight.faults import Faults
from e1000emu.quantities import MS_NS, SECOND_NS
from fastpath.built import ROOT, is_tree

SETS = {
    "none": Faults(),
    "irq_lost": Faults(irq_lost=0.1),
    "irq_late": Faults(irq_late=0.5, irq_late_ns=5 * MS_NS),
    "overrun": Faults(overrun=0.1),
    "writeback": Faults(writeback_ns=MS_NS),
    "phy_busy": Faults(phy_busy=0.3),
    "flap": Faults(flap_ns=4 * SECOND_NS),
    "reset": Faults(reset_ns=8 * SECOND_NS),
    "tx_abort": Faults(abort=(("tx-data", 5),)),
    "rx_abort": Faults(abort=(("rx-data", 5),)),
    "eeprom": Faults(eeprom_bits=1),
    "remove": Faults(remove_ns=6 * SECOND_NS),
}
STOPS = {
    (
        "ours",
        "eeprom",
    ): "an interface whose EEPROM's checksum is wrong has no address to open it with",
    ("ours", "remove"): "the card is gone",
    ("ours", "reset"): "the driver sees a reset when it next sends, and TCP may give up before",
    ("c", "remove"): "the card is gone",
    ("c", "reset"): "the driver does not look for a reset, which may come while it waits",
}
GARBLES = {"tx_abort", "rx_abort"}
"""The card cannot read or store a frame's data: it is wrong, and the driver is not notified."""
LOSES = {"overrun", "flap", "reset", "rx_abort", "tx_abort", "remove"}
"""These lose frames, as any wire does; TCP retransmits them, the C driver does not."""
CHUNK, CHUNKS = 20_000, 8
FRAMES = 60

campaign = Campaign(
    "faults",
    axes={
        "driver": ["ours", "c"],
        "model": ["82540EM", "82545EM", "82544GC"],
        "faults": list(SETS),
        "seed": range(20),
    },
    limits=Limits(seconds=120),
    # Without the source tree there is no C driver.
    where=lambda c: c.driver == "ours" or is_tree(ROOT),
)


@campaign.case
def case(c: Case) -> Result:
    """Move data through the failing card."""
    faults = replace(SETS[c.faults], seed=c.seed)
    stops = STOPS.get((c.driver, c.faults), "")
    try:
        done = (ours if c.driver == "ours" else in_c)(c, faults)
    except Stopped as stopped:
        return Result(bool(stops), text=f"stopped: {stopped}" + (f": {stops}" if stops else ""))
    return Result(figures={"delivered": done})


class Stopped(Exception):
    """The driver gave up, or made no progress for longer than any fault lasts."""


def ours(c: Case, faults: Faults) -> int:
    """Send chunks by TCP, each way in turn; return the bytes."""
    try:
        a, b = c.hosts(models=(c.model, c.model), faults=faults, seed=c.seed)
    except OSError as error:
        raise Stopped(str(error)) from None
    listener = b.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("10.0.0.2", 80))
    listener.listen(1)
    one = a.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.settimeout(300)
    one.settimeout(300)
    done = 0
    try:
        connect(one)
        two, _ = listener.accept()
        two.settimeout(300)
        for number in range(CHUNKS):
            data = bytes((c.seed + number + i) % 251 for i in range(CHUNK))
            out, into = (one, two) if number % 2 == 0 else (two, one)
            out.sendall(data)
            got = b""
            while len(got) < CHUNK:
                more = into.recv(CHUNK)
                if not more:
                    raise Stopped("the connection was closed")
                got += more
            assert got == data, f"chunk {number} arrived wrong"
            done += CHUNK
            a.clock.run_for(SECOND_NS)
    except OSError as error:
        raise Stopped(f"{error} after {done:,} bytes") from None
    return done


def connect(sock: Any) -> None:
    """Connect; where interrupts are lost, ARP gives up before the driver looks again."""
    for left in reversed(range(5)):
        try:
            return sock.connect(("10.0.0.2", 80))
        except OSError as error:
            if error.errno != errno.EHOSTUNREACH or not left:
                raise


def in_c(c: Case, faults: Faults) -> int:
    """Compile the C driver, let it send and receive frames; return how many arrived."""
    example = of_the_tree("faults", "examples.baremetal.test_driver")
    module = compiled(example)
    bench = c.bench(model=c.model, faults=faults)
    with example.Driver(module.ffi, module.lib, bench) as driver:
        return exchange(c, faults, driver)


def exchange(c: Case, faults: Faults, driver: Any) -> int:
    """Send frames and receive as many; return how many arrived."""
    bench, lib, size = driver.bench, driver.lib, len(driver.memory)
    code = driver.call(lib.e1000_min_init, driver.ctx, driver.memory, driver.bus, size)
    if code:
        raise Stopped(f"e1000_min_init returns {code}")
    wire: list[bytes] = []
    sent: list[bytes] = []
    given: list[bytes] = []
    got: list[bytes] = []
    for number in range(FRAMES):
        wait(driver, lambda: driver.call(lib.e1000_min_link_up), "the link stays down")
        frame = b"\xff" * 6 + bytes([number, *[(c.seed + number) % 256] * 93])
        wait(driver, partial(driver.send, frame), "the transmit ring stays full", want=0)
        sent.append(frame)
        bench.link.inject(frame)
        given.append(frame)
        bench.clock.run_for(SECOND_NS // 5)
        wire += bench.link.take()
        while frame := driver.receive():
            got.append(frame)
    if c.faults not in LOSES:
        wait(driver, lambda: not driver.call(lib.e1000_min_pending), "frames stay unsent")
        wire += bench.link.take()
    lost = [len(set(sent) - set(wire)), len(set(given) - set(got))]
    wrong = [len(set(wire) - set(sent)), len(set(got) - set(given))]
    assert sum(wrong) <= (c.faults in GARBLES), f"wrong on the wire, at the driver: {wrong}"
    assert c.faults in LOSES or lost == [0, 0], f"lost {lost[0]} sent and {lost[1]} received"
    if not got or not wire:
        raise Stopped("nothing arrives")
    return len(wire) + len(got)


def wait(driver: Any, ask: Any, why: str, *, want: int | None = None) -> None:
    """Poll until the result is true, or `want`, for a virtual minute.  Raises: Stopped."""
    for _ in range(600):
        found = ask()
        if found == want if want is not None else found:
            return
        driver.bench.clock.run_for(SECOND_NS // 10)
    raise Stopped(why)


def compiled(example: ModuleType) -> ModuleType:
    """Return the driver as a module, compiled by the first case that needs it on this machine."""
    here = Path(example.HERE)
    files = [here / name for name in (*example.SOURCES, "e1000_min.h", "broken.h")]
    text = b"".join(path.read_bytes() for path in files) + example.DECLARATIONS.encode()
    tag = f"{sys.implementation.cache_tag}-{sha256(text).hexdigest()[:16]}"
    cache = Path(ROOT, "build", f"campaign-baremetal-{tag}")
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = next(cache.glob("*.so"), None)
        if found is None:
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                made = Path(example.build(directory))
                found = made.replace(cache / made.name)
    module: ModuleType = example.load(found)
    return module
