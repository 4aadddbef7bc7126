# cython: language_level=3, embedsignature=True
"""The serial EEPROM of the 8254x, a 93C46 or 93C66: pins and the time in, the data pin out.

It does the whole instruction set (READ, WRITE, ERASE, WRAL, ERAL, EWEN, EWDS) with its write-enable
latch and the ready/busy status after a write. A driver reads it bit by bit through EECD, thousands
of accesses before it has the address: that register is served from here (SDM 5.3, 13.4.3).

The plain-Python twin is ``_ref/microwire.py``. Call everything with the clock's lock held.
"""

from libc.stdint cimport int64_t, uint32_t

from fastpath.base.eventq cimport clock_ns
from fastpath.nic.regfile cimport RegFile, RegHook, reg

WRITE_NS = 2_000_000        # self-timed write or erase of a word; data sheets say 1 to 10 ms
WRITE_ALL_NS = 6_000_000    # WRAL or ERAL

cdef enum:
    EECD = 0x10
    SK = 1 << 0
    CS = 1 << 1
    DI = 1 << 2
    DO = 1 << 3
    EE_REQ = 1 << 6
    EE_GNT = 1 << 7
    # What the next clock edge means to the chip.
    P_START = 0             # waiting for a start bit
    P_COMMAND               # shifting opcode and address in
    P_DATA_IN
    P_DATA_OUT
    P_ARMED                 # a write begins when CS falls
    P_DONE                  # ignores clocks until CS falls
    # What a write does.
    OP_NONE = 0
    OP_ONE
    OP_ALL

PHASES = ("START", "COMMAND", "DATA_IN", "DATA_OUT", "ARMED", "DONE")
cdef tuple OPERATIONS = (None, "one", "all")


