"""include/uapi/linux/ethtool_netlink.h: attributes of the ethtool family, with their policies.

One table for each kind of message, for the request that changes something and for the answer. What
only answers have is `told`. A GET request has only its header (ONLY_HEADER, or _STATS
if the header may request statistics), except for strings and statistics.
"""

from __future__ import annotations

from stack.netlink.nlattr import BINARY, FLAG, NESTED, NUL_STRING, STRING, U8, U32, Attr, AttrTable

ALTIFNAMSIZ = 128
ETHTOOL_FLAG_COMPACT_BITSETS, ETHTOOL_FLAG_OMIT_REPLY, ETHTOOL_FLAG_STATS = 1, 2, 4
ETHNL_MAX_BITSET_SIZE = 1 << 16


def _header(flags: int) -> AttrTable:
    return AttrTable(
        "ETHTOOL_A_HEADER",
        Attr("ETHTOOL_A_HEADER_DEV_INDEX", 1, U32),
        Attr("ETHTOOL_A_HEADER_DEV_NAME", 2, NUL_STRING, ALTIFNAMSIZ - 1),
        Attr("ETHTOOL_A_HEADER_FLAGS", 3, U32, mask=flags),
    )


def _in(name: str, table: AttrTable, number: int = 1) -> Attr:
    return Attr(name, number, NESTED, inner=table, flagged=True, policed=True)


HEADER = _in("HEADER", _header(ETHTOOL_FLAG_COMPACT_BITSETS | ETHTOOL_FLAG_OMIT_REPLY))
HEADER_STATS = _in(
    "HEADER",
    _header(ETHTOOL_FLAG_COMPACT_BITSETS | ETHTOOL_FLAG_OMIT_REPLY | ETHTOOL_FLAG_STATS),
)
ONLY_HEADER = AttrTable("ETHTOOL_A", HEADER)
ONLY_HEADER_STATS = AttrTable("ETHTOOL_A", HEADER_STATS)


def _nest(name: str, number: int, told: bool = False) -> Attr:
    return Attr(name, number, NESTED, flagged=True, told=told)


def _u32(first: int, *names: str, told: bool = False) -> tuple[Attr, ...]:
    """Attributes of 32 bits with consecutive numbers."""
    return tuple(Attr(name, number, U32, told=told) for number, name in enumerate(names, first))


FLAG8 = range(2)

# --- bit sets -----------------------------------------------------------------------------------

BITSET = AttrTable(
    "ETHTOOL_A_BITSET",
    Attr("NOMASK", 1, FLAG),
    Attr("SIZE", 2, U32, legal=range(ETHNL_MAX_BITSET_SIZE + 1)),
    _nest("BITS", 3),
    Attr("VALUE", 4, BINARY),
    Attr("MASK", 5, BINARY),
)
BIT = AttrTable(
    "ETHTOOL_A_BITSET_BIT",
    Attr("INDEX", 1, U32),
    Attr("NAME", 2, NUL_STRING),
    Attr("VALUE", 3, FLAG),
)

# --- strings and statistics -----------------------------------------------------------------------

STRSET = AttrTable("ETHTOOL_A_STRSET", HEADER, _nest("STRINGSETS", 2), Attr("COUNTS_ONLY", 3, FLAG))
STRINGSET = AttrTable("ETHTOOL_A_STRINGSET", Attr("ID", 1, U32))
STRINGSET_TOLD = AttrTable(
    "ETHTOOL_A_STRINGSET",
    Attr("ID", 1, U32),
    Attr("COUNT", 2, U32),
    _nest("STRINGS", 3),
)
STRING_TOLD = AttrTable("ETHTOOL_A_STRING", Attr("INDEX", 1, U32), Attr("VALUE", 2, STRING))
STATS = AttrTable(
    "ETHTOOL_A_STATS",
    _in("HEADER", _header(ETHTOOL_FLAG_COMPACT_BITSETS | ETHTOOL_FLAG_OMIT_REPLY), 2),
    _nest("GROUPS", 3),
    _nest("GRP", 4, told=True),
    Attr("SRC", 5, U32, legal=range(3)),
)
STATS_GRP = AttrTable("ETHTOOL_A_STATS_GRP", Attr("ID", 2, U32), Attr("SS_ID", 3, U32))

# --- settings -----------------------------------------------------------------------------------

