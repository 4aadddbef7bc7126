"""include/linux/ethtool.h and net/ethtool/ioctl.c: a driver's functions for ``ethtool``.

Python calls the ethtool_* functions; for Debian's ``ethtool``, on a host by ``e1000emu exec``,
ethtool_ioctl.py and stack/netlink/ethnl.py do. Each takes the same steps:

    ethtool_set_ringparam(dev, ...)
        _op                         the driver's function, or OSError(EOPNOTSUPP)
        ethtool_get_ringparam       the current values, for arguments that the caller left out
        => ethtool_ops.set_ringparam            in the driver: drivers/e1000/ethtool.py
        _check                      -errno becomes OSError

The file keeps no state: a driver fills one `ethtool_ops`, and `net_device.ethtool_ops` points to
it. Features (-k, -K) need no driver function: they are bits of `net_device`, which
ethtool_set_features changes through __netdev_update_features. Read ethtool_ops first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from stack.core import netdevice, uapi
from stack.core.dev import __netdev_update_features, netdev_features_change
from stack.core.errors import os_error
from stack.core.ethtool_names import LINK_MODES, bits_of
from stack.core.netdevice import NETDEV_FEATURE_STRINGS, net_device, netif_running
from stack.core.workqueue import msleep

# enum ethtool_stringset
ETH_SS_TEST = 0
ETH_SS_STATS = 1

# Flags of ethtool_test
ETH_TEST_FL_OFFLINE = 1

# enum ethtool_phys_id_state
ETHTOOL_ID_INACTIVE = 0
ETHTOOL_ID_ACTIVE = 1
ETHTOOL_ID_ON = 2
ETHTOOL_ID_OFF = 3

WAKE_PHY = 1 << 0
WAKE_UCAST = 1 << 1
WAKE_MCAST = 1 << 2
WAKE_BCAST = 1 << 3
WAKE_ARP = 1 << 4
WAKE_MAGIC = 1 << 5

DUPLEX_HALF = 0
DUPLEX_FULL = 1
DUPLEX_UNKNOWN = 0xFF
SPEED_UNKNOWN = -1

ETH_TP_MDI_INVALID = 0
ETH_TP_MDI = 1
ETH_TP_MDI_X = 2
ETH_TP_MDI_AUTO = 3


@dataclass(slots=True)
class ethtool_drvinfo:
    """``ethtool -i``."""

    driver: str
    version: str
    fw_version: str = ""
    erom_version: str = ""
    bus_info: str = ""
    n_stats: int = 0
    testinfo_len: int = 0
    eedump_len: int = 0
    regdump_len: int = 0


@dataclass(slots=True)
class ethtool_ringparam:
    """``ethtool -g``: descriptors."""

    rx_max_pending: int = 0
    tx_max_pending: int = 0
    rx_pending: int = 0
    tx_pending: int = 0


@dataclass(slots=True)
class ethtool_coalesce:
    """``ethtool -c``: microseconds; e1000 takes 0, 1, 3 and 4 as modes, not times."""

    rx_coalesce_usecs: int = 0


@dataclass(slots=True)
class ethtool_pauseparam:
    """``ethtool -a``."""

    autoneg: bool = False
    rx_pause: bool = False
    tx_pause: bool = False


@dataclass(slots=True)
class ethtool_wolinfo:
    """Wake-on-LAN: masks of WAKE_*."""

    supported: int = 0
    wolopts: int = 0


@dataclass(slots=True)
class ethtool_regs:
    """``ethtool -d``: the driver's choice of registers and its version word."""

    version: int
    data: list[int]


PORT_TP, PORT_FIBRE = "Twisted Pair", "FIBRE"
PORTS = {PORT_TP: 0, PORT_FIBRE: 3}
"""PORT_TP, PORT_FIBRE as numbers."""
PORT_MODES = {PORT_TP: "TP", PORT_FIBRE: "FIBRE"}