cdef class Microwire:
    """The chip: 64 or 256 words of 16 bits."""

    cdef readonly list words
    cdef readonly uint32_t address_bits
    cdef public bint write_enabled
    cdef public int64_t writes
    cdef bint cs, sk, do, status
    cdef int phase, operation           # P_*, OP_*
    cdef uint32_t shift, bits, address, data, word, pending_address
    cdef int64_t busy_until

    def __init__(self, words):
        self.words = list(words)
        self.address_bits = (len(self.words) - 1).bit_length()
        self.do = True

    cdef int pins(self, bint cs, bint sk, bint di, object clock) except -1:
        cdef bint rising = sk and not self.sk
        self.sk = sk
        if cs != self.cs:
            self.cs = cs
            if not cs:
                return self.deselect(clock)
            self.phase = P_START
            self.do = True
            self.shift = self.bits = 0
        elif cs and rising:
            return self.clock_in(di, clock)
        return 0

    cdef int deselect(self, object clock) except -1:
        """CS falls: an armed write begins, everything else is forgotten."""
        self.status = False
        self.do = True
        if self.phase == P_ARMED and self.operation and self.write_enabled:
            if self.operation == OP_ONE:
                self.words[self.pending_address] = self.data
                self.writes += 1
                self.busy_until = clock_ns(clock) + <int64_t>WRITE_NS
            else:
                self.words[:] = [self.data] * len(self.words)
                self.writes += len(self.words)
                self.busy_until = clock_ns(clock) + <int64_t>WRITE_ALL_NS
        self.operation = OP_NONE
        if self.busy_until:
            self.status = clock_ns(clock) < self.busy_until
        return 0

    cdef int clock_in(self, bint di, object clock) except -1:
        if self.phase == P_START:
            # Only a start bit ends the status display; while busy nothing is accepted.
            if di and not (self.busy_until and clock_ns(clock) < self.busy_until):
                self.status = False
                self.phase = P_COMMAND
                self.shift = self.bits = 0
        elif self.phase == P_COMMAND:
            self.shift = self.shift << 1 | di
            self.bits += 1
            if self.bits == 2 + self.address_bits:
                self.decode()
        elif self.phase == P_DATA_IN:
            self.shift = self.shift << 1 | di
            self.bits += 1
            if self.bits == 16:
                self.data = self.shift
                self.phase = P_ARMED
        elif self.phase == P_DATA_OUT:
            if not self.bits:
                self.word = self.words[self.address]
            self.do = self.word >> (15 - self.bits) & 1
            self.bits += 1
            if self.bits == 16:     # sequential read goes on with the next word
                self.bits = 0
                self.address = (self.address + 1) % <uint32_t>len(self.words)
        return 0

    cdef int decode(self) except -1:
        cdef uint32_t opcode = self.shift >> self.address_bits
        cdef uint32_t address = self.shift & ((1U << self.address_bits) - 1)
        cdef uint32_t extended = address >> (self.address_bits - 2)
        self.shift = self.bits = 0
        self.phase = P_DONE
        if opcode == 2:             # READ
            self.address = address
            self.do = False         # the dummy zero before the first data bit
            self.phase = P_DATA_OUT
        elif opcode == 1:           # WRITE
            self.operation, self.pending_address, self.data = OP_ONE, address, 0
            self.phase = P_DATA_IN
        elif opcode == 3:           # ERASE
            self.operation, self.pending_address, self.data = OP_ONE, address, 0xFFFF
            self.phase = P_ARMED
        elif extended == 3:         # EWEN
            self.write_enabled = True
        elif extended == 0:         # EWDS
            self.write_enabled = False
        elif extended == 2:         # ERAL
            self.operation, self.pending_address, self.data = OP_ALL, 0, 0xFFFF
            self.phase = P_ARMED
        else:                       # WRAL
            self.operation, self.pending_address, self.data = OP_ALL, 0, 0
            self.phase = P_DATA_IN
        return 0

    def set_pins(self, bint cs, bint sk, bint di, clock):
        """Take new levels of the three input pins; `clock` is asked where the time matters."""
        self.pins(cs, sk, di, clock)

    def data_out(self, clock):
        """The level of DO: data, or ready/busy after a write; pulled up otherwise."""
        if not self.cs:
            return True
        if self.status:
            return clock_ns(clock) >= self.busy_until
        return bool(self.do)

    def state(self):
        """Everything that a snapshot needs, as plain data."""
        pending = [OPERATIONS[self.operation], self.pending_address, self.data]
        return {
            "words": list(self.words),
            "write_enabled": bool(self.write_enabled),
            "writes": self.writes,
            "cs": bool(self.cs),
            "sk": bool(self.sk),
            "do": bool(self.do),
            "phase": PHASES[self.phase],
            "shift": self.shift,
            "bits": self.bits,
            "address": self.address,
            "pending": pending if self.operation else None,
            "busy_until_ns": self.busy_until,
            "status": bool(self.status),
        }

    def load(self, dict state not None):
        """Take back what `state` returned. The caller has checked the numbers."""
        self.words = list(state["words"])
        self.address_bits = (len(self.words) - 1).bit_length()
        self.write_enabled = state["write_enabled"]
        self.writes = state["writes"]
        self.cs, self.sk, self.do = state["cs"], state["sk"], state["do"]
        self.phase = PHASES.index(state["phase"])
        self.shift, self.bits = state["shift"], state["bits"]
        self.address = state["address"] % len(self.words)
        operation, address, self.data = state["pending"] or (None, 0, 0)
        self.operation = OPERATIONS.index(operation)
        self.pending_address = address % len(self.words)
        self.busy_until = state["busy_until_ns"]
        self.status = state["status"]
        self.word = self.words[self.address]


cdef class EecdPort(RegHook):
    """Serves EECD: who has the chip, and its pins. Subclasses hear of what is rare."""

    cdef readonly Microwire chip
    cdef RegFile regs
    cdef object clock
    cdef bint arbitrated
    cdef public bint eerd_waiting

    def _bind(self, RegFile regs not None, words, clock, bint arbitrated):
        """`arbitrated`: software asks for the pins with EE_REQ (not on the 82544)."""
        regs.need(EECD + 4)
        self.regs = regs
        self.chip = Microwire(words)
        self.clock = clock
        self.arbitrated = arbitrated

    def _released(self, uint32_t eecd):
        """EECD was written without EE_REQ while EERD waits, or with CS."""

    cdef int on_write(self, reg *r, uint32_t old, uint32_t new) except -1:
        cdef uint32_t pins = new
        if self.arbitrated:
            if new & EE_REQ:
                self.regs.v[EECD >> 2] |= EE_GNT
            else:
                self.regs.v[EECD >> 2] &= ~<uint32_t>EE_GNT
                pins = 0
                if self.eerd_waiting or new & CS:
                    self._released(new)
        return self.chip.pins(pins & CS != 0, pins & SK != 0, pins & DI != 0, self.clock)

    cdef uint32_t on_read(self, reg *r, uint32_t value) except? 0xFFFFFFFF:
        return value | DO if self.chip.data_out(self.clock) else value & ~<uint32_t>DO
