"""Traffic control from Python: the queueing disciplines of an interface, as set by `tc`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from fastpath.errors import ArgumentError, check_type, known_words
from stack.core.extack import netlink_ext_ack
from stack.core.netdevice import net_device
from stack.netlink.tc_attrs import CLASS_OPTIONS, OPTIONS, Options
from stack.sched.sch_api import (
    TC_H_INGRESS,
    TC_H_MAJ_MASK,
    class_of,
    qdisc_all,
    qdisc_graft,
    qdisc_lookup,
)
from stack.sched.sch_generic import TC_H_ROOT, Qdisc, Qdisc_class
from stack.sched.sch_kinds import QDISCS, qdisc_create

PROBABILITY = 0xFFFFFFFF
"""Probability 1 in messages; a parameter that is a float is a probability."""


PLACES = {"root": TC_H_ROOT, "ingress": TC_H_INGRESS}
"""Parents of a discipline outside classes."""
NAMES = {number: name for name, number in PLACES.items()}


def tc_handle(where: str, text: str) -> int:
    """A handle or a class: "1:", "1:10" (hexadecimal), "root", "ingress". Raises: ArgumentError."""
    check_type(where, "handle", text, str, "text such as 1: or 1:10")
    if text in PLACES:
        return PLACES[text]
    major, colon, minor = text.partition(":")
    try:
        found = int(major, 16) << 16 | int(minor or "0", 16)
    except ValueError:
        found = -1
    if not colon or not 0 <= found < TC_H_ROOT or int(minor or "0", 16) > 0xFFFF:
        raise ArgumentError(f"{where}: {text!r} is no handle; write 1: or 1:10, hexadecimal")
    return found


def tc_options(
    where: str, table: Mapping[str, Options], kind: str, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Parameters in the discipline's form; None: none. Raises: ArgumentError."""
    if not given:
        return None
    known_words(f"{where} {kind}", given, table[kind].names if kind in table else ())
    opt = {
        name: round(value * PROBABILITY) if isinstance(value, float) else value
        for name, value in given.items()
    }
    for name, value in opt.items():
        kinds = (bytes, tuple, list) if name in table[kind].tables else (int,)
        check_type(where, name, value, kinds, "a table" if int not in kinds else "a number")
    try:
        table[kind].build(opt)
    except (struct.error, TypeError, OverflowError) as exc:
        raise ArgumentError(f"{where} {kind}: {dict(given)} does not fit: {exc}") from None
    return opt


def qdisc_add(
    dev: net_device, kind: str, parent: str, handle: str | None, opt: Mapping[str, Any]
) -> Qdisc:
    """Create a discipline at the root or below a class, replacing the present one.

    Raises: OSError, ArgumentError.
    """
    where = "qdisc_add"
    check_type(where, "kind", kind, str, "text such as tbf")
    if kind not in QDISCS:
        raise ArgumentError(f"{where}: no discipline {kind!r}; there are {', '.join(QDISCS)}")
    at = tc_handle(where, parent)
    placed = at in PLACES.values()
    above = None if placed else qdisc_lookup(dev, at & TC_H_MAJ_MASK)
    if above is None and not placed:
        raise ArgumentError(f"{where}: {dev.name} has no discipline for parent {parent!r}")
    if above is not None:
        class_of(above, at)
    number = tc_handle(where, handle) if handle is not None else 0
    new = qdisc_create(dev, kind, at, number, tc_options(where, OPTIONS, kind, opt))
    qdisc_graft(dev, new, above, at)
    return new


def qdisc_class(dev: net_device, classid: str) -> Qdisc_class:
    """The discipline of a class. Raises: ArgumentError."""
    found = qdisc_lookup(dev, tc_handle("class_add", classid) & TC_H_MAJ_MASK)
    if not isinstance(found, Qdisc_class):
        raise ArgumentError(f"class_add: {dev.name} has no discipline with classes for {classid!r}")
    return found


def class_add(dev: net_device, classid: str, parent: str, opt: Mapping[str, Any]) -> None:
    """Create a class, or change one. Raises: OSError, ArgumentError."""
    where = "class_add"
    q = qdisc_class(dev, classid)
    number = tc_handle(where, classid)
    given = tc_options(where, CLASS_OPTIONS, q.kind, opt)
    q.change_class(number, tc_handle(where, parent), given, q.find(number), netlink_ext_ack())


def handle_text(handle: int) -> str:
    """A handle or a class in the format of `tc`."""
    minor = handle & 0xFFFF
    return f"{handle >> 16:x}:{minor:x}" if minor else f"{handle >> 16:x}:"


def qdisc_show(dev: net_device) -> list[dict[str, Any]]:
    """The data of `tc -s qdisc show`: kind, handle, parent, parameters, statistics of each."""
    found = []
    for q in qdisc_all(dev):
        if q.invisible:
            continue
        q.update_stats()
        found.append(
            {
                "kind": q.kind,
                "handle": handle_text(q.handle),
                "parent": NAMES.get(q.parent) or handle_text(q.parent),
                "options": {k: v for k, v in (q.dump() or {}).items() if v is not None},
                "bytes": q.bstats.bytes,
                "packets": q.bstats.packets,
                "drops": q.qstats.drops,
                "overlimits": q.qstats.overlimits,
                "requeues": q.qstats.requeues,
                "backlog": q.qstats.backlog,
                "qlen": q.qlen,
                **(q.dump_stats() or {}),
            }
        )
    return found
