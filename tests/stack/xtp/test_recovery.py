"""How long a transfer takes where packets get lost, in virtual time, beside our TCP."""

from __future__ import annotations

import socket as stdlib
from random import Random

import pytest

from e1000emu.lab import two_hosts
from stack.core.uapi import IPPROTO_TCP, IPPROTO_XTP
from stack.host import Host
from tests.support import examples

SIZE = 2 << 20
SEC = 1_000_000_000
DATA = Random(1).randbytes(SIZE)


def resolve(a: Host, b: Host) -> None:
    """Let each find the other's MAC address, so that no transfer waits for ARP."""
    for sender, receiver, addr in ((a, b, "10.0.0.2"), (b, a, "10.0.0.1")):
        with (
            sender.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as out,
            receiver.socket(stdlib.AF_INET, stdlib.SOCK_DGRAM) as into,
        ):
            into.bind((addr, 9))
            into.settimeout(0.3)
            for _ in range(200):
                try:
                    out.sendto(b"", (addr, 9))
                    into.recv(1)
                    break
                except OSError:  # lost: no answer, or no address
                    continue
            else:
                raise AssertionError(f"{addr} is not reached")


def transfer_ns(protocol: int, seed: int, loss: float) -> int:
    """Time from the first write until the reader has all, on a path of 2 ms."""
    a, b = two_hosts(impair={"loss": loss}, seed=seed, latency_ns=1_000_000)
    with a, b:
        resolve(a, b)
        with (
            b.socket(stdlib.AF_INET, stdlib.SOCK_STREAM, protocol) as listener,
            a.socket(stdlib.AF_INET, stdlib.SOCK_STREAM, protocol) as client,
        ):
            listener.bind(("10.0.0.2", 7))
            listener.listen()
            client.connect(("10.0.0.2", 7))
            server, _ = listener.accept()
            start = a.clock.now_ns()
            task = a.clock.spawn(lambda: (client.sendall(DATA), client.shutdown(stdlib.SHUT_WR)))
            got = bytearray()
            while part := server.recv(65536):
                got += part
            took = a.clock.now_ns() - start
            assert got == DATA
            task.join()
            server.close()
    return took


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.2])
def test_a_transfer_is_about_as_fast_as_tcp(loss: float) -> None:
    for seed in range(examples(4)):
        xtp, tcp = (transfer_ns(proto, seed, loss) for proto in (IPPROTO_XTP, IPPROTO_TCP))
        assert xtp <= 4 * tcp, f"seed {seed}: XTP {xtp / SEC:.3f} s, TCP {tcp / SEC:.3f} s"


@pytest.mark.slow
def test_a_fifth_of_all_packets_lost() -> None:
    """TCP takes minutes, so its time is no bound; a second is 500 round trips.

    `E1000EMU_EXAMPLES=4` tries 100 seeds.
    """
    times = [transfer_ns(IPPROTO_XTP, seed, 0.2) for seed in range(examples(25))]
    slow = {seed: f"{took / SEC:.3f} s" for seed, took in enumerate(times) if took > SEC}
    assert not slow
    assert sorted(times)[len(times) // 2] < SEC // 4
