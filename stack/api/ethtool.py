"""``ethtool`` for our interfaces: its commands, printed as ethtool prints them.

    ethtool(net, ["-S", "eth0"])            the program's arguments; returns what it would print
        COMMANDS -> _do_*                   options that change something: parse, call the core
        show_*                              a page each: call the core, format
            stack/core/ethtool.py           ethtool_get_*, ethtool_set_*
                => ethtool_ops              of the driver

This file only parses and prints: it has no state, and no driver is named in it. Programs that want
the data take it from stack/core/ethtool.py instead. Errors are OSError with the driver's errno, and
ValueError for wrong arguments. Read `ethtool` at the end first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from stack.core import ethtool as core
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.netdevice import NETDEV_FEATURE_STRINGS, net_device
from stack.net import Net

__all__ = [
    "ethtool",
    "show_coalesce",
    "show_driver",
    "show_eeprom",
    "show_features",
    "show_pause",
    "show_register_dump",
    "show_ring",
    "show_self_test",
    "show_settings",
    "show_statistics",
    "show_time_stamping",
]


def _on(value: bool) -> str:
    return "on" if value else "off"


def _yes(value: object) -> str:
    return "yes" if value else "no"


def show_driver(dev: net_device) -> str:
    """``ethtool -i``."""
    info = core.ethtool_get_drvinfo(dev)
    return (
        f"driver: {info.driver}\n"
        f"version: {info.version}\n"
        f"firmware-version: {info.fw_version}\n"
        f"expansion-rom-version: {info.erom_version}\n"
        f"bus-info: {info.bus_info}\n"
        f"supports-statistics: {_yes(info.n_stats)}\n"
        f"supports-test: {_yes(info.testinfo_len)}\n"
        f"supports-eeprom-access: {_yes(info.eedump_len)}\n"
        f"supports-register-dump: {_yes(info.regdump_len)}\n"
        "supports-priv-flags: no\n"
    )


TIME_STAMPING = (
    (uapi.SOF_TIMESTAMPING_TX_SOFTWARE, "software-transmit"),
    (uapi.SOF_TIMESTAMPING_RX_SOFTWARE, "software-receive"),
    (uapi.SOF_TIMESTAMPING_SOFTWARE, "software-system-clock"),
)


def show_time_stamping(dev: net_device) -> str:
    """``ethtool -T``."""
    can = core.ethtool_get_ts_info(dev)
    lines = [f"\t{name}\n" for bit, name in TIME_STAMPING if can & bit]
    return (
        f"Time stamping parameters for {dev.name}:\nCapabilities:\n{''.join(lines)}"
        "PTP Hardware Clock: none\n"
        "Hardware Transmit Timestamp Modes: none\n"
        "Hardware Receive Filter Modes: none\n"
    )


GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("rx", ()),
    (
        "tx",
        (
            "tx-checksum-ipv4",
            "tx-checksum-ip-generic",
            "tx-checksum-ipv6",
            "tx-checksum-sctp",
        ),
    ),
    ("sg", ("tx-scatter-gather", "tx-scatter-gather-fraglist")),
    (
        "tso",
        (
            "tx-tcp-segmentation",
            "tx-tcp-ecn-segmentation",
            "tx-tcp-mangleid-segmentation",
            "tx-tcp6-segmentation",
        ),
    ),
    ("gso", ()),
    ("gro", ()),
    ("lro", ()),
    ("rxvlan", ()),
    ("txvlan", ()),
)
"""The groups that ``ethtool -k`` prints first; every other feature follows under its own name."""


def show_features(dev: net_device) -> str:
    """``ethtool -k``."""
    lines = [f"Features for {dev.name}:"]
    rest = dict.fromkeys(NETDEV_FEATURE_STRINGS.values())
    states = core.ethtool_get_features(dev)
    for short, members in GROUPS:
        bits = core.OLD_FEATURES[short]
        on = bool(dev.features & bits)
        fixed = "" if dev.hw_features & bits else " [fixed]"
        lines.append(f"{core.LONG_OLD_FEATURES[short]}: {_on(on)}{fixed}")
        for name in members:
            state, is_fixed = states[name]
            lines.append(f"\t{name}: {_on(state)}{' [fixed]' if is_fixed else ''}")
        for bit, name in NETDEV_FEATURE_STRINGS.items():
            if bit & bits:
                rest.pop(name, None)
        for name in members:
            rest.pop(name, None)
    for name in rest:
        state, is_fixed = states[name]
        lines.append(f"{name}: {_on(state)}{' [fixed]' if is_fixed else ''}")
    return "\n".join(lines) + "\n"


def show_ring(dev: net_device) -> str:
    """``ethtool -g``."""
    ring = core.ethtool_get_ringparam(dev)
    return (
        f"Ring parameters for {dev.name}:\n"
        "Pre-set maximums:\n"
        f"RX:\t\t{ring.rx_max_pending}\nRX Mini:\tn/a\nRX Jumbo:\tn/a\n"
        f"TX:\t\t{ring.tx_max_pending}\n"
        "Current hardware settings:\n"
        f"RX:\t\t{ring.rx_pending}\nRX Mini:\tn/a\nRX Jumbo:\tn/a\n"
        f"TX:\t\t{ring.tx_pending}\n"
    )


def show_statistics(dev: net_device) -> str:
    """``ethtool -S``."""
    lines = ["NIC statistics:"]
    lines += [f"     {name}: {value}" for name, value in core.ethtool_get_stats(dev).items()]
    return "\n".join(lines) + "\n"


def show_coalesce(dev: net_device) -> str:
    """``ethtool -c``."""
    coalesce = core.ethtool_get_coalesce(dev)
    return (
        f"Coalesce parameters for {dev.name}:\n"
        "Adaptive RX: n/a  TX: n/a\n"
        "stats-block-usecs:\tn/a\nsample-interval:\tn/a\npkt-rate-low:\t\tn/a\n"
        "pkt-rate-high:\t\tn/a\n\n"
        f"rx-usecs:\t{coalesce.rx_coalesce_usecs}\nrx-frames:\tn/a\nrx-usecs-irq:\tn/a\n"
        "rx-frames-irq:\tn/a\n\n"
        "tx-usecs:\tn/a\ntx-frames:\tn/a\ntx-usecs-irq:\tn/a\ntx-frames-irq:\tn/a\n"
    )


def show_pause(dev: net_device) -> str:
    """``ethtool -a``."""
    pause = core.ethtool_get_pauseparam(dev)
    return (
        f"Pause parameters for {dev.name}:\n"
        f"Autonegotiate:\t{_on(pause.autoneg)}\n"
        f"RX:\t\t{_on(pause.rx_pause)}\nTX:\t\t{_on(pause.tx_pause)}\n"
    )


def show_register_dump(dev: net_device) -> str:
    """``ethtool -d``."""
    regs = core.ethtool_get_regs(dev)
    if regs.text:
        return regs.text
    return "Offset\tValue\n" + "".join(
        f"{4 * index:#06x}\t{value:#010x}\n" for index, value in enumerate(regs.data)
    )


def show_self_test(dev: net_device, *, offline: bool = True) -> str:
    """``ethtool -t``; offline takes the interface down meanwhile."""
    passed, results = core.ethtool_self_test(dev, offline=offline)
    lines = [f"The test result is {'PASS' if passed else 'FAIL'}", "The test extra info:"]
    lines += [f"{name}\t {value}" for name, value in results.items()]
    return "\n".join(lines) + "\n"


def show_eeprom(dev: net_device, offset: int = 0, length: int | None = None) -> str:
    """``ethtool -e``."""
    data = core.ethtool_get_eeprom(dev, offset, length)
    lines = ["Offset\t\tValues", "------\t\t------"]
    for at in range(0, len(data), 16):
        lines.append(f"0x{offset + at:04x}:\t\t{data[at : at + 16].hex(' ')} ")
    return "\n".join(lines) + "\n"


WOL_LETTERS = (
    ("p", core.WAKE_PHY),
    ("u", core.WAKE_UCAST),
    ("m", core.WAKE_MCAST),
    ("b", core.WAKE_BCAST),
    ("a", core.WAKE_ARP),
    ("g", core.WAKE_MAGIC),
)


def _wol_letters(mask: int) -> str:
    return "".join(letter for letter, bit in WOL_LETTERS if mask & bit) or "d"


def _modes(title: str, modes: Sequence[str]) -> str:
    if not modes:
        return f"\t{title}Not reported\n"
    rows = [" ".join(modes[i : i + 2]) + " " for i in range(0, len(modes), 2)]
    pad = "\n\t" + " " * len(title)
    return f"\t{title}{pad.join(rows)}\n"


MDIX = {core.ETH_TP_MDI: "off", core.ETH_TP_MDI_X: "on"}
MDIX_CONTROL = {core.ETH_TP_MDI: " (forced)", core.ETH_TP_MDI_X: " (forced)"}


def show_settings(dev: net_device) -> str:
    """``ethtool DEV``."""
    link = core.ethtool_get_settings(dev)
    ops = dev.ethtool_ops
    rest = ""  # devices of software have neither
    if ops is not None and ops.get_wol is not None:
        wol = core.ethtool_get_wol(dev)
        rest += f"\tSupports Wake-on: {_wol_letters(wol.supported)}\n"
        rest += f"\tWake-on: {_wol_letters(wol.wolopts)}\n"
    if ops is not None and ops.get_msglevel is not None:
        level = core.ethtool_get_msglevel(dev)
        rest += f"\tCurrent message level: {level:#010x} ({level})\n"
    speed = f"{link.speed}Mb/s" if link.speed > 0 else "Unknown!"
    duplex = {core.DUPLEX_FULL: "Full", core.DUPLEX_HALF: "Half"}.get(link.duplex, "Unknown!")
    duplex += f" ({link.duplex})" if duplex == "Unknown!" else ""
    mdix = MDIX.get(link.eth_tp_mdix, "Unknown")
    mdix += MDIX_CONTROL.get(link.eth_tp_mdix_ctrl, " (auto)")
    pairs = f"\tMDI-X: {mdix}\n" if link.port == core.PORT_TP else ""
    return (
        f"Settings for {dev.name}:\n"
        f"\tSupported ports: [ {'FIBRE' if link.port == core.PORT_FIBRE else 'TP'} ]\n"
        + _modes("Supported link modes:   ", link.supported)
        + "\tSupported pause frame use: No\n\tSupports auto-negotiation: Yes\n"
        "\tSupported FEC modes: Not reported\n"
        + _modes("Advertised link modes:  ", link.advertising)
        + "\tAdvertised pause frame use: No\n"
        f"\tAdvertised auto-negotiation: {'Yes' if link.autoneg else 'No'}\n"
        "\tAdvertised FEC modes: Not reported\n"
        f"\tSpeed: {speed}\n\tDuplex: {duplex}\n"
        f"\tAuto-negotiation: {_on(link.autoneg)}\n\tPort: {link.port}\n"
        f"\tPHYAD: {link.phy_address}\n\tTransceiver: internal\n{pairs}"
        f"{rest}\tLink detected: {_yes(core.ethtool_get_link(dev))}\n"
    )


# -- the command line ------------------------------------------------------------------------------


def _words(args: Sequence[str], allowed: Sequence[str]) -> dict[str, str]:
    """Pairs "name value"; ValueError for an odd one or an unknown name."""
    if len(args) % 2:
        raise ValueError(f"{args[-1]!r} has no value")
    pairs = dict(zip(args[::2], args[1::2], strict=True))
    for name in pairs:
        if allowed and name not in allowed:
            raise ValueError(f"{name!r} is none of: {', '.join(allowed)}")
    return pairs


def _flag(name: str, value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(f"{name} must be on or off, not {value!r}")
    return value == "on"


def _do_set_features(dev: net_device, args: Sequence[str]) -> str:
    pairs = {name: _flag(name, value) for name, value in _words(args, ()).items()}
    before = dev.features
    core.ethtool_set_features(dev, pairs)
    asked = 0
    for name in pairs:
        asked |= core.FEATURE_BITS[name]
    also = (before ^ dev.features) & ~asked
    if not also:
        return ""
    lines = ["Actual changes:"]
    for bit, name in NETDEV_FEATURE_STRINGS.items():
        if (before ^ dev.features) & bit:
            lines.append(f"{name}: {_on(bool(dev.features & bit))}")
    return "\n".join(lines) + "\n"


def _do_set_ring(dev: net_device, args: Sequence[str]) -> str:
    numbers = {name: int(value) for name, value in _words(args, ("rx", "tx")).items()}
    core.ethtool_set_ringparam(dev, **numbers)
    return ""


def _do_set_coalesce(dev: net_device, args: Sequence[str]) -> str:
    pairs = _words(args, ("rx-usecs",))
    core.ethtool_set_coalesce(dev, rx_usecs=int(pairs["rx-usecs"]))
    return ""


def _do_set_pause(dev: net_device, args: Sequence[str]) -> str:
    pairs = _words(args, ("autoneg", "rx", "tx"))
    core.ethtool_set_pauseparam(dev, **{name: _flag(name, v) for name, v in pairs.items()})
    return ""


def _do_set_link(dev: net_device, args: Sequence[str]) -> str:
    pairs = _words(args, ("speed", "duplex", "autoneg", "wol", "msglvl"))
    if "wol" in pairs:
        mask = 0
        for letter in pairs.pop("wol"):
            if letter == "d":
                mask = 0
                continue
            bits = dict(WOL_LETTERS).get(letter)
            if bits is None:
                raise ValueError(f"wol letter {letter!r} is none of p u m b a g d")
            mask |= bits
        core.ethtool_set_wol(dev, mask)
    if "msglvl" in pairs:
        core.ethtool_set_msglevel(dev, int(pairs.pop("msglvl"), 0))
    if pairs:
        link = core.ethtool_get_settings(dev)
        if "speed" in pairs:
            link.speed = int(pairs["speed"])
        if "duplex" in pairs:
            kinds = {"half": core.DUPLEX_HALF, "full": core.DUPLEX_FULL}
            if pairs["duplex"] not in kinds:
                raise ValueError(f"duplex must be half or full, not {pairs['duplex']!r}")
            link.duplex = kinds[pairs["duplex"]]
        if "autoneg" in pairs:
            link.autoneg = _flag("autoneg", pairs["autoneg"])
        core.ethtool_set_settings(dev, link)
    return ""


def _do_test(dev: net_device, args: Sequence[str]) -> str:
    if len(args) > 1 or (args and args[0] not in ("online", "offline")):
        raise ValueError("-t takes online or offline")
    return show_self_test(dev, offline=not args or args[0] == "offline")


def _do_identify(dev: net_device, args: Sequence[str]) -> str:
    core.ethtool_phys_id(dev, int(args[0]) if args else 2)
    return ""


def _do_nway(dev: net_device, args: Sequence[str]) -> str:
    core.ethtool_nway_reset(dev)
    return ""


def _do_eeprom(dev: net_device, args: Sequence[str]) -> str:
    numbers = {n: int(v, 0) for n, v in _words(args, ("offset", "length")).items()}
    return show_eeprom(dev, numbers.get("offset", 0), numbers.get("length"))


def _do_change_eeprom(dev: net_device, args: Sequence[str]) -> str:
    numbers = {n: int(v, 0) for n, v in _words(args, ("magic", "offset", "value")).items()}
    core.ethtool_set_eeprom(
        dev, numbers.get("magic", 0), numbers.get("offset", 0), bytes([numbers.get("value", 0)])
    )
    return ""


def _page(show: Callable[[net_device], str]) -> Callable[[net_device, Sequence[str]], str]:
    def do(dev: net_device, args: Sequence[str]) -> str:
        if args:
            raise ValueError(f"unexpected argument {args[0]!r}")
        return show(dev)

    return do


COMMANDS: dict[str, Callable[[net_device, Sequence[str]], str]] = {
    "-i": _page(show_driver),
    "-T": _page(show_time_stamping),
    "-k": _page(show_features),
    "-K": _do_set_features,
    "-g": _page(show_ring),
    "-G": _do_set_ring,
    "-S": _page(show_statistics),
    "-d": _page(show_register_dump),
    "-t": _do_test,
    "-c": _page(show_coalesce),
    "-C": _do_set_coalesce,
    "-a": _page(show_pause),
    "-A": _do_set_pause,
    "-s": _do_set_link,
    "-e": _do_eeprom,
    "-E": _do_change_eeprom,
    "-p": _do_identify,
    "-r": _do_nway,
}
LONG_COMMANDS = {
    "--driver": "-i",
    "--show-time-stamping": "-T",
    "--show-features": "-k",
    "--show-offload": "-k",
    "--features": "-K",
    "--offload": "-K",
    "--show-ring": "-g",
    "--set-ring": "-G",
    "--statistics": "-S",
    "--register-dump": "-d",
    "--test": "-t",
    "--show-coalesce": "-c",
    "--coalesce": "-C",
    "--show-pause": "-a",
    "--pause": "-A",
    "--change": "-s",
    "--eeprom-dump": "-e",
    "--change-eeprom": "-E",
    "--identify": "-p",
    "--negotiate": "-r",
}


def ethtool(net: Net, args: Sequence[str]) -> str:
    """Run ``ethtool ARGS`` on host `net`; return what it prints. Call with the host's lock held.

    Raises: OSError: no such interface, or the driver refuses (its errno). ValueError: arguments
    that ethtool does not know; the message says which.
    """
    if not args:
        raise ValueError("ethtool: which interface? usage: ethtool [-i|-k|-g|-S|-d|-t|...] DEV")
    command = LONG_COMMANDS.get(args[0], args[0])
    if not command.startswith("-"):
        command, rest = "", list(args)
    else:
        rest = list(args[1:])
    if command and command not in COMMANDS:
        raise ValueError(f"ethtool: unknown option {args[0]!r}; known: {' '.join(COMMANDS)}")
    if not rest:
        raise ValueError(f"ethtool {command}: which interface?")
    dev = net.dev_by_name.get(rest[0])
    if dev is None:
        raise os_error(errno.ENODEV, f"no interface {rest[0]!r}")
    if dev.ethtool_ops is None and command not in ("-k", "-K"):
        raise os_error(errno.EOPNOTSUPP, f"{dev.name} has no ethtool operations")
    if not command:
        return _page(show_settings)(dev, rest[1:])
    return COMMANDS[command](dev, rest[1:])
