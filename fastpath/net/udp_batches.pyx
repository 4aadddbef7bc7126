# cython: language_level=3, embedsignature=True
"""The rows of one sendmmsg(2) or recvmmsg(2), and what UDP does with many of them in one step.

Sending folds datagrams of one flow and size into one super-packet and copies their bytes straight
into its pages. Receiving takes datagrams out of merged sk_buffs by a cursor. Rows that do not fit
are left to the caller, which handles them one by one. The twin is ``_ref/udp_batches.py``.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport Py_EQ, PyObject, PyObject_RichCompareBool
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastpath.net.inet cimport UdpFlow
from fastpath.net.inetkey cimport udp_is_from, udp_name
from fastpath.net.sockaddr cimport sockaddr, sockaddr_make
from fastpath.base.skbuff cimport (
    GSO_UDP_L4, SKB_OVERHEAD, SkbPool, list_unlink, need, sk_buff, sk_buff_head, skb_buf, skb_build,
    skb_c, skb_check, skb_core, skb_core_headlen, skb_do_add_data, skb_do_carve, skb_do_copy,
    skb_do_pull, skb_free, skb_pool_take, skb_within,
)

cdef extern from "Python.h":
    char *PyByteArray_AS_STRING(object array)
    Py_ssize_t PyByteArray_GET_SIZE(object array)

cdef extern from "skb_run.h":
    uint8_t *skb_core_extend(skb_core *s, uint32_t n)
    const uint8_t *skb_core_piece(skb_core *s, uint32_t off, uint32_t n)

cdef enum:
    UDP_HLEN = 8
    IP6_HLEN = 40
    MAX_LEN = 0xFFFF            # of the network layer
    MAX_ROWS = 1024             # UIO_MAXIOV


# -- sending ---------------------------------------------------------------------------------------
cdef inline PyObject *row_bytes(list rows, Py_ssize_t i, PyObject *address) noexcept:
    """The data of row `i`, borrowed, when that is (bytes, the very `address`), else NULL."""
    cdef PyObject *row = PyList_GET_ITEM(rows, i)
    cdef PyObject *data
    if type(<object>row) is not tuple or PyTuple_GET_SIZE(<object>row) != 2:
        return NULL
    data = PyTuple_GET_ITEM(<object>row, 0)
    if PyTuple_GET_ITEM(<object>row, 1) != address or type(<object>data) is not bytes:
        return NULL
    return data


cdef Py_ssize_t row_size(list rows, Py_ssize_t i, object address) except -2:
    """Bytes of row `i` when it is (bytes-like, `address`), else -1."""
    cdef object row = <object>PyList_GET_ITEM(rows, i)
    cdef object to
    cdef object data
    cdef Py_buffer view
    cdef Py_ssize_t n
    if type(row) is not tuple or PyTuple_GET_SIZE(row) != 2:
        return -1
    to = <object>PyTuple_GET_ITEM(row, 1)
    if to is not address:
        if type(to) is not tuple or type(address) is not tuple:
            return -1
        if PyObject_RichCompareBool(to, address, Py_EQ) != 1:
            return -1
    data = <object>PyTuple_GET_ITEM(row, 0)
    if type(data) is bytes:
        return PyBytes_GET_SIZE(data)
    try:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    except Exception:           # the caller reports the error
        return -1
    n = view.len
    PyBuffer_Release(&view)
    return n


cdef inline bint rest_equal(tuple a, tuple b) except -1:
    """Whether two addresses have the same items, plain numbers, after host and port."""
    cdef Py_ssize_t i
    for i in range(2, len(a)):
        if type(a[i]) is not int or type(b[i]) is not int or a[i] != b[i]:
            return False
    return True


@cython.final
cdef class mmsg_send:
    """The arguments of one sendmmsg(2): rows (data, address or None).

    `resolve(owner, address)` makes a sockaddr; for the very object `last` it is `name`.
    """

    def __cinit__(self, rows, resolve, owner=None, last=None, name=None):
        self.rows = list(rows)      # our copy: a row's buffer protocol runs code
        if PyList_GET_SIZE(self.rows) > MAX_ROWS:
            del self.rows[MAX_ROWS:]
        self.resolve = resolve
        self.owner = owner
        if type(last) is tuple and type(name) is sockaddr:
            self.last = last
            self.name = <sockaddr>name

    def __len__(self):
        return PyList_GET_SIZE(self.rows)

    cpdef tuple row(self, int64_t i):
        """Row `i` as (data, sockaddr or None). Raises what `resolve` raises, IndexError."""
        cdef object address
        if not 0 <= i < PyList_GET_SIZE(self.rows):
            raise IndexError(f"mmsg_send: row {i} of {len(self)}")
        data, address = self.rows[i]
        return data, (None if address is None else self.resolved(address))

    cdef object resolved(self, object address):
        """The sockaddr by `resolve`; an address that differs from the last only in its port is made
        from that."""
        cdef tuple now
        cdef tuple last = <tuple>self.last
        cdef object port
        cdef object name
        if type(address) is not tuple:
            return self.resolve(self.owner, address)
        now = <tuple>address
        if now is last:
            return self.name
        if (last is not None and len(now) >= 2 and len(now) == len(last)
                and type(now[0]) is str and now[0] == last[0]):
            port = now[1]
            if type(port) is int and 0 <= port <= 0xFFFF and rest_equal(now, last):
                return sockaddr_make(
                    self.name.family, self.name.addr, port, self.name.flowinfo,
                    self.name.scope_id)
        name = self.resolve(self.owner, address)
        if type(name) is sockaddr:
            self.name = <sockaddr>name
            self.last = now
        return name

    cpdef bint alike(self, int64_t i) except -1:
        """Whether row i + 1 has the address of row `i` and is not longer: the two may fold."""
        cdef list rows = self.rows
        cdef Py_ssize_t size, n
        cdef object first
        cdef object address
        if i < 0 or i + 1 >= PyList_GET_SIZE(rows):
            return False
        first = <object>PyList_GET_ITEM(rows, i)
        if type(first) is not tuple or PyTuple_GET_SIZE(first) != 2:
            return False
        address = <object>PyTuple_GET_ITEM(first, 1)
        size = row_size(rows, i, address)
        n = row_size(rows, i + 1, address)
        return 0 < n <= size

    cpdef sk_buff fold(self, UdpFlow flow, int64_t start, int64_t room, int64_t most,
                       SkbPool pages):
        """Make one super-packet of row `start` and the rows after it of the same address and size.

        The last row may be shorter. `room` is the free send buffer in bytes: a row fits while it is
        positive, and takes the truesize of an sk_buff of its own. At most `most` rows, and 65535
        bytes. None when not even two rows fit, or there is no packet buffer. gso_segs of the
        sk_buff is its number of rows; it is as `UdpFlow.datagram` makes them, with payload in
        `pages`.
        """
        need(flow)
        need(pages)
        cdef list rows = self.rows
        cdef Py_ssize_t size, n, limit, i = start
        cdef Py_ssize_t total = PyList_GET_SIZE(rows)
        cdef int64_t one, truesize = 0
        cdef uint32_t count = 0
        cdef object address
        cdef object data
        cdef PyObject *plain
        cdef sk_buff skb
        cdef skb_buf *b
        cdef Py_buffer view
        cdef bint linear
        if start < 0 or start + 1 >= total or pages.p == NULL:
            return None
        first = <object>PyList_GET_ITEM(rows, start)
        if type(first) is not tuple or PyTuple_GET_SIZE(first) != 2:
            return None
        address = <object>PyTuple_GET_ITEM(first, 1)
        size = row_size(rows, start, address)
        if size <= 0 or size > <Py_ssize_t>flow.room:
            return None
        n = row_size(rows, start + 1, address)
        if n <= 0 or n > size:
            return None
        limit = MAX_LEN - UDP_HLEN - <Py_ssize_t>flow.head_len
        if limit // size < most:
            most = limit // size
        if total - start < most:
            most = total - start
        if most < 2:
            return None
        linear = most * size <= <Py_ssize_t>flow.room
        b = NULL
        if most * size <= flow.small_room or not linear and flow.small_room >= 0:
            b = skb_pool_take(flow.small.p)
        if b == NULL:
            b = skb_pool_take(flow.pool.p)
        if b == NULL:
            return None
        skb = skb_build(b, flow.headroom)
        while count < most and room > 0:
            plain = row_bytes(rows, i, <PyObject *>address)
            n = PyBytes_GET_SIZE(<object>plain) if plain != NULL else row_size(rows, i, address)
            if n <= 0 or n > size:
                break
            if plain != NULL:
                if not add(skb, pages, <const uint8_t *>PyBytes_AS_STRING(<object>plain), n,
                           linear):
                    skb_free(skb)
                    return None
            else:
                data = <object>PyTuple_GET_ITEM(<object>PyList_GET_ITEM(rows, i), 0)
                PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
                if view.len != n or not add(skb, pages, <const uint8_t *>view.buf, n, linear):
                    PyBuffer_Release(&view)
                    skb_free(skb)
                    return None
                PyBuffer_Release(&view)
            one = SKB_OVERHEAD + (
                flow.small.p.buf_bytes if n <= flow.small_room else flow.pool.p.buf_bytes)
            truesize += one
            room -= one
            count += 1
            i += 1
            if n < size:
                break
        if count < 2:
            skb_free(skb)
            return None
        flow.push_udp(skb)
        skb.gso_size = size
        skb.gso_segs = count
        skb.gso_type = GSO_UDP_L4
        skb.truesize = truesize
        return skb


cdef inline bint add(sk_buff skb, SkbPool pages, const uint8_t *p, Py_ssize_t n,
                     bint linear) noexcept:
    cdef uint8_t *end = NULL if linear else skb_core_extend(skb_c(skb), <uint32_t>n)
    if end != NULL:
        memcpy(end, p, n)
        return True
    if linear:
        memcpy(skb.head + skb.tail, p, n)
        skb.tail += <uint32_t>n
        skb.len += <uint32_t>n
        return True
    return skb_do_add_data(skb, pages.p, p, <uint64_t>n) == <uint64_t>n


# -- receiving -------------------------------------------------------------------------------------
cdef inline void copy(sk_buff skb, uint32_t off, uint8_t *dst, uint32_t n) noexcept:
    cdef const uint8_t *piece = skb_core_piece(skb_c(skb), off, n)
    if piece != NULL:
        memcpy(dst, piece, n)
    else:
        skb_do_copy(skb, off, dst, n)


cdef inline bint merged(sk_buff skb) noexcept:
    return 0 < skb.gso_size < skb.len


cdef int64_t part_truesize(sk_buff skb, uint32_t n, uint32_t segs) noexcept:
    """The truesize of the first `n` < len bytes, `segs` datagrams: buffers and one sk_buff each.

    A buffer that they share with the rest counts for the rest.
    """
    cdef int64_t size = <int64_t>segs * SKB_OVERHEAD
    cdef uint32_t h = skb_core_headlen(skb_c(skb))
    cdef uint32_t i = 0
    if h and n >= h:
        size += skb.hbuf.size
    n = n - h if n > h else 0
    while n and i < skb.nr_frags:
        if skb.frags[i].len > n:
            break
        n -= skb.frags[i].len
        size += skb.frags[i].buf.size
        i += 1
    return size if size < skb.truesize else skb.truesize


cdef void shortened(sk_buff skb) noexcept:
    """Set the GSO fields of a merged sk_buff after datagrams were taken off it."""
    if merged(skb):
        skb.gso_segs = (skb.len + skb.gso_size - 1) // skb.gso_size
    else:
        skb.gso_size = skb.gso_segs = skb.gso_type = 0


cpdef int64_t udp_charge_split(sk_buff skb) except? -1:
    """Give a merged sk_buff the truesize that its datagrams would have in one sk_buff each.

    data at the UDP header.
    """
    need(skb)
    skb_check(skb)
    if merged(skb):
        skb.truesize += (skb.len - UDP_HLEN - 1) // skb.gso_size * SKB_OVERHEAD
    return skb.truesize


cpdef bint udp_carve(sk_buff_head queue) except -1:
    """Split the first datagram off into an sk_buff, when `queue` begins with a merged one.

    The owner stays charged with the same. False without memory for it (nothing changed).
    """
    need(queue)
    cdef sk_buff skb
    if queue.first == NULL:
        return True
    skb = <sk_buff>queue.first
    if not skb.gso_size:
        return True
    return carve(queue, skb) is not None


cdef sk_buff carve(sk_buff_head queue, sk_buff skb):
    cdef sk_buff one
    cdef uint32_t n
    cdef int64_t size
    if not merged(skb):
        shortened(skb)
        return skb
    n = <uint32_t>skb.gso_size
    size = part_truesize(skb, n, 1)
    one = skb_do_carve(skb, n)
    if one is None:
        return None
    skb.truesize -= size
    shortened(skb)
    one.truesize = size
    one.gso_size = one.gso_segs = one.gso_type = 0
    one.sk = skb.sk
    one.destructor = skb.destructor
    queue.insert_before(skb, one)
    return one


cpdef bint udp_carve_all(sk_buff_head queue) except -1:
    """`udp_carve` for every datagram in `queue`. False without memory for it."""
    need(queue)
    cdef sk_buff skb
    cdef PyObject *p = queue.first
    while p != NULL:
        skb = <sk_buff>p
        while skb.gso_size:
            if carve(queue, skb) is None:
                return False
        p = skb.next_
    return True


@cython.final
cdef class mmsg_recv:
    """The buffers of one recvmmsg(2) and its result `got`: rows (bytes or their number, address).

    Buffers are a list of writable ones, or `flat`, one with a row of `size` bytes for each of
    `count` datagrams. With neither, each datagram becomes a bytes object of at most `size`.
    `show(owner, name)` makes an address of a sockaddr (or None); for a sender equal to the sockaddr
    `seen` it is `shown`.
    """

    def __cinit__(self, show, owner=None, buffers=None, flat=None, Py_ssize_t count=0,
                  Py_ssize_t size=0, seen=None, shown=None):
        self.show = show
        self.owner = owner
        self.rows = []
        self.pair_n = -1
        if type(seen) is sockaddr:
            self.seen = <sockaddr>seen
            self.shown = shown
        if buffers is not None:
            self.buffers = list(buffers)
            count = PyList_GET_SIZE(self.buffers)
        elif count < 0 or size < 0:
            raise ValueError(f"mmsg_recv: count={count}, size={size}: must not be negative")
        elif flat is not None:
            view = memoryview(flat)
            if view.readonly:
                raise TypeError("mmsg_recv: the buffer cannot be written to")
            self.flat = flat = view if view.itemsize == 1 and view.ndim == 1 else view.cast("B")
            if count and size > len(flat) // count:
                raise ValueError(
                    f"mmsg_recv: {count} rows of {size} bytes do not fit {len(flat)} bytes")
        self.count = count
        self.size = size

    def __len__(self):
        return self.count

    @property
    def got(self):
        """The rows received so far."""
        self.settle()
        return self.rows

    cdef int settle(self) except -1:
        """Append the `pairs` equal rows to `rows` in one step."""
        cdef list alike
        if self.pairs:
            alike = [self.pair] * self.pairs
            self.pairs = 0
            if self.rows:
                self.rows += alike
            else:
                self.rows = alike
        return 0

    cdef int keep(self, object row) except -1:
        self.settle()
        self.rows.append(row)
        self.n += 1
        return 0

    cpdef object room(self):
        """The buffer for the next datagram. Raises IndexError when all are filled."""
        cdef Py_ssize_t i = self.n
        if i >= self.count:
            raise IndexError(f"mmsg_recv: all {self.count} rows are filled")
        if self.buffers is not None:
            return self.buffers[i]
        if self.flat is not None:
            return self.flat[i * self.size:(i + 1) * self.size]
        return bytearray(self.size)

    cpdef void put(self, int64_t n, name, room) except *:
        """Add the next datagram: `n` bytes in `room`, from the sockaddr `name`."""
        shown = self.show(self.owner, name)
        if self.buffers is None and self.flat is None:
            self.keep((bytes(memoryview(room)[:n]), shown))
        else:
            self.keep((n, shown))

    cdef int sender(self, sk_buff skb, int family) except -1:
        """Set `shown` to the address of the sender of `skb`."""
        cdef uint8_t who[24]
        cdef const uint8_t *p
        cdef int n = 0
        cdef const uint8_t *t = skb_within(skb, skb.transport_header, UDP_HLEN, skb.end)
        p = skb_within(skb, skb.network_header, IP6_HLEN, skb.end)
        memset(who, 0, sizeof(who))
        if p != NULL and t != NULL:
            n = 24
            if p[0] >> 4 == 4:
                memcpy(who, p + 12, 4)
            else:
                memcpy(who, p + 8, 16)
            who[16] = p[0] >> 4
            memcpy(who + 17, t, 2)
            who[19] = <uint8_t>family
            memcpy(who + 20, &skb.skb_iif, 4)
            if n == self.who_len and memcmp(who, self.who, n) == 0:
                return 0
        self.settle()
        self.pair_n = -1
        if self.seen is None or not udp_is_from(skb, family, self.seen):
            self.seen = None
            name = udp_name(skb, family)
            self.shown = self.show(self.owner, name)
            self.seen = name
        memcpy(self.who, who, sizeof(who))
        self.who_len = n
        return 0

    cdef int begin_pairs(self, Py_ssize_t n) except -1:
        """Set `pair` to (n, the sender's address)."""
        self.settle()
        self.pair = (n, self.shown)
        self.pair_n = n
        return 0

    cpdef int64_t take(self, sk_buff_head queue, int family, int64_t most) except -1:
        """Take up to `most` datagrams off `queue` into the buffers left; return how many.

        `released` is the truesize that the caller returns to the queue's owner for datagrams taken
        off an sk_buff that stays in the queue. The others return theirs as they are freed here.
        Stops before a datagram whose buffer is not writable, and before one with another holder.
        `family` is the socket's.
        """
        need(queue)
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t i = self.n
        cdef sk_buff skb
        cdef uint32_t off, c, n, segs
        cdef int64_t back
        cdef Py_buffer flat, view
        cdef object data
        cdef bytes made
        cdef bint stop = False
        self.released = 0
        if self.flat is not None:
            PyObject_GetBuffer(self.flat, &flat, PyBUF_WRITABLE)
        try:
            while done < most and i < self.count and queue.first != NULL and not stop:
                skb = <sk_buff>queue.first
                if skb.users != 1:
                    break
                self.sender(skb, family)
                if queue.first != <PyObject *>skb or skb.users != 1:
                    break
                off = segs = 0
                while True:
                    c = <uint32_t>(skb.len - off)
                    if 0 < skb.gso_size < c:
                        c = <uint32_t>skb.gso_size
                    made = None
                    if self.buffers is not None:
                        data = <object>PyList_GET_ITEM(self.buffers, i)
                        if type(data) is bytearray:
                            n = <uint32_t>min(<Py_ssize_t>c, PyByteArray_GET_SIZE(data))
                            copy(skb, off, <uint8_t *>PyByteArray_AS_STRING(data), n)
                        else:
                            try:
                                PyObject_GetBuffer(data, &view, PyBUF_WRITABLE)
                            except Exception:   # the caller raises its error
                                stop = True
                                break
                            if skb.users != 1 or queue.first != <PyObject *>skb:
                                PyBuffer_Release(&view)
                                raise RuntimeError("mmsg_recv: a buffer read from the socket")
                            n = <uint32_t>min(<Py_ssize_t>c, view.len)
                            skb_do_copy(skb, off, <uint8_t *>view.buf, n)
                            PyBuffer_Release(&view)
                    elif self.flat is not None:
                        n = <uint32_t>min(<Py_ssize_t>c, self.size)
                        copy(skb, off, <uint8_t *>flat.buf + i * self.size, n)
                    else:
                        n = <uint32_t>min(<Py_ssize_t>c, self.size)
                        made = PyBytes_FromStringAndSize(NULL, n)
                        copy(skb, off, <uint8_t *>PyBytes_AS_STRING(made), n)
                    if made is not None:
                        self.keep((made, self.shown))
                    else:
                        if n != self.pair_n:
                            self.begin_pairs(n)
                        self.pairs += 1
                        self.n += 1
                    off += c
                    segs += 1
                    i += 1
                    done += 1
                    if off == skb.len or done == most or i == self.count:
                        break
                if off == skb.len and segs:
                    list_unlink(queue, skb)
                    skb_free(skb)
                elif segs:
                    back = part_truesize(skb, off, segs)
                    skb.truesize -= back
                    self.released += back
                    skb_do_pull(skb, off)
                    shortened(skb)
        finally:
            if self.flat is not None:
                PyBuffer_Release(&flat)
        return done
