"""Interrupt lines: level, sharing, masking, nesting, screaming."""

from __future__ import annotations

import errno

import pytest

from stack.core import irq as irq_c
from stack.core.irq import (
    IRQ_HANDLED,
    IRQ_NONE,
    disable_irq,
    enable_irq,
    free_irq,
    local_irq_disable,
    local_irq_enable,
    request_irq,
)


def test_a_raised_line_runs_its_handler_at_once_until_it_falls(host):
    line = host.irq_line(10)
    left = [3]

    def handler(irq, dev):
        assert (irq, dev) == (10, "nic")
        assert host.machine.hardirq_count == 1
        left[0] -= 1
        if not left[0]:
            line.set_level(False)
        return IRQ_HANDLED

    assert request_irq(host.machine, 10, handler, "nic") == 0
    line.set_level(True)
    assert left == [0]
    assert line.count == 3
    assert host.machine.hardirq_count == 0


def test_all_handlers_of_a_shared_line_run(host):
    log = []
    for name in ("a", "b"):
        request_irq(
            host.machine,
            10,
            lambda irq, dev: (log.append(dev), host.irq_line(10).set_level(False), IRQ_HANDLED)[2],
            name,
        )
    host.irq_line(10).set_level(True)
    assert log == ["a", "b"]
    free_irq(host.machine, 10, "a")
    host.irq_line(10).set_level(True)
    assert log == ["a", "b", "b"]


def test_exclusive_lines_are_refused_to_a_second_user(host):
    assert request_irq(host.machine, 5, lambda irq, dev: IRQ_NONE, 1, flags=0) == 0
    assert request_irq(host.machine, 5, lambda irq, dev: IRQ_NONE, 2) == -errno.EBUSY
    assert request_irq(host.machine, 999, lambda irq, dev: IRQ_NONE, 2) == -errno.EINVAL


def test_a_masked_line_fires_when_unmasked(host):
    log = []
    line = host.irq_line(10)
    request_irq(
        host.machine, 10, lambda irq, dev: (log.append(1), line.set_level(False), 1)[2], "d"
    )
    disable_irq(host.machine, 10)
    disable_irq(host.machine, 10)
    line.set_level(True)
    enable_irq(host.machine, 10)
    assert log == []
    enable_irq(host.machine, 10)
    assert log == [1]


def test_a_line_raised_with_interrupts_off_fires_when_they_are_on(host):
    log = []
    line = host.irq_line(10)
    request_irq(
        host.machine, 10, lambda irq, dev: (log.append(1), line.set_level(False), 1)[2], "d"
    )
    local_irq_disable(host.machine)
    local_irq_disable(host.machine)
    line.set_level(True)
    local_irq_enable(host.machine)
    assert log == []
    local_irq_enable(host.machine)
    assert log == [1]


def test_a_line_raised_inside_a_handler_of_another_line_fires_after_it(host):
    log = []

    def first(irq, dev):
        log.append("first in")
        host.irq_line(10).set_level(False)
        host.irq_line(11).set_level(True)
        log.append("first out")
        return IRQ_HANDLED

    def second(irq, dev):
        log.append("second")
        host.irq_line(11).set_level(False)
        return IRQ_HANDLED

    request_irq(host.machine, 10, first, 1)
    request_irq(host.machine, 11, second, 2)
    host.irq_line(10).set_level(True)
    assert log == ["first in", "first out", "second"]


def test_a_line_up_before_the_handler_came_fires_at_request(host):
    log = []
    line = host.irq_line(10)
    line.set_level(True)
    request_irq(
        host.machine, 10, lambda irq, dev: (log.append(1), line.set_level(False), 1)[2], "d"
    )
    assert log == [1]


def test_an_interrupt_nobody_handles_is_left_alone(host):
    request_irq(host.machine, 10, lambda irq, dev: IRQ_NONE, "d")
    host.irq_line(10).set_level(True)
    assert host.irq_line(10).unhandled == 1


@pytest.mark.uncompiled
def test_a_screaming_interrupt_is_masked(host, monkeypatch):
    monkeypatch.setattr(irq_c, "SPURIOUS_LIMIT", 50)
    request_irq(host.machine, 10, lambda irq, dev: IRQ_HANDLED, "d")
    host.irq_line(10).set_level(True)
    assert host.irq_line(10).count == 50
    assert host.irq_line(10).depth == 1