@dataclass(slots=True)
class ethtool_link_ksettings:
    """``ethtool DEV``: link modes as Linux names them ("1000baseT/Full")."""

    speed: int = SPEED_UNKNOWN
    duplex: int = DUPLEX_UNKNOWN
    autoneg: bool = True
    port: str = PORT_TP
    phy_address: int = 0
    eth_tp_mdix: int = ETH_TP_MDI_INVALID
    eth_tp_mdix_ctrl: int = ETH_TP_MDI_AUTO
    supported: list[str] = field(default_factory=list)
    advertising: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ethtool_ops:
    """A driver's functions by the kernel's names; None = not offered. Setters give 0 or -errno."""

    get_coalesce: Callable[[net_device], ethtool_coalesce] | None = None
    get_drvinfo: Callable[[net_device], ethtool_drvinfo] | None = None
    get_eeprom: Callable[[net_device, int, int], bytes] | None = None
    get_eeprom_len: Callable[[net_device], int] | None = None
    get_ethtool_stats: Callable[[net_device], list[int]] | None = None
    get_link: Callable[[net_device], bool] | None = None
    get_link_ksettings: Callable[[net_device], ethtool_link_ksettings] | None = None
    get_msglevel: Callable[[net_device], int] | None = None
    get_pauseparam: Callable[[net_device], ethtool_pauseparam] | None = None
    get_regs: Callable[[net_device], ethtool_regs] | None = None
    get_regs_len: Callable[[net_device], int] | None = None
    get_ringparam: Callable[[net_device], ethtool_ringparam] | None = None
    get_sset_count: Callable[[net_device, int], int] | None = None
    get_strings: Callable[[net_device, int], list[str]] | None = None
    get_ts_info: Callable[[net_device], int] | None = None
    get_wol: Callable[[net_device], ethtool_wolinfo] | None = None
    nway_reset: Callable[[net_device], int] | None = None
    self_test: Callable[[net_device, int], tuple[bool, list[int]]] | None = None
    set_coalesce: Callable[[net_device, ethtool_coalesce], int] | None = None
    set_eeprom: Callable[[net_device, int, int, bytes], int] | None = None
    set_link_ksettings: Callable[[net_device, ethtool_link_ksettings], int] | None = None
    set_msglevel: Callable[[net_device, int], None] | None = None
    set_pauseparam: Callable[[net_device, ethtool_pauseparam], int] | None = None
    set_phys_id: Callable[[net_device, int], int] | None = None
    set_ringparam: Callable[[net_device, ethtool_ringparam], int] | None = None
    set_wol: Callable[[net_device, ethtool_wolinfo], int] | None = None


_NONE = ethtool_ops()
F = TypeVar("F")


def _ops(dev: net_device) -> ethtool_ops:
    return dev.ethtool_ops or _NONE


def _op(dev: net_device, op: F | None, name: str) -> F:
    """The driver's function `op`; OSError(EOPNOTSUPP) when it has none."""
    if op is None:
        raise os_error(errno.EOPNOTSUPP, f"{dev.name}: {name}")
    return op


def _check(dev: net_device, what: str, err: int | None) -> None:
    if err and err < 0:
        raise os_error(-err, f"{dev.name}: cannot {what}")


def ethtool_notify(dev: net_device, what: str) -> None:
    """net/ethtool/netlink.c: notify listeners of the ethtool family of a changed setting.

    `what` is the setting: "rings", "pause" ...
    """
    notify = dev.net.ethtool_notify
    if notify is not None:
        notify(dev, what)


def ethtool_get_drvinfo(dev: net_device) -> ethtool_drvinfo:
    """net/ethtool/ioctl.c: -i. The counts are those of the driver's other functions."""
    ops = _ops(dev)
    info = _op(dev, ops.get_drvinfo, "get_drvinfo")(dev)
    count = ops.get_sset_count
    return replace(
        info,
        n_stats=0 if count is None else max(count(dev, ETH_SS_STATS), 0),
        testinfo_len=0 if count is None else max(count(dev, ETH_SS_TEST), 0),
        eedump_len=0 if ops.get_eeprom_len is None else ops.get_eeprom_len(dev),
        regdump_len=0 if ops.get_regs_len is None else ops.get_regs_len(dev),
    )


def fixed_drvinfo(
    driver: str, version: str = "", **more: Any
) -> Callable[[net_device], ethtool_drvinfo]:
    """The get_drvinfo of a device of software: its answer is always the same."""
    return partial(_told, ethtool_drvinfo(driver, version, **more))


