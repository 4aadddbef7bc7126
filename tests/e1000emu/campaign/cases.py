"""Campaigns for the tests of campaigns; workers import this file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from e1000emu.campaign import Campaign, Case, Limits, Result
from e1000emu.insight.faults import Faults

QUICK = Limits(seconds=1.0)


def traffic(c: Case) -> Result:
    """Send twelve frames of the seed's own size."""
    with c.bench(model=c.model, faults=c.faults) as bench:
        bench.guest.up()
        bench.clock.run_for(3_000_000_000)
        sent = bench.guest.send(*[bytes([c.seed]) * (60 + c.seed) for _ in range(12)])
        return Result(figures={"sent": sent, "worst": float("nan")}, text=f"{sent} sent")


PURE = Campaign(
    "pure",
    axes={
        "model": ["82540EM", "82544GC"],
        "faults": [None, Faults(irq_lost=0.2)],
        "seed": range(5),
    },
    again=2,
)
PURE.case(traffic)


def hosts(c: Case) -> None:
    """Send a datagram from host to host."""
    a, b = c.hosts(seed=c.seed)
    there, here = b.socket(2, 2), a.socket(2, 2)
    there.bind(("0.0.0.0", 7))
    here.sendto(b"x" * (100 + c.seed), ("10.0.0.2", 7))
    a.clock.run_for(1_000_000_000)
    assert len(there.recv(2000)) == 100 + c.seed
    assert c.seed != 1, "one"


HOSTS = Campaign("hosts", axes={"seed": range(2)})
HOSTS.case(hosts)


def trouble(c: Case) -> object:
    """End in one of many ways."""
    where = Path(c.note)
    match c.what:
        case "segv":
            bench = c.bench()
            bench.guest.up()
            print("seen before")
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit("enough")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "real-time signal":
            os.kill(os.getpid(), 40)
        case "hang":
            while True:
                pass
        case "hang in C":
            ctypes.PyDLL(None).sleep(1000)  # with the GIL held
        case "deaf":
            for number in range(1, 65):
                if number not in (9, 19, 32, 33):
                    signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            time.sleep(1000)
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "memory":
            return Result(figures={"bytes": len(bytearray(1 << 40))})
        case "a gigabyte":
            return Result(figures={"bytes": len(bytearray(1 << 30))})
        case "output":
            sys.stdout.write("x" * 1_000_000 + "\nthe end\n")
        case "output for ever":
            while True:
                sys.stdout.write("y" * 65536)
        case "family":
            sleep = ["sleep", "1000"]
            found = [subprocess.Popen(sleep, start_new_session=new).pid for new in (0, 1)]
            where.write_text(f"{os.getpid()} {found[0]} {found[1]}")
            if c.note.endswith("stay"):
                time.sleep(1000)
        case "unpicklable result":
            return object()
        case "figures":
            big = {"numpy": np.float64(1.5), "count": np.int32(7), "nan": np.nan, "big": 1 << 70}
            return Result(figures={**big, "text": "\udc80"}, text="\udcff")
        case "kill the server":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
    return None


TROUBLE = Campaign("trouble", axes={"what": ["segv"], "note": [""]}, limits=QUICK)
TROUBLE.function = trouble  # type: ignore[assignment]


def counting(c: Case) -> None:
    """Leave a line for each time that a case runs."""
    with open(os.environ["E1000EMU_TEST_COUNT"], "a") as file:
        file.write(f"{c.number}\n")


COUNTING = Campaign("counting", axes={"a": range(6), "b": ["x", "y", "z"]}, again=0)
COUNTING.case(counting)


def moody(c: Case) -> None:
    """Do something else in each process."""
    bench = c.bench()
    bench.guest.up()
    bench.clock.run_for(3_000_000_000)
    bench.guest.send(os.getpid().to_bytes(4, "little") * 15)


MOODY = Campaign("moody", axes={"seed": range(4)}, again=1)
MOODY.case(moody)


def alone(c: Case) -> Result:
    """Say on which processor it ran, and when."""
    begun = time.monotonic()
    time.sleep(0.05)
    (processor,) = os.sched_getaffinity(0)
    return Result(figures={"processor": processor, "begun": begun, "end": time.monotonic()})


ALONE = Campaign("alone", axes={"seed": range(12)}, exclusive=True, again=0)
ALONE.case(alone)


def sixes(c: Case) -> None:
    """Fail where steps 3 and 6 are both done and the number is large."""
    done = list(c.steps(range(10)))
    assert not ({3, 6} <= set(done) and c.number_of > 40), "three and six"


SIXES = Campaign("sixes", axes={"number_of": [100], "faults": [Faults(irq_lost=0.5, flap_ns=9)]})
SIXES.case(sixes)


def slow(c: Case) -> None:
    """Take a while, with a child."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    time.sleep(0.2 if c.seed < 2 else 30)


SLOW = Campaign("slow", axes={"seed": range(50)})
SLOW.case(slow)


def nothing(c: Case) -> None:
    """Do nothing."""


NOTHING = Campaign("nothing", axes={"seed": range(4)})
NOTHING.case(nothing)
