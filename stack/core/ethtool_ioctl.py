"""net/ethtool/ioctl.c: SIOCETHTOOL, ethtool's interface without netlink.

ifr_data points to a structure that begins with the command:

    | cmd 4 | ...                                   a number, or the structure of the command
    | ETHTOOL_GSTATS 4 | n 4 | n numbers of 8 |     the caller provides room for all n

`dev_ethtool(net, dev, address, memory)` reads and writes that structure through `memory`, since
the caller may be this process or a program that runs on the host. COMMANDS has a row per command.
Each takes the structure and returns the answer, built from stack.core.ethtool. Identification and
self-test, which take seconds, are refused; Python has them (ethtool_phys_id, ethtool_self_test).
State: none.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from stack.core import ethtool as core
from stack.core.errors import os_error
from stack.core.ethtool_names import (
    ETH_SS_PRIV_FLAGS,
    FEATURES,
    LINK_MODES,
    NEVER_CHANGE,
    STRING_SETS,
    features_of,
)
from stack.core.netdevice import (
    IFNAMSIZ,
    NETIF_F_ALL_TSO,
    NETIF_F_CSUM_MASK,
    NETIF_F_FRAGLIST,
    NETIF_F_GRO,
    NETIF_F_GSO,
    NETIF_F_HW_VLAN_CTAG_RX,
    NETIF_F_HW_VLAN_CTAG_TX,
    NETIF_F_LRO,
    NETIF_F_RXCSUM,
    NETIF_F_RXHASH,
    NETIF_F_SCTP_CRC,
    NETIF_F_SG,
    net_device,
    netif_device_present,
)
from stack.core.sock import ns_capable
from stack.core.uapi import CAP_NET_ADMIN
from stack.net import Net

U32 = struct.Struct("=I")
POINTER = struct.Struct("=Q")
GSTRING_LEN = 32
DRVINFO = struct.Struct("=I32s32s32s32s32s12sIIIII")
"""struct ethtool_drvinfo: driver, version, firmware, bus, expansion ROM; five counts."""
WOLINFO = struct.Struct("=III6s2x")
RINGPARAM = struct.Struct("=9I")
PAUSEPARAM = struct.Struct("=4I")
REGS = struct.Struct("=III")
EEPROM = struct.Struct("=IIII")
STRINGS = struct.Struct("=III")
SSET_INFO = struct.Struct("=IIQ")
COALESCE_BYTES = 92
LINK_SETTINGS = struct.Struct("=IIBBBBBBBbBBBB7I")
"""struct ethtool_link_settings: speed, duplex, port, address, negotiation ...; words of a map."""
LINK_WORDS = (len(LINK_MODES) + 31) // 32
LEGACY_SETTINGS = struct.Struct("=IIIHBBBBBBIIHBBI8x")
"""struct ethtool_cmd: supported, advertising; speed, duplex, port, address ...; speed, MDI-X."""
TS_INFO = struct.Struct("=IIi32x")
"""struct ethtool_ts_info: SOF_TIMESTAMPING_*, the number of a clock; kinds of hardware stamps."""
GFEATURES = struct.Struct("=II")
GET_FEATURES_BLOCK = struct.Struct("=IIII")
"""struct ethtool_get_features_block: available, requested, active, never changed."""
FEATURE_WORDS = (len(FEATURES) + 31) // 32
FLAGS = {
    1 << 7: NETIF_F_HW_VLAN_CTAG_TX,
    1 << 8: NETIF_F_HW_VLAN_CTAG_RX,
    1 << 15: NETIF_F_LRO,
    1 << 28: NETIF_F_RXHASH,
}
"""ETH_FLAG_* of ETHTOOL_GFLAGS -> the feature."""
MOST_BYTES = 1 << 16
GLINKSETTINGS = 0x4C


class Memory(NamedTuple):
    """The caller's memory: `read(address, size)`, `write(address, data)`. Raises: OSError
    EFAULT."""

    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], object]


Answer = Callable[[net_device, bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the size of its structure, its function, whether any user may call it.

    `more(structure)` gives the bytes behind the structure that the command reads.
    """

    size: int
    run: Answer
    anybody: bool = False
    more: Callable[[bytes], int] | None = None


def _text(words: str, size: int = GSTRING_LEN) -> bytes:
    """A string's field, which ends with a NUL."""
    return words.encode()[: size - 1].ljust(size, b"\0")


