"""``ethtool -d`` for the e1000: the register dump in words, laid out as the program prints it."""

from __future__ import annotations

from collections.abc import Callable

from stack.drivers.e1000 import defs as d

LABEL = 41
"""Column at which values begin."""


def _row(label: str, value: str) -> str:
    return f"{'      ' + label + ':':<{LABEL}}{value}"


def _choice(mask: int, yes: str, no: str) -> Callable[[int], str]:
    return lambda value: yes if value & mask else no


def _enabled(mask: int) -> Callable[[int], str]:
    return _choice(mask, "enabled", "disabled")


def _speed_selected(ctrl: int) -> str:
    speeds = {0: "10Mb/s", 1: "100Mb/s", 2: "1000Mb/s", 3: "not used"}
    return speeds[(ctrl & d.E1000_CTRL_SPD_SEL) >> 8]


def _link_speed(status: int) -> str:
    if status & d.E1000_STATUS_SPEED_1000:
        return "1000Mb/s"
    return "100Mb/s" if status & d.E1000_STATUS_SPEED_100 else "10Mb/s"


def _buffer_size(rctl: int) -> str:
    small = {0: "2048", 1: "1024", 2: "512", 3: "256"}
    large = {0: "reserved", 1: "16384", 2: "8192", 3: "4096"}
    return (large if rctl & d.E1000_RCTL_BSEX else small)[(rctl & d.E1000_RCTL_SZ_MASK) >> 16]


def _threshold(rctl: int) -> str:
    return {0: "1/2", 1: "1/4", 2: "1/8", 3: "reserved"}[rctl >> 8 & 3]


CTRL_ROWS = (
    ("Endian mode (buffers)", lambda value: "little"),
    ("Link reset", _choice(d.E1000_CTRL_LRST, "reset", "normal")),
    ("Set link up", _choice(d.E1000_CTRL_SLU, "1", "0")),
    ("Invert Loss-Of-Signal", _choice(d.E1000_CTRL_ILOS, "yes", "no")),
    ("Receive flow control", _enabled(d.E1000_CTRL_RFCE)),
    ("Transmit flow control", _enabled(d.E1000_CTRL_TFCE)),
    ("VLAN mode", _enabled(d.E1000_CTRL_VME)),
    ("Auto speed detect", _enabled(d.E1000_CTRL_ASDE)),
    ("Speed select", _speed_selected),
    ("Force speed", _choice(d.E1000_CTRL_FRCSPD, "yes", "no")),
    ("Force duplex", _choice(d.E1000_CTRL_FRCDPX, "yes", "no")),
)
STATUS_ROWS = (
    ("Duplex", _choice(d.E1000_STATUS_FD, "full", "half")),
    ("Link up", _choice(d.E1000_STATUS_LU, "link config", "no link config")),
    ("TBI mode", _enabled(d.E1000_STATUS_TBIMODE)),
    ("Link speed", _link_speed),
    ("Bus type", _choice(d.E1000_STATUS_PCIX_MODE, "PCI-X", "PCI")),
    ("Bus speed", _choice(d.E1000_STATUS_PCI66, "66MHz", "33MHz")),
    ("Bus width", _choice(d.E1000_STATUS_BUS64, "64-bit", "32-bit")),
)
RCTL_ROWS = (
    ("Receiver", _enabled(d.E1000_RCTL_EN)),
    ("Store bad packets", _enabled(d.E1000_RCTL_SBP)),
    ("Unicast promiscuous", _enabled(d.E1000_RCTL_UPE)),
    ("Multicast promiscuous", _enabled(d.E1000_RCTL_MPE)),
    ("Long packet", _enabled(d.E1000_RCTL_LPE)),
    ("Descriptor minimum threshold size", _threshold),
    ("Broadcast accept mode", _choice(d.E1000_RCTL_BAM, "accept", "ignore")),
    ("VLAN filter", _enabled(d.E1000_RCTL_VFE)),
    ("Canonical form indicator", _enabled(d.E1000_RCTL_CFIEN)),
    ("Discard pause frames", _choice(d.E1000_RCTL_DPF, "ignored", "filtered")),
    ("Pass MAC control frames", _choice(d.E1000_RCTL_PMCF, "pass", "don't pass")),
    ("Receive buffer size", _buffer_size),
)
TCTL_ROWS = (
    ("Transmitter", _enabled(d.E1000_TCTL_EN)),
    ("Pad short packets", _enabled(d.E1000_TCTL_PSP)),
    ("Software XOFF Transmission", _enabled(1 << 22)),
    ("Re-transmit on late collision", _enabled(d.E1000_TCTL_RTLC)),
)
PHY_ROWS = (
    ("Polarity", 13, _choice(d.M88E1000_PSSR_REV_POLARITY, "reversed", "normal")),
    ("Crossover", 13, _choice(d.M88E1000_PSSR_MDIX, "MDI-X", "MDI")),
    ("Local receiver", 24, _choice(d.SR_1000T_LOCAL_RX_STATUS, "OK", "not OK")),
    ("Remote receiver", 25, _choice(d.SR_1000T_REMOTE_RX_STATUS, "OK", "not OK")),
)

SECTIONS = (
    (0, "0x00000: CTRL (Device control register)", CTRL_ROWS),
    (1, "0x00008: STATUS (Device status register)", STATUS_ROWS),
    (2, "0x00100: RCTL (Receive control register)", RCTL_ROWS),
    (3, "0x02808: RDLEN (Receive desc length)", ()),
    (4, "0x02810: RDH   (Receive desc head)", ()),
    (5, "0x02818: RDT   (Receive desc tail)", ()),
    (6, "0x02820: RDTR  (Receive delay timer)", ()),
    (7, "0x00400: TCTL (Transmit ctrl register)", TCTL_ROWS),
    (8, "0x03808: TDLEN (Transmit desc length)", ()),
    (9, "0x03810: TDH   (Transmit desc head)", ()),
    (10, "0x03818: TDT   (Transmit desc tail)", ()),
    (11, "0x03820: TIDV  (Transmit delay timer)", ()),
)


def e1000_dump_text(words: list[int]) -> str:
    """Return the text for the 32 words of e1000_get_regs."""
    lines = ["MAC Registers", "-------------"]
    for index, title, rows in SECTIONS:
        lines.append(f"{title:<{LABEL}}0x{words[index]:08X}")
        lines += [_row(label, show(words[index])) for label, show in rows]
    lines.append(f"{'PHY type:':<{LABEL}}{'M88' if words[12] == d.e1000_phy_m88 else 'unknown'}")
    lines.append(f"{'M88 PHY STATUS REGISTER:':<{LABEL}}0x{words[13]:08X}")
    lines += [_row(label, show(words[index])) for label, index, show in PHY_ROWS]
    lines.append(f"{'0x05820: MANC  (Management control)':<{LABEL}}0x{words[26]:08X}")
    return "\n".join(lines) + "\n"