def _told(info: ethtool_drvinfo, dev: net_device) -> ethtool_drvinfo:
    return info


def ethtool_op_get_ts_info(dev: net_device) -> int:
    """net/ethtool/ioctl.c: get_ts_info of a driver that stamps what it sends, in software."""
    return (
        uapi.SOF_TIMESTAMPING_TX_SOFTWARE
        | uapi.SOF_TIMESTAMPING_RX_SOFTWARE
        | uapi.SOF_TIMESTAMPING_SOFTWARE
    )


def ethtool_get_ts_info(dev: net_device) -> int:
    """net/ethtool/common.c: -T: SOF_TIMESTAMPING_* of the interface. None has a hardware clock."""
    get = _ops(dev).get_ts_info
    if get is None:
        return uapi.SOF_TIMESTAMPING_RX_SOFTWARE | uapi.SOF_TIMESTAMPING_SOFTWARE
    return get(dev)


def ethtool_get_link(dev: net_device) -> bool:
    """net/ethtool/ioctl.c: link detected."""
    return netif_running(dev) and bool(_op(dev, _ops(dev).get_link, "get_link")(dev))


def ethtool_get_settings(dev: net_device) -> ethtool_link_ksettings:
    """net/ethtool/ioctl.c: speed, duplex, negotiation."""
    return _op(dev, _ops(dev).get_link_ksettings, "get_link_ksettings")(dev)


def mode_bits(link: ethtool_link_ksettings) -> tuple[int, int]:
    """Link modes advertised and supported, with negotiation and the port, which are modes too."""
    if not link.supported:
        return 0, 0
    port = bits_of([PORT_MODES[link.port]], LINK_MODES)
    negotiates = bits_of(["Autoneg"], LINK_MODES)
    offered = bits_of(link.advertising, LINK_MODES) | port | (negotiates if link.autoneg else 0)
    return offered, bits_of(link.supported, LINK_MODES) | port | negotiates


def ethtool_set_settings(
    dev: net_device,
    settings: ethtool_link_ksettings,
    told: tuple[str, ...] = ("linkinfo", "linkmodes"),
) -> None:
    """net/ethtool/ioctl.c: -s speed/duplex/autoneg. Listeners are notified of `told`."""
    set_settings = _op(dev, _ops(dev).set_link_ksettings, "set_link_ksettings")
    _check(dev, "set link settings", set_settings(dev, settings))
    for what in told:
        ethtool_notify(dev, what)


def ethtool_get_ringparam(dev: net_device) -> ethtool_ringparam:
    """net/ethtool/ioctl.c: -g."""
    return _op(dev, _ops(dev).get_ringparam, "get_ringparam")(dev)


def ethtool_set_ringparam(dev: net_device, *, rx: int | None = None, tx: int | None = None) -> None:
    """net/ethtool/ioctl.c: -G; EINVAL beyond the maxima."""
    ring = ethtool_get_ringparam(dev)
    ring.rx_pending = ring.rx_pending if rx is None else rx
    ring.tx_pending = ring.tx_pending if tx is None else tx
    if not 0 < ring.rx_pending <= ring.rx_max_pending:
        _check(dev, f"set {ring.rx_pending} rx descriptors", -errno.EINVAL)
    if not 0 < ring.tx_pending <= ring.tx_max_pending:
        _check(dev, f"set {ring.tx_pending} tx descriptors", -errno.EINVAL)
    set_ringparam = _op(dev, _ops(dev).set_ringparam, "set_ringparam")
    _check(dev, "set ring parameters", set_ringparam(dev, ring))
    ethtool_notify(dev, "rings")


def ethtool_get_coalesce(dev: net_device) -> ethtool_coalesce:
    """net/ethtool/ioctl.c: -c."""
    return _op(dev, _ops(dev).get_coalesce, "get_coalesce")(dev)


def ethtool_set_coalesce(dev: net_device, *, rx_usecs: int) -> None:
    """net/ethtool/ioctl.c: -C."""
    coalesce = ethtool_get_coalesce(dev)
    coalesce.rx_coalesce_usecs = rx_usecs
    set_coalesce = _op(dev, _ops(dev).set_coalesce, "set_coalesce")
    _check(dev, f"set rx-usecs {rx_usecs}", set_coalesce(dev, coalesce))
    ethtool_notify(dev, "coalesce")