def _op(dev: net_device) -> core.ethtool_ops:
    """The driver's functions. Raises: OSError EOPNOTSUPP."""
    if dev.ethtool_ops is None:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no ethtool operations")
    ops: core.ethtool_ops = dev.ethtool_ops
    return ops


def _numbers(data: bytes, code: struct.Struct) -> tuple[int, ...]:
    return code.unpack_from(data)


def get_drvinfo(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GDRVINFO: `ethtool -i`."""
    info = core.ethtool_get_drvinfo(dev)
    names = (info.driver, info.version, info.fw_version, info.bus_info, info.erom_version)
    counts = (0, info.n_stats, info.testinfo_len, info.eedump_len, info.regdump_len)
    return DRVINFO.pack(*_numbers(data, U32), *map(_text, names), bytes(12), *counts)


def get_wol(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GWOL."""
    wol = core.ethtool_get_wol(dev)
    return WOLINFO.pack(*_numbers(data, U32), wol.supported, wol.wolopts, bytes(6))


def set_wol(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SWOL."""
    core.ethtool_set_wol(dev, WOLINFO.unpack_from(data)[2])


def value(get: Callable[[net_device], int]) -> Answer:
    """A command whose answer is one number (struct ethtool_value)."""

    def run(dev: net_device, data: bytes) -> bytes:
        return data[: U32.size] + U32.pack(get(dev) & 0xFFFFFFFF)

    return run


def get_msglevel(dev: net_device) -> int:
    """ETHTOOL_GMSGLVL. Raises: OSError EOPNOTSUPP."""
    if _op(dev).get_msglevel is None:
        raise os_error(errno.EOPNOTSUPP, dev.name)
    return core.ethtool_get_msglevel(dev)


def set_msglevel(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SMSGLVL."""
    core.ethtool_set_msglevel(dev, U32.unpack_from(data, U32.size)[0])


def nway_reset(dev: net_device, data: bytes) -> None:
    """ETHTOOL_NWAY_RST: `ethtool -r`."""
    core.ethtool_nway_reset(dev)


def get_coalesce(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GCOALESCE: rx_coalesce_usecs is its first member."""
    usecs = core.ethtool_get_coalesce(dev).rx_coalesce_usecs
    return data[: U32.size] + U32.pack(usecs) + bytes(COALESCE_BYTES - 2 * U32.size)


def set_coalesce(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SCOALESCE. Raises: OSError EOPNOTSUPP: other members than rx-usecs are set."""
    if any(data[2 * U32.size :]):
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} has rx-usecs only")
    core.ethtool_set_coalesce(dev, rx_usecs=U32.unpack_from(data, U32.size)[0])


def get_ringparam(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GRINGPARAM."""
    ring = core.ethtool_get_ringparam(dev)
    most, now = (ring.rx_max_pending, 0, 0, ring.tx_max_pending), (ring.rx_pending, 0, 0)
    return RINGPARAM.pack(*_numbers(data, U32), *most, *now, ring.tx_pending)


def set_ringparam(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SRINGPARAM. Raises: OSError EINVAL."""
    *_, rx, mini, jumbo, tx = RINGPARAM.unpack_from(data)
    if mini or jumbo:
        raise os_error(errno.EINVAL, f"{dev.name} has no mini and jumbo rings")
    core.ethtool_set_ringparam(dev, rx=rx, tx=tx)


def get_pauseparam(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GPAUSEPARAM."""
    pause = core.ethtool_get_pauseparam(dev)
    return PAUSEPARAM.pack(
        *_numbers(data, U32), bool(pause.autoneg), bool(pause.rx_pause), bool(pause.tx_pause)
    )


def set_pauseparam(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SPAUSEPARAM."""
    _, autoneg, rx, tx = PAUSEPARAM.unpack_from(data)
    core.ethtool_set_pauseparam(dev, autoneg=bool(autoneg), rx=bool(rx), tx=bool(tx))


def strings_of(dev: net_device, number: int) -> list[str]:
    """The strings of a set. Raises: OSError EOPNOTSUPP."""
    if number in (core.ETH_SS_TEST, core.ETH_SS_STATS, ETH_SS_PRIV_FLAGS):
        ops = _op(dev)
        if ops.get_strings is None or ops.get_sset_count is None:
            raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no strings")
        count = ops.get_sset_count(dev, number)
        if count < 0:
            raise os_error(-count, f"{dev.name} has no set of strings {number}")
        return ops.get_strings(dev, number) if count else []
    if number not in STRING_SETS:
        raise os_error(errno.EOPNOTSUPP, f"there is no set of strings {number}")
    return list(STRING_SETS[number])


def get_strings(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GSTRINGS: names of 32 bytes each."""
    cmd, number, _ = STRINGS.unpack_from(data)
    names = strings_of(dev, number)
    return STRINGS.pack(cmd, number, len(names)) + b"".join(map(_text, names))


def get_sset_info(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GSSET_INFO: how many strings the sets of a mask have."""
    cmd, reserved, mask = SSET_INFO.unpack_from(data)
    found, counts = 0, b""
    for number in range(64):
        if not mask >> number & 1:
            continue
        try:
            count = len(strings_of(dev, number))
        except OSError:
            continue
        found |= 1 << number
        counts += U32.pack(count)
    return SSET_INFO.pack(cmd, reserved, found) + counts


def get_stats(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GSTATS: `ethtool -S`."""
    values = list(core.ethtool_get_stats(dev).values())
    return data[: U32.size] + struct.pack(f"=I{len(values)}Q", len(values), *values)


def get_regs(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GREGS: `ethtool -d`; as many bytes as the caller has room for."""
    cmd, _, room = REGS.unpack_from(data)
    regs = core.ethtool_get_regs(dev)
    words = struct.pack(f"={len(regs.data)}I", *regs.data)
    size = min(room, len(words))
    return REGS.pack(cmd, regs.version, size) + words[:size]


def get_eeprom(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GEEPROM: `ethtool -e`."""
    cmd, _, offset, size = EEPROM.unpack_from(data)
    found = core.ethtool_get_eeprom(dev, offset, size)
    return EEPROM.pack(cmd, 0, offset, len(found)) + found


def set_eeprom(dev: net_device, data: bytes) -> None:
    """ETHTOOL_SEEPROM: `ethtool -E`."""
    _, magic, offset, size = EEPROM.unpack_from(data)
    core.ethtool_set_eeprom(dev, magic, offset, data[EEPROM.size : EEPROM.size + size])


def eeprom_bytes(data: bytes) -> int:
    """How many bytes ETHTOOL_SEEPROM writes."""
    size: int = EEPROM.unpack_from(data)[3]
    return size


def get_perm_addr(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GPERMADDR: `ethtool -P`. Raises: OSError EINVAL: too little room."""
    cmd, room = struct.unpack_from("=II", data)
    if room < dev.addr_len:
        raise os_error(errno.EINVAL, f"{dev.name}: an address has {dev.addr_len} bytes")
    addr = (dev.perm_addr or b"").ljust(dev.addr_len, b"\0")
    return struct.pack("=II", cmd, dev.addr_len) + addr


def get_link_settings(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GLINKSETTINGS. For a wrong number of words, returns the right number."""
    if _op(dev).get_link_ksettings is None:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no link settings")
    words = struct.unpack_from("=b", data, 15)[0]
    if words != LINK_WORDS:
        return LINK_SETTINGS.pack(GLINKSETTINGS, *[0] * 8, -LINK_WORDS, *[0] * 11)
    link = core.ethtool_get_settings(dev)
    head = LINK_SETTINGS.pack(
        *(GLINKSETTINGS, link.speed & 0xFFFFFFFF, link.duplex, core.PORTS[link.port]),
        *(link.phy_address, int(link.autoneg), 0),
        *(link.eth_tp_mdix, mdix_ctrl(link), LINK_WORDS),
        *[0] * 11,
    )
    offered, supported = core.mode_bits(link)
    maps = supported, offered, 0
    return head + b"".join(bits.to_bytes(4 * LINK_WORDS, "little") for bits in maps)


def mdix_ctrl(link: core.ethtool_link_ksettings) -> int:
    """eth_tp_mdix_ctrl; 0 of a link without modes, for which nobody has set it."""
    return link.eth_tp_mdix_ctrl if link.supported else core.ETH_TP_MDI_INVALID


def get_legacy_settings(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GSET: modes of the first word only, the speed in two halves."""
    link = core.ethtool_get_settings(dev)
    offered, supported = core.mode_bits(link)
    return LEGACY_SETTINGS.pack(
        *(*_numbers(data, U32), supported & 0xFFFFFFFF, offered & 0xFFFFFFFF),
        *(link.speed & 0xFFFF, link.duplex, core.PORTS[link.port], link.phy_address),
        *(0, int(link.autoneg), 0, 0, 0),
        *(link.speed >> 16 & 0xFFFF, link.eth_tp_mdix, mdix_ctrl(link), 0),
    )


def get_ts_info(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GET_TS_INFO: `ethtool -T`; stamps are of software, and no interface has a clock."""
    return TS_INFO.pack(*_numbers(data, U32), core.ethtool_get_ts_info(dev), -1)


def get_flags(dev: net_device) -> int:
    """ETHTOOL_GFLAGS."""
    return sum(flag for flag, feature in FLAGS.items() if dev.features & feature)


def has(features: int) -> Command:
    """A command that returns whether the interface has one of the features."""
    return Command(4, value(lambda dev: bool(dev.features & features)), True)


def get_features(dev: net_device, data: bytes) -> bytes:
    """ETHTOOL_GFEATURES: as many words of the sets as the caller has room for."""
    cmd, room = GFEATURES.unpack_from(data)
    sets = (dev.hw_features, dev.wanted_features, dev.features)
    found = (*map(features_of, sets), NEVER_CHANGE)
    blocks = [
        GET_FEATURES_BLOCK.pack(*(bits >> 32 * word & 0xFFFFFFFF for bits in found))
        for word in range(min(room, FEATURE_WORDS))
    ]
    return GFEATURES.pack(cmd, FEATURE_WORDS) + b"".join(blocks)


def no_channels(dev: net_device, data: bytes) -> None:
    """ETHTOOL_GCHANNELS: no driver has several queues. Raises: OSError EOPNOTSUPP."""
    raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no channels")


COMMANDS: dict[int, Command] = {
    0x01: Command(4, get_legacy_settings, True),
    0x03: Command(DRVINFO.size, get_drvinfo, True),
    0x04: Command(REGS.size, get_regs),
    0x05: Command(WOLINFO.size, get_wol),
    0x06: Command(WOLINFO.size, set_wol),
    0x07: Command(8, value(get_msglevel), True),
    0x08: Command(8, set_msglevel),
    0x09: Command(4, nway_reset),
    0x0A: Command(8, value(core.ethtool_get_link), True),
    0x0B: Command(EEPROM.size, get_eeprom),
    0x0C: Command(EEPROM.size, set_eeprom, more=eeprom_bytes),
    0x0E: Command(4, get_coalesce, True),
    0x0F: Command(COALESCE_BYTES, set_coalesce),
    0x10: Command(4, get_ringparam, True),
    0x11: Command(RINGPARAM.size, set_ringparam),
    0x12: Command(4, get_pauseparam, True),
    0x13: Command(PAUSEPARAM.size, set_pauseparam),
    0x14: has(NETIF_F_RXCSUM),
    0x16: has(NETIF_F_CSUM_MASK | NETIF_F_SCTP_CRC),
    0x18: has(NETIF_F_SG | NETIF_F_FRAGLIST),
    0x1B: Command(STRINGS.size, get_strings, True),
    0x1D: Command(8, get_stats, True),
    0x1E: has(NETIF_F_ALL_TSO),
    0x20: Command(8, get_perm_addr, True),
    0x23: has(NETIF_F_GSO),
    0x25: Command(4, value(get_flags), True),
    0x2B: has(NETIF_F_GRO),
    0x37: Command(SSET_INFO.size, get_sset_info, True),
    0x3A: Command(GFEATURES.size, get_features, True),
    0x3C: Command(4, no_channels, True),
    0x41: Command(4, get_ts_info, True),
    GLINKSETTINGS: Command(48, get_link_settings, True),
}
"""ETHTOOL_* -> its row."""


def dev_ethtool(net: Net, dev: net_device, address: int, memory: Memory) -> None:
    """net/ethtool/ioctl.c: SIOCETHTOOL. Raises: OSError EFAULT, EPERM, ENODEV, EOPNOTSUPP."""
    (cmd,) = U32.unpack(memory.read(address, U32.size))
    row = COMMANDS.get(cmd)
    if (row is None or not row.anybody) and not ns_capable(net, CAP_NET_ADMIN):
        raise os_error(errno.EPERM, f"{net.name}: the user is {net.uid}, not root")
    if not netif_device_present(dev):
        raise os_error(errno.ENODEV, f"{dev.name} is not there")
    if row is None:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name}: ethtool command {cmd:#x}")
    data = memory.read(address, row.size)
    if row.more is not None:
        data += memory.read(address + row.size, min(row.more(data), MOST_BYTES))
    answer = row.run(dev, data)
    if answer:
        memory.write(address, answer)


def ifr_data(ifr: bytearray) -> int:
    """The pointer of a struct ifreq."""
    address: int = POINTER.unpack_from(ifr, IFNAMSIZ)[0]
    return address
