# cython: language_level=3
"""Register offsets and bits that the compiled blocks use.

The register table is ``e1000emu/registers/regs.py``; a test compares these numbers with it.
"""

from libc.stdint cimport uint32_t

cdef enum:
    # byte offsets in BAR 0 (SDM 13.3, table 13-2)
    CTRL = 0x0000
    FCT = 0x0030
    VET = 0x0038
    ICR = 0x00C0
    ITR = 0x00C4
    ICS = 0x00C8
    IMS = 0x00D0
    IMC = 0x00D8
    RCTL = 0x0100
    TCTL = 0x0400
    FCRTL = 0x2160
    FCRTH = 0x2168
    RDFH = 0x2410
    RDFT = 0x2418
    RDFHS = 0x2420
    RDFTS = 0x2428
    RDFPC = 0x2430
    RDBAL = 0x2800
    RDBAH = 0x2804
    RDLEN = 0x2808
    RDH = 0x2810
    RDT = 0x2818
    RDTR = 0x2820
    RADV = 0x282C
    RSRPD = 0x2C00
    TDFH = 0x3410
    TDFT = 0x3418
    TDFHS = 0x3420
    TDFTS = 0x3428
    TDFPC = 0x3430
    TDBAL = 0x3800
    TDBAH = 0x3804
    TDLEN = 0x3808
    TDH = 0x3810
    TDT = 0x3818
    TIDV = 0x3820
    TXDCTL = 0x3828
    TADV = 0x382C
    RXCSUM = 0x5000
    MTA = 0x5200
    RAL = 0x5400                # RAH follows each, 8 bytes from entry to entry
    VFTA = 0x5600
    ENGINE_REGISTERS = 0x5800   # bytes of BAR 0 that the engines look into
    PBM = 0x10000

    CTRL_RFCE = 1 << 27
    CTRL_TFCE = 1 << 28
    CTRL_VME = 1 << 30
    FCRTL_RTL = 0xFFF8
    FCRTH_RTH = 0xFFF8
    RCTL_EN = 0x2
    RCTL_SBP = 0x4
    RCTL_UPE = 0x8
    RCTL_MPE = 0x10
    RCTL_LPE = 0x20
    RCTL_BAM = 0x8000
    RCTL_VFE = 0x40000
    RCTL_CFIEN = 0x80000
    RCTL_CFI = 0x100000
    RCTL_BSEX = 0x2000000
    RCTL_SECRC = 0x4000000
    RXCSUM_IPOFL = 0x100
    RXCSUM_TUOFL = 0x200
    RXCSUM_IPV6OFL = 0x400
    TCTL_EN = 0x2
    TCTL_PSP = 0x8

    # commands of transmit descriptors, in bits 31:24 of the second quadword (SDM 3.3.3.1, 3.3.7.1)
    CMD_EOP = 0x01
    CMD_IFCS = 0x02
    CMD_IC = 0x04               # legacy
    CMD_TSE = 0x04              # data, context
    CMD_RS = 0x08
    CMD_RPS = 0x10
    CMD_DEXT = 0x20
    CMD_VLE = 0x40
    CMD_IDE = 0x80

    MIN_RING = 8                # descriptors: RDLEN and TDLEN count 128 bytes (SDM 13.4.27)
    WTHRESH_MAX = 0x3F          # what the field of RXDCTL and TXDCTL holds

# How many descriptors of a ring of `n` lie from `first` up to `end`.
cdef inline uint32_t ring_span(uint32_t first, uint32_t end, uint32_t n) noexcept nogil:
    return end - first if end >= first else n - first + end