LINKINFO = AttrTable(
    "ETHTOOL_A_LINKINFO",
    HEADER,
    Attr("PORT", 2, U8),
    Attr("PHYADDR", 3, U8),
    Attr("TP_MDIX", 4, U8, told=True),
    Attr("TP_MDIX_CTRL", 5, U8),
    Attr("TRANSCEIVER", 6, U8, told=True),
    last=5,
)
LINKMODES = AttrTable(
    "ETHTOOL_A_LINKMODES",
    HEADER,
    Attr("AUTONEG", 2, U8),
    _nest("OURS", 3),
    _nest("PEER", 4, told=True),
    Attr("SPEED", 5, U32),
    Attr("DUPLEX", 6, U8),
    Attr("MASTER_SLAVE_CFG", 7, U8),
    Attr("MASTER_SLAVE_STATE", 8, U8, told=True),
    Attr("LANES", 9, U32, legal=range(1, 9)),
    Attr("RATE_MATCHING", 10, U8, told=True),
    last=9,
)
LINKSTATE = AttrTable("ETHTOOL_A_LINKSTATE", HEADER, Attr("LINK", 2, U8, told=True))
DEBUG = AttrTable("ETHTOOL_A_DEBUG", HEADER, _nest("MSGMASK", 2))
WOL = AttrTable("ETHTOOL_A_WOL", HEADER, _nest("MODES", 2), Attr("SOPASS", 3, BINARY, 6))
FEATURES = AttrTable(
    "ETHTOOL_A_FEATURES",
    HEADER,
    _nest("HW", 2, told=True),
    _nest("WANTED", 3),
    _nest("ACTIVE", 4, told=True),
    _nest("NOCHANGE", 5, told=True),
    last=3,
)
PRIVFLAGS = AttrTable("ETHTOOL_A_PRIVFLAGS", HEADER, _nest("FLAGS", 2))
RINGS = AttrTable(
    "ETHTOOL_A_RINGS",
    HEADER,
    *_u32(2, "RX_MAX", "RX_MINI_MAX", "RX_JUMBO_MAX", "TX_MAX", told=True),
    *_u32(6, "RX", "RX_MINI", "RX_JUMBO", "TX"),
    Attr("RX_BUF_LEN", 10, U32, legal=range(1, 1 << 32)),
    Attr("TCP_DATA_SPLIT", 11, U8, legal=range(3)),
    Attr("CQE_SIZE", 12, U32, legal=range(1, 1 << 32)),
    Attr("TX_PUSH", 13, U8, legal=FLAG8),
    Attr("RX_PUSH", 14, U8, legal=FLAG8),
    Attr("TX_PUSH_BUF_LEN", 15, U32),
    Attr("HDS_THRESH", 17, U32),
)
RING_NEVER = (
    *("RX_BUF_LEN", "TCP_DATA_SPLIT", "CQE_SIZE", "TX_PUSH", "RX_PUSH"),
    *("TX_PUSH_BUF_LEN", "HDS_THRESH"),
)
"""Attributes that no driver here supports."""
CHANNELS = AttrTable(
    "ETHTOOL_A_CHANNELS",
    HEADER,
    *_u32(2, "RX_MAX", "TX_MAX", "OTHER_MAX", "COMBINED_MAX", told=True),
    *_u32(6, "RX_COUNT", "TX_COUNT", "OTHER_COUNT", "COMBINED_COUNT"),
)
COALESCE_WORDS = (
    *("RX_USECS", "RX_MAX_FRAMES", "RX_USECS_IRQ", "RX_MAX_FRAMES_IRQ", "TX_USECS"),
    *("TX_MAX_FRAMES", "TX_USECS_IRQ", "TX_MAX_FRAMES_IRQ", "STATS_BLOCK_USECS"),
)
COALESCE_RATES = (
    *("PKT_RATE_LOW", "RX_USECS_LOW", "RX_MAX_FRAMES_LOW", "TX_USECS_LOW", "TX_MAX_FRAMES_LOW"),
    *("PKT_RATE_HIGH", "RX_USECS_HIGH", "RX_MAX_FRAMES_HIGH", "TX_USECS_HIGH"),
    *("TX_MAX_FRAMES_HIGH", "RATE_SAMPLE_INTERVAL"),
)
COALESCE = AttrTable(
    "ETHTOOL_A_COALESCE",
    HEADER,
    *_u32(2, *COALESCE_WORDS),
    Attr("USE_ADAPTIVE_RX", 11, U8),
    Attr("USE_ADAPTIVE_TX", 12, U8),
    *_u32(13, *COALESCE_RATES),
    Attr("USE_CQE_MODE_TX", 24, U8, legal=FLAG8),
    Attr("USE_CQE_MODE_RX", 25, U8, legal=FLAG8),
    *_u32(26, "TX_AGGR_MAX_BYTES", "TX_AGGR_MAX_FRAMES", "TX_AGGR_TIME_USECS"),
    _nest("RX_PROFILE", 29),
    _nest("TX_PROFILE", 30),
)
PAUSE = AttrTable(
    "ETHTOOL_A_PAUSE",
    HEADER,
    Attr("AUTONEG", 2, U8),
    Attr("RX", 3, U8),
    Attr("TX", 4, U8),
    _nest("STATS", 5, told=True),
    Attr("STATS_SRC", 6, U32, told=True),
)
PAUSE_GET = AttrTable("ETHTOOL_A_PAUSE", HEADER_STATS, Attr("STATS_SRC", 6, U32, legal=range(3)))
TSINFO = AttrTable(
    "ETHTOOL_A_TSINFO",
    HEADER_STATS,
    _nest("TIMESTAMPING", 2, told=True),
    _nest("STATS", 6, told=True),
)
EEE = AttrTable(
    "ETHTOOL_A_EEE",
    HEADER,
    _nest("MODES_OURS", 2),
    *(Attr(name, number, U8) for name, number in (("ENABLED", 5), ("TX_LPI_ENABLED", 6))),
    Attr("TX_LPI_TIMER", 7, U32),
)
FEC = AttrTable(
    "ETHTOOL_A_FEC",
    HEADER,
    _nest("MODES", 2),
    Attr("AUTO", 3, U8, legal=FLAG8),
    Attr("ACTIVE", 4, U32, told=True),
    last=3,
)
MODULE_EEPROM = AttrTable(
    "ETHTOOL_A_MODULE_EEPROM",
    HEADER,
    Attr("OFFSET", 2, U32, legal=range(256)),
    Attr("LENGTH", 3, U32, legal=range(1, 129)),
    Attr("PAGE", 4, U8),
    Attr("BANK", 5, U8),
    Attr("I2C_ADDRESS", 6, U8, legal=range(128)),
)