def ethtool_get_pauseparam(dev: net_device) -> ethtool_pauseparam:
    """net/ethtool/ioctl.c: -a."""
    return _op(dev, _ops(dev).get_pauseparam, "get_pauseparam")(dev)


def ethtool_set_pauseparam(
    dev: net_device,
    *,
    autoneg: bool | None = None,
    rx: bool | None = None,
    tx: bool | None = None,
) -> None:
    """net/ethtool/ioctl.c: -A."""
    pause = ethtool_get_pauseparam(dev)
    pause.autoneg = pause.autoneg if autoneg is None else autoneg
    pause.rx_pause = pause.rx_pause if rx is None else rx
    pause.tx_pause = pause.tx_pause if tx is None else tx
    set_pauseparam = _op(dev, _ops(dev).set_pauseparam, "set_pauseparam")
    _check(dev, "set pause parameters", set_pauseparam(dev, pause))
    ethtool_notify(dev, "pause")


def ethtool_get_wol(dev: net_device) -> ethtool_wolinfo:
    """net/ethtool/ioctl.c: Supports Wake-on, Wake-on."""
    return _op(dev, _ops(dev).get_wol, "get_wol")(dev)


def ethtool_set_wol(dev: net_device, wolopts: int) -> None:
    """net/ethtool/ioctl.c: -s wol."""
    wol = ethtool_get_wol(dev)
    if wolopts & ~wol.supported:
        _check(dev, "set wake-on-lan", -errno.EINVAL)
    wol.wolopts = wolopts
    _check(dev, "set wake-on-lan", _op(dev, _ops(dev).set_wol, "set_wol")(dev, wol))
    ethtool_notify(dev, "wol")


def ethtool_get_regs(dev: net_device) -> ethtool_regs:
    """net/ethtool/ioctl.c: -d."""
    return _op(dev, _ops(dev).get_regs, "get_regs")(dev)


def ethtool_get_stats(dev: net_device) -> dict[str, int]:
    """net/ethtool/ioctl.c: -S: the driver's counters by name, in its order."""
    names = _op(dev, _ops(dev).get_strings, "get_strings")(dev, ETH_SS_STATS)
    return dict(
        zip(names, _op(dev, _ops(dev).get_ethtool_stats, "get_ethtool_stats")(dev), strict=True)
    )


def ethtool_self_test(dev: net_device, *, offline: bool = True) -> tuple[bool, dict[str, int]]:
    """net/ethtool/ioctl.c: -t: (passed, result by test; 0 = passed)."""
    names = _op(dev, _ops(dev).get_strings, "get_strings")(dev, ETH_SS_TEST)
    failed, results = _op(dev, _ops(dev).self_test, "self_test")(
        dev, ETH_TEST_FL_OFFLINE if offline else 0
    )
    return not failed, dict(zip(names, results, strict=True))


def ethtool_get_eeprom(dev: net_device, offset: int = 0, length: int | None = None) -> bytes:
    """net/ethtool/ioctl.c: -e: `length` bytes from `offset` (default: to the end)."""
    total = _op(dev, _ops(dev).get_eeprom_len, "get_eeprom_len")(dev)
    size = total - offset if length is None else length
    if offset < 0 or size < 0 or offset + size > total:
        _check(dev, f"read EEPROM bytes {offset}..{offset + size}", -errno.EINVAL)
    return _op(dev, _ops(dev).get_eeprom, "get_eeprom")(dev, offset, size) if size else b""


def ethtool_set_eeprom(dev: net_device, magic: int, offset: int, data: bytes) -> None:
    """net/ethtool/ioctl.c: -E; `magic` is the device id over the vendor id."""
    total = _op(dev, _ops(dev).get_eeprom_len, "get_eeprom_len")(dev)
    if not data or offset < 0 or offset + len(data) > total:
        _check(dev, f"write {len(data)} EEPROM bytes at {offset}", -errno.EINVAL)
    set_eeprom = _op(dev, _ops(dev).set_eeprom, "set_eeprom")
    _check(dev, "write EEPROM", set_eeprom(dev, magic, offset, data))


