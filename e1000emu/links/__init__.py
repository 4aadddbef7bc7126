"""Links for a NIC's frames, one file for each kind; middleware wraps a link and is a link."""

from e1000emu.links.annotate import AnnotatedCapture
from e1000emu.links.base import LinkStats
from e1000emu.links.caps import LinkCaps
from e1000emu.links.capture import Capture
from e1000emu.links.farend import FarEnd
from e1000emu.links.hub import Hub, HubPort
from e1000emu.links.impair import Impair
from e1000emu.links.null import Generator, NullLink
from e1000emu.links.pace import Pace
from e1000emu.links.pair import PairEnd, pair
from e1000emu.links.passt import Passt
from e1000emu.links.patch import Patch
from e1000emu.links.qemu import QemuDgram, QemuStream
from e1000emu.links.replay import PcapReplay
from e1000emu.links.switch import Switch, SwitchPort
from e1000emu.links.tap import Tap

__all__ = [
    "AnnotatedCapture",
    "Capture",
    "FarEnd",
    "Generator",
    "Hub",
    "HubPort",
    "Impair",
    "LinkCaps",
    "LinkStats",
    "NullLink",
    "Pace",
    "PairEnd",
    "Passt",
    "Patch",
    "PcapReplay",
    "QemuDgram",
    "QemuStream",
    "Switch",
    "SwitchPort",
    "Tap",
    "pair",
]
