"""Byte queue limits: the algorithm, the e1000's ring beside a slow wire, the files of sysfs."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.api import net_sysfs
from stack.core.dev import dev_close
from stack.core.dynamic_queue_limits import (
    DQL_MAX_LIMIT,
    dql,
    dql_avail,
    dql_completed,
    dql_queued,
    dql_reset,
)
from stack.core.netdevice import QUEUE_STATE_STACK_XOFF
from stack.core.time64 import NSEC_PER_SEC
from stack.drivers.e1000 import defs as d
from tests.stack.drivers.e1000.machine import Machine, bring_up, recorded
from tests.stack.inet.test_tcp_nic import connected, finish

MS = 1_000_000
LIMITS = "queues/tx-0/byte_queue_limits"
ETH0 = f"eth0/{LIMITS}"


@dataclass
class Ring:
    """A queue that is always given what it may hold, in packets of `size` bytes."""

    queue: dql
    clock: VirtualClock
    size: int = 1500

    def fill(self) -> None:
        while dql_avail(self.queue) >= 0:
            dql_queued(self.queue, self.size)

    def send(self, most: int) -> int:
        """Complete whole packets of at most `most` bytes, and a millisecond passes."""
        queue = self.queue
        waiting = (queue.num_queued - queue.num_completed) // self.size
        done = min(waiting, most // self.size) * self.size
        self.clock.run_for(MS)
        dql_completed(queue, done, self.clock)
        return done


def ring(size: int = 1500, **fields: int) -> Ring:
    queue = dql()
    for name, value in fields.items():
        setattr(queue, name, value)
    dql_reset(queue)
    return Ring(queue, VirtualClock(), size)


@pytest.mark.parametrize("rate", [3000, 15_000, 120_000])
def test_the_limit_rises_until_the_ring_never_runs_empty(rate: int) -> None:
    """lib/dynamic_queue_limits.c: `rate` bytes go in each millisecond."""
    a = ring()
    for _ in range(60):
        a.fill()
        a.send(rate)
    for _ in range(500):
        a.fill()
        assert a.send(rate) == rate
    assert rate <= a.queue.limit + a.size <= 3 * rate


def test_the_limit_falls_by_the_least_excess_of_a_second() -> None:
    a = ring()
    for _ in range(60):
        a.fill()
        a.send(120_000)
    high = a.queue.limit
    for _ in range(990):
        a.fill()
        a.send(6000)
    assert a.queue.limit > high - 2 * 1500
    for _ in range(4000):
        a.fill()
        assert a.send(6000) == 6000
    assert 6000 <= a.queue.limit + 1500 <= 3 * 6000


def test_a_shorter_hold_time_falls_sooner() -> None:
    a = ring(slack_hold_time=10 * MS)
    for _ in range(60):
        a.fill()
        a.send(120_000)
    for _ in range(100):
        a.fill()
        a.send(6000)
    assert a.queue.limit < 3 * 6000


def test_bounds_are_kept_and_the_upper_wins() -> None:
    """The last packet may go beyond the limit, as its length is not known before."""
    low = ring(min_limit=50_000, max_limit=60_000)
    for _ in range(50):
        low.fill()
        assert 50_000 < low.queue.num_queued - low.queue.num_completed <= 60_000 + 1500
        low.send(200_000)
    assert ring(min_limit=9000).queue.limit == 9000
    both = ring(min_limit=9000, max_limit=4000)
    both.fill()
    both.send(100_000)
    assert both.queue.limit == 4000


def test_more_sent_than_queued_is_refused() -> None:
    a = ring()
    dql_queued(a.queue, 100)
    with pytest.raises(ValueError, match="count=101, queued are 100"):
        dql_completed(a.queue, 101, a.clock)
    assert (a.queue.num_queued, a.queue.num_completed) == (100, 0)


@given(st.lists(st.tuples(st.integers(1, 65_536), st.integers(0, 1 << 20)), max_size=200))
def test_no_limit_leaves_the_bounds_and_an_empty_ring_takes_a_packet(
    steps: list[tuple[int, int]],
) -> None:
    a = ring(min_limit=1000, max_limit=100_000)
    queue = a.queue
    for size, done in steps:
        a.size = size
        if dql_avail(queue) >= 0:
            dql_queued(queue, size)
        waiting = queue.num_queued - queue.num_completed
        a.clock.run_for(100 * MS)
        dql_completed(queue, min(done, waiting), a.clock)
        assert 1000 <= queue.limit <= 100_000
        assert queue.num_completed <= queue.num_queued
        if queue.num_completed == queue.num_queued:
            assert dql_avail(queue) == queue.limit


# -- the driver ------------------------------------------------------------------------------------


def bulk(minimum: int) -> tuple[int, int, float]:
    """Send with eight connections for two seconds over 100 Mbit/s.

    Of the second half: the bytes that arrived, the most that were in the ring, and the mean number
    of packets that waited in the queue.
    """
    net, clients, servers = connected(8, rate_bps=100_000_000, queue_frames=2)
    dev = net.a.machine.init_net.dev_by_name["eth0"]
    net_sysfs.store(net.a.machine.init_net, f"{ETH0}/limit_min", str(minimum))
    got = held = queued = 0
    for step in range(2000):
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(bytes(65_536))
        net.clock.run_for(MS)
        came = sum(len(server.recv(1 << 20)) for server in servers if server.readable)
        if step >= 1000:
            got += came
            held = max(held, int(net_sysfs.show(net.a.machine.init_net, f"{ETH0}/inflight")))
            queued += dev.qdisc.qlen
    finish(net, [*clients, *servers])
    return got, held, queued / 1000


@pytest.mark.slow
def test_what_waits_is_in_the_queue_and_the_wire_as_busy() -> None:
    got, held, queued = bulk(0)
    all_got, all_held, all_queued = bulk(1 << 30)
    assert got > 0.99 * all_got
    assert held < 0.6 * all_held
    assert all_queued < 1 < queued


def waiting(machine: Machine) -> int:
    return machine.dev.dql.num_queued - machine.dev.dql.num_completed


def held_back(**options: int) -> Machine:
    """A machine whose wire takes nothing, and whose ring has as much as it may."""
    machine = recorded(**options)
    machine.link.room = 0
    for _ in range(40):
        machine.send(bytes(1000))
    return machine


def test_a_full_ring_stops_the_queue_until_its_packets_are_sent() -> None:
    machine = held_back()
    assert machine.dev.queue_state == QUEUE_STATE_STACK_XOFF
    assert waiting(machine) == 1014  # nothing was sent yet, so the limit is 0
    assert machine.dev.qdisc.qlen == 39
    assert machine.adapter.ims_mask & d.E1000_ICR_TXDW
    machine.link.open_room(None)
    machine.run()
    assert len(machine.link.take()) == 40
    assert (machine.dev.queue_state, waiting(machine)) == (0, 0)
    assert machine.dev.dql.limit > 2 * 1014
    assert machine.buffers_in_use() == 0


def test_without_napi_the_interrupt_starts_the_queue_again() -> None:
    machine = held_back(NAPI=0)
    assert machine.dev.queue_state == QUEUE_STATE_STACK_XOFF
    machine.link.open_room(None)
    machine.run()
    assert len(machine.link.take()) == 40
    assert machine.dev.queue_state == 0


def test_a_new_ring_begins_again_with_the_bounds_of_the_old_one() -> None:
    machine = held_back()
    net = machine.dev.net
    net_sysfs.store(net, f"{ETH0}/limit_min", "3000")
    dev_close(machine.dev)
    assert (machine.dev.queue_state, waiting(machine)) == (0, 0)
    assert machine.dev.dql.limit == machine.dev.dql.min_limit == 3000
    machine.link.open_room(None)
    bring_up(machine)
    machine.link.take()
    machine.send(bytes(1000))
    machine.run()
    assert len(machine.link.take()) == 1


def test_a_queue_that_stays_full_is_a_hang_for_the_watchdog() -> None:
    """net/sched/sch_generic.c dev_watchdog, e1000_main.c e1000_tx_timeout."""
    machine = held_back()
    machine.nic.slot.bar_write(0, d.E1000_TCTL, 0, 4)  # the transmitter hangs
    machine.link.open_room(None)
    machine.run(12 * NSEC_PER_SEC)
    assert net_sysfs.show(machine.dev.net, "eth0/queues/tx-0/tx_timeout") == "1\n"
    machine.link.take()
    machine.send(bytes(1000))
    machine.run()
    assert len(machine.link.take()) >= 1
    assert machine.dev.queue_state == 0


# -- sysfs -----------------------------------------------------------------------------------------


def test_files_of_the_queues() -> None:
    """net/core/net-sysfs.c: a loopback device has no limits."""
    net = recorded().dev.net
    assert net_sysfs.names(net, "eth0/queues") == ("rx-0", "tx-0")
    files = ("hold_time", "inflight", "limit", "limit_max", "limit_min")
    assert net_sysfs.names(net, ETH0) == files
    texts = {name: net_sysfs.show(net, f"{ETH0}/{name}") for name in files}
    assert texts == {
        "hold_time": "1000\n",
        "inflight": "0\n",
        "limit": "0\n",
        "limit_max": "1879048192\n",
        "limit_min": "0\n",
    }
    lo = net_sysfs.names(net, "lo/queues/tx-0")
    assert lo == ("traffic_class", "tx_maxrate", "tx_timeout", "xps_cpus", "xps_rxqs")
    with pytest.raises(FileNotFoundError):
        net_sysfs.show(net, f"lo/{LIMITS}/limit")
    with pytest.raises(FileNotFoundError, match="has one queue"):
        net_sysfs.show(net, "eth0/queues/tx-0/traffic_class")


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("limit_max", "30000\n", "30000"),
        ("limit_max", "max", str(DQL_MAX_LIMIT)),
        ("limit_min", "5", "5"),
        ("limit", "7", "7"),
        ("hold_time", "20", "20"),
    ],
)
def test_limits_are_written(name: str, text: str, shown: str) -> None:
    net = recorded().dev.net
    net_sysfs.store(net, f"{ETH0}/{name}", text)
    assert net_sysfs.show(net, f"{ETH0}/{name}") == f"{shown}\n"


@pytest.mark.parametrize(
    ("name", "text", "error", "why"),
    [
        ("limit", str(DQL_MAX_LIMIT + 1), errno.EINVAL, "more than 1879048192"),
        ("limit", "-1", errno.EINVAL, "no number"),
        ("hold_time", "soon", errno.EINVAL, "no number"),
        ("inflight", "1", errno.EACCES, "cannot be written"),
    ],
)
def test_what_is_no_limit_is_refused(name: str, text: str, error: int, why: str) -> None:
    net = recorded().dev.net
    with pytest.raises(OSError, match=why) as raised:
        net_sysfs.store(net, f"{ETH0}/{name}", text)
    assert raised.value.errno == error