def ethtool_phys_id(dev: net_device, seconds: int = 2) -> None:
    """net/ethtool/ioctl.c: -p: blink the LED for `seconds`."""
    set_phys_id = _op(dev, _ops(dev).set_phys_id, "set_phys_id")
    rate = set_phys_id(dev, ETHTOOL_ID_ACTIVE)
    _check(dev, "identify", rate)
    try:
        for _ in range(seconds * rate):
            set_phys_id(dev, ETHTOOL_ID_ON)
            msleep(dev.machine, 500 // rate)
            set_phys_id(dev, ETHTOOL_ID_OFF)
            msleep(dev.machine, 500 // rate)
    finally:
        set_phys_id(dev, ETHTOOL_ID_INACTIVE)


def ethtool_nway_reset(dev: net_device) -> None:
    """net/ethtool/ioctl.c: -r: negotiate again."""
    _check(dev, "restart autonegotiation", _op(dev, _ops(dev).nway_reset, "nway_reset")(dev))


# -- features (net/ethtool/ioctl.c, features.c) ----------------------------------------------------

_OLD_FEATURES = (
    ("rx", "rx-checksumming", netdevice.NETIF_F_RXCSUM),
    ("tx", "tx-checksumming", netdevice.NETIF_F_CSUM_MASK | netdevice.NETIF_F_SCTP_CRC),
    ("sg", "scatter-gather", netdevice.NETIF_F_SG),
    ("tso", "tcp-segmentation-offload", netdevice.NETIF_F_ALL_TSO),
    ("gso", "generic-segmentation-offload", netdevice.NETIF_F_GSO),
    ("gro", "generic-receive-offload", netdevice.NETIF_F_GRO),
    ("lro", "large-receive-offload", netdevice.NETIF_F_LRO),
    ("rxvlan", "rx-vlan-offload", netdevice.NETIF_F_HW_VLAN_CTAG_RX),
    ("txvlan", "tx-vlan-offload", netdevice.NETIF_F_HW_VLAN_CTAG_TX),
)
OLD_FEATURES: dict[str, int] = {short: bits for short, _, bits in _OLD_FEATURES}
"""The short names of ``ethtool -K`` and the bits they stand for."""

FEATURE_BITS: dict[str, int] = {
    **{name: bit for bit, name in NETDEV_FEATURE_STRINGS.items()},
    **OLD_FEATURES,
    **{long: bits for _, long, bits in _OLD_FEATURES},
}


def ethtool_get_features(dev: net_device) -> dict[str, tuple[bool, bool]]:
    """-k: name -> (on, fixed) for every feature bit."""
    return {
        name: (bool(dev.features & bit), not dev.hw_features & bit)
        for bit, name in NETDEV_FEATURE_STRINGS.items()
    }


def ethtool_set_features(dev: net_device, changes: dict[str, bool]) -> int:
    """-K: turn features on or off by short, long or bit name; the bits that changed.

    Raises: OSError: EINVAL for an unknown name, EOPNOTSUPP for one that is fixed.
    """
    wanted = dev.wanted_features
    for name, on in changes.items():
        bits = FEATURE_BITS.get(name)
        if bits is None:
            raise os_error(errno.EINVAL, f"{dev.name}: no feature {name!r}; see ethtool -k")
        usable = bits & dev.hw_features
        if not usable and bool(dev.features & bits) != on:
            raise os_error(errno.EOPNOTSUPP, f"{dev.name}: {name} is fixed")
        wanted = wanted | usable if on else wanted & ~usable
    before = dev.features
    dev.wanted_features = wanted
    if __netdev_update_features(dev):
        netdev_features_change(dev)
    return before ^ dev.features


def ethtool_get_msglevel(dev: net_device) -> int:
    """net/ethtool/ioctl.c: the driver's mask of messages, 0 when it has none."""
    get = _ops(dev).get_msglevel
    return 0 if get is None else get(dev)


def ethtool_set_msglevel(dev: net_device, level: int) -> None:
    """net/ethtool/ioctl.c: -s msglvl."""
    _op(dev, _ops(dev).set_msglevel, "set_msglevel")(dev, level)
    ethtool_notify(dev, "debug")
