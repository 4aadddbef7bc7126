# cython: language_level=3, embedsignature=True
"""The NIC's borders as C pointers: what `e1000emu.embed.capi` calls, and what calls it back.

A program in C reaches registers, frames and the clock through the table of `entries()`. Its
functions take the GIL and touch no Python beyond what the access itself needs. Interrupts, frames
and DMA reach the program through function pointers kept here. The shared object's lock, which
stands in for the clock's, is held in every call.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

from fastpath.base.batch cimport FrameBatch
from fastpath.nic.cable cimport BatchPool, LinkStats
from fastpath.nic.cable import shared as _shared_pool
from fastpath.base.dma cimport DmaTable, dma_read_fn, dma_write_fn
from fastpath.nic.macpath cimport BarWindow

cdef enum:
    PUSH_FRAMES = 512           # frames of one batch towards the NIC, at most
    _MAX_FRAME = 65535
    _QUEUE_FRAMES = 4096
    INTERNAL = -1               # e1000emu.h: E1000EMU_EINTERNAL
    IO_BAR = -1                 # shim.c: the I/O BAR, whose index the EEPROM decides

MAX_FRAME_BYTES = _MAX_FRAME
"""The longest frame that `push` takes."""
QUEUE_FRAMES = _QUEUE_FRAMES
"""Frames that wait for `poll`, at most; then the transmitter waits."""

# e1000emu.h: struct e1000emu_frame.
cdef struct c_frame:
    const uint8_t *data
    size_t len

ctypedef void (*irq_fn)(void *opaque, int level) noexcept
ctypedef void (*tx_fn)(void *opaque, const c_frame *frames, size_t n) noexcept
ctypedef void (*ready_fn)(void *opaque) noexcept


cdef class CallbackLine:
    """An `InterruptLine` that tells a C function `void (*)(void *opaque, int level)`."""

    cdef irq_fn fn
    cdef void *opaque
    cdef readonly bint level

    def connect(self, uintptr_t fn, uintptr_t opaque):
        """Call the function at address `fn` (0: nobody) at every change from now on."""
        self.fn = <irq_fn><void *>fn
        self.opaque = <void *>opaque

    def set_level(self, bint level):
        """Drive the line."""
        if level != self.level:
            self.level = level
            if self.fn != NULL:
                self.fn(self.opaque, level)


cdef class CallbackLink:
    """A `Link` whose far end is a C program: it is given or fetches frames, and pushes its own.

    Frames cross as arrays of ``struct { const void *data; size_t len; }``, given by address.
    """

    cdef public object port
    cdef public bint carrier
    cdef public int speed_mbps
    cdef readonly LinkStats stats
    cdef BatchPool pool
    cdef tx_fn tx
    cdef void *tx_opaque
    cdef ready_fn ready
    cdef void *ready_opaque
    cdef list queue             # batches that wait for `poll`, oldest first
    cdef list lent              # batches whose frames the last `poll` has handed out
    cdef int start              # first frame of queue[0] that was not handed out
    cdef int64_t queued         # frames in `queue`, those handed out apart
    cdef bint starved           # the port was told that there is no room

    def __cinit__(self):
        self.carrier = True
        self.speed_mbps = 1000
        self.stats = LinkStats()
        self.pool = <BatchPool>_shared_pool
        self.queue = []
        self.lent = []

    # --- Link ------------------------------------------------------------------------------------

    def attach(self, port):
        """Plug `port` in."""
        self.port = port

    def detach(self):
        """Unplug the port; what waits for `poll` is lost."""
        self.port = None
        self._drop()

    def tx_room(self):
        """Return how many frames the link takes now."""
        cdef int64_t room
        if self.tx != NULL:
            return _QUEUE_FRAMES
        room = _QUEUE_FRAMES - self.queued
        if room > 0:
            return room
        self.starved = True
        return 0

    def transmit(self, FrameBatch batch not None):
        """Send the frames. Takes ownership of `batch`."""
        cdef int i
        if not self.carrier or not batch.n:
            self.stats.dropped("no carrier", batch.n)
            self.pool.put(batch)
            return
        self.stats.tx_frames += batch.n
        for i in range(batch.n):
            self.stats.tx_bytes += batch.f[i].len
        if self.tx == NULL:
            self.queue.append(batch)
            self.queued += batch.n
            return
        self.hand(batch)

    cdef int hand(self, FrameBatch batch) except -1:
        cdef c_frame *frames = <c_frame *>malloc(batch.n * sizeof(c_frame))
        cdef int i
        if frames == NULL:
            raise MemoryError
        for i in range(batch.n):
            frames[i].data = batch.arena + batch.f[i].off
            frames[i].len = batch.f[i].len
        self.tx(self.tx_opaque, frames, batch.n)
        free(frames)
        self.pool.put(batch)
        return 0

    def rx_ready(self):
        """The port has room again."""
        if self.ready != NULL:
            self.ready(self.ready_opaque)

    # --- the far end -----------------------------------------------------------------------------

    def connect_tx(self, uintptr_t fn, uintptr_t opaque):
        """Give frames to ``void (*)(void *opaque, const frame *, size_t n)`` as they are sent.

        Those that wait are given at once; 0 keeps frames for `poll`.
        """
        cdef list waiting
        cdef FrameBatch rest
        self.tx = <tx_fn><void *>fn
        self.tx_opaque = <void *>opaque
        if fn:
            if self.start:                  # `poll` has handed out the frames before
                rest = self.pool.get()
                rest.extend(self.queue[0], self.start)
                self.lent.append(self.queue[0])
                self.queue[0] = rest
            waiting, self.queue = self.queue, []
            self.start = 0
            self.queued = 0
            for batch in waiting:
                if self.tx == NULL:         # the function has unregistered itself
                    self.queue.append(batch)
                    self.queued += (<FrameBatch>batch).n
                else:
                    self.hand(batch)
            self.offer_room()

    def connect_ready(self, uintptr_t fn, uintptr_t opaque):
        """Call ``void (*)(void *opaque)`` (0: nobody) when the NIC takes frames after `push` took
        less."""
        self.ready = <ready_fn><void *>fn
        self.ready_opaque = <void *>opaque

    def set_carrier(self, bint up, int speed_mbps):
        """Plug or pull the cable."""
        self.carrier = up
        self.speed_mbps = speed_mbps
        if self.port is not None:
            self.port.link_changed(up, speed_mbps, True)

    cdef int offer_room(self) except -1:
        if self.starved and self.queued < _QUEUE_FRAMES:
            self.starved = False
            if self.port is not None:
                self.port.tx_ready()
        return 0

    def _drop(self):
        self.give_back()
        self.stats.dropped("unplugged", self.queued)
        while self.queue:
            self.pool.put(<FrameBatch>self.queue.pop())
        self.start = 0
        self.queued = 0

    cdef int give_back(self) except -1:
        while self.lent:
            self.pool.put(<FrameBatch>self.lent.pop())
        return 0

    cdef size_t take(self, c_frame *frames, size_t room) except? 0xFFFFFFFF:
        """Fill `frames` with what was sent; valid until the next call."""
        cdef FrameBatch batch
        cdef size_t n = 0
        cdef int i
        self.give_back()
        while n < room and self.queue:
            batch = <FrameBatch>self.queue[0]
            i = self.start
            while i < batch.n and n < room:
                frames[n].data = batch.arena + batch.f[i].off
                frames[n].len = batch.f[i].len
                n += 1
                i += 1
            self.start = i
            if i == batch.n:
                self.start = 0
                self.lent.append(self.queue.pop(0))
        self.queued -= n
        self.offer_room()
        return n

    cdef size_t give(self, const c_frame *frames, size_t n) except? 0xFFFFFFFF:
        """Hand frames to the port; return how many it took. They are checked by the caller."""
        cdef FrameBatch batch
        cdef size_t done = 0, i, end
        cdef int taken
        cdef bint full = False
        while done < n and self.port is not None:
            batch = self.pool.get()
            end = min(n, done + PUSH_FRAMES)
            with nogil:
                for i in range(done, end):
                    if batch.append_raw(frames[i].data, frames[i].len, 0) < 0:
                        full = True
                        break
            if full:
                raise MemoryError
            taken = self.port.receive(batch, 0, True)
            for i in range(<size_t>taken):
                self.stats.rx_bytes += batch.f[i].len
            self.stats.rx_frames += taken
            self.pool.put(batch)
            done += taken
            if done < end:
                break
        return done

    def poll(self, uintptr_t frames, size_t room):
        """Fill the array of `room` frames at address `frames` with what was sent; return the count.

        It stays valid until the next `poll`.
        """
        return self.take(<c_frame *>frames, room)

    def push(self, uintptr_t frames, size_t n):
        """Hand the `n` frames in the array at address `frames` to the NIC; return how many it
        took. Borrows them until return."""
        return self.give(<const c_frame *>frames, n)


def connect_dma(DmaTable table not None, uintptr_t read, uintptr_t write, uintptr_t opaque):
    """Serve addresses outside every region by two C functions (0: master abort).

    ``int (*read)(void *opaque, uint64_t addr, void *to, size_t n)``, and `write` with ``const void
    *from``; they return 0, or another value for a master abort. They are called with or without
    the GIL. Raises BufferError while an engine runs.
    """
    if table.busy:
        raise BufferError("connect_dma: an engine is running on this table")
    table._py_read = table._py_write = None
    table.t.cb_ctx = <void *>opaque
    table.t.cb_read = <dma_read_fn><void *>read
    table.t.cb_write = <dma_write_fn><void *>write


cdef class CNic:
    """One NIC as the entries see it, borrowed by address (`id`): keep it until the last call.

    `slot` has the BARs and configuration space, `clock` the methods `now_ns`, `advance` and
    `next_event_ns`; `on_error(exception)` keeps the text and returns the code.
    """

    cdef BarWindow window
    cdef CallbackLink link
    cdef object slot, clock, on_error

    def __init__(self, slot not None, CallbackLink link not None, clock, on_error):
        self.window = slot
        self.slot = slot
        self.link = link
        self.clock = clock
        self.on_error = on_error


cdef int _failed(CNic nic, object error) noexcept:
    try:
        return nic.on_error(error)
    except BaseException:
        return INTERNAL


cdef int _bar_read(void *p, int bar, uint64_t off, int size, uint64_t *value) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        if bar == 0 and size == 4 and nic.window.mac.memory_on and not off & 3:
            value[0] = nic.window.regs.read32(off)
        else:
            value[0] = nic.slot.bar_read(nic.slot.io_bar if bar == IO_BAR else bar, off, size)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _bar_write(void *p, int bar, uint64_t off, int size, uint64_t value) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        if bar == 0 and size == 4 and nic.window.mac.memory_on and not off & 3:
            nic.window.regs.write32(off, <uint32_t>value)
        else:
            nic.slot.bar_write(nic.slot.io_bar if bar == IO_BAR else bar, off, value, size)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _config_read(void *p, uint64_t off, int size, uint64_t *value) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        value[0] = nic.slot.config_read(off, size)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _config_write(void *p, uint64_t off, int size, uint64_t value) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        if nic.window.mac.in_engine:        # it may reset the function while the engine runs
            raise BufferError("configuration space: not from inside a DMA callback")
        nic.slot.config_write(off, value, size)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _push(void *p, const c_frame *frames, size_t n, size_t *done) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        done[0] = nic.link.give(frames, n)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _poll(void *p, c_frame *frames, size_t room, size_t *done) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        done[0] = nic.link.take(frames, room)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _now(void *p, uint64_t *when) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        when[0] = nic.clock.now_ns()
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _advance(void *p, uint64_t duration_ns) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        nic.clock.advance(duration_ns)
        return 0
    except BaseException as error:
        return _failed(nic, error)


cdef int _next_event(void *p, uint64_t *when) noexcept with gil:
    cdef CNic nic = <CNic>p
    try:
        when[0] = nic.clock.next_event_ns()
        return 0
    except BaseException as error:
        return _failed(nic, error)


def entries():
    """Return the addresses of the C functions, in the order of `struct entries` of the shim."""
    return [
        <uintptr_t><void *>_bar_read, <uintptr_t><void *>_bar_write,
        <uintptr_t><void *>_config_read, <uintptr_t><void *>_config_write,
        <uintptr_t><void *>_push, <uintptr_t><void *>_poll,
        <uintptr_t><void *>_now, <uintptr_t><void *>_advance, <uintptr_t><void *>_next_event,
    ]
