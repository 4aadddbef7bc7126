# cython: language_level=3, embedsignature=True
"""TCP's retransmit queue (include/net/tcp.h: tcp_rtx_queue, tsorted_sent_queue).

Members are in sequence order, as in a plain queue, and also in

* a treap by sequence number: `find` needs no walk (the kernel: an rb-tree);
* one of two lists, or none: **sent**, in the order of their last transmission, and **lost**, in
  sequence order, which wait for retransmission. An sk_buff that a SACK covered is on neither.

Both lists have a cursor. The sent list's cursor is the newest member that RACK has passed; the lost
list's is the one that was put in last. A cursor whose member goes moves to the one before it.

The nodes belong to the sk_buffs, so that a member may leave in any way (unlink, kfree_skb, purge).
Call with the GIL held.
"""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdlib cimport qsort

from fastpath.base.skbuff cimport (
    list_link, list_purge, list_unlink, sk_buff, sk_buff_head, skb_index, skb_try_coalesce,
)


cdef inline bint after(uint32_t a, uint32_t b) noexcept nogil:
    return <uint32_t>(b - a) >= 0x80000000U


cdef inline uint32_t seq_of(rtx_node *n) noexcept:
    return (<sk_buff>n.skb).seq


# -- the lists -------------------------------------------------------------------------------------
cdef void put_after(rtx_list *l, rtx_node *at, rtx_node *n) noexcept:
    """Insert n behind `at`; NULL: in front."""
    cdef rtx_node *nxt = at.next if at != NULL else l.first
    n.home = l
    n.prev = at
    n.next = nxt
    if at != NULL:
        at.next = n
    else:
        l.first = n
    if nxt != NULL:
        nxt.prev = n
    else:
        l.last = n
    l.qlen += 1


cdef void take(rtx_node *n) noexcept:
    """Off its list, if it is on one."""
    cdef rtx_list *l = n.home
    if l == NULL:
        return
    if l.cursor == n:
        l.cursor = n.prev
    if n.prev != NULL:
        n.prev.next = n.next
    else:
        l.first = n.next
    if n.next != NULL:
        n.next.prev = n.prev
    else:
        l.last = n.prev
    n.home = NULL
    n.prev = n.next = NULL
    l.qlen -= 1


cdef struct sent_key:
    int64_t tx_tstamp_ns
    uint32_t end_seq
    rtx_node *node


cdef int by_time(const void *a, const void *b) noexcept nogil:
    """In the order of transmission; pieces of one packet by sequence."""
    cdef const sent_key *p = <const sent_key *>a
    cdef const sent_key *q = <const sent_key *>b
    if p.tx_tstamp_ns != q.tx_tstamp_ns:
        return 1 if p.tx_tstamp_ns > q.tx_tstamp_ns else -1
    return 1 if after(p.end_seq, q.end_seq) else -1


# -- the treap -------------------------------------------------------------------------------------
cdef inline void hang(rtx_node **root, rtx_node *up, rtx_node *old, rtx_node *n) noexcept:
    """Let n take the place of `old` below `up`."""
    if up == NULL:
        root[0] = n
    elif up.left == old:
        up.left = n
    else:
        up.right = n
    if n != NULL:
        n.up = up


cdef void rise(rtx_node **root, rtx_node *n) noexcept:
    """Rotate n above its parent."""
    cdef rtx_node *p = n.up
    hang(root, p.up, p, n)
    if p.left == n:
        p.left = n.right
        if n.right != NULL:
            n.right.up = p
        n.right = p
    else:
        p.right = n.left
        if n.left != NULL:
            n.left.up = p
        n.left = p
    p.up = n


cdef rtx_node *depth_first(rtx_node *n, Py_ssize_t level, Py_ssize_t *deepest,
                           Py_ssize_t *count) noexcept:
    """Walk below n; the first node that breaks a rule of the treap, or NULL."""
    cdef rtx_node *wrong
    if n == NULL:
        return NULL
    count[0] += 1
    if level > deepest[0]:
        deepest[0] = level
    if n.left != NULL and (n.left.up != n or n.left.prio > n.prio):
        return n.left
    if n.right != NULL and (n.right.up != n or n.right.prio > n.prio):
        return n.right
    wrong = depth_first(n.left, level + 1, deepest, count)
    return wrong if wrong != NULL else depth_first(n.right, level + 1, deepest, count)


cdef void leaves(PyObject *p) noexcept:
    """skb_index.leave: the sk_buff is taken off its queue."""
    cdef sk_buff skb = <sk_buff>p
    cdef rtx_node *n = <rtx_node *>skb.index
    cdef rtx_queue q = <rtx_queue>n.queue
    take(n)
    while n.left != NULL and n.right != NULL:
        rise(&q.root, n.left if n.left.prio > n.right.prio else n.right)
    hang(&q.root, n.up, n, n.left if n.left != NULL else n.right)
    skb.index = NULL
    n.next = q.spare
    q.spare = n


@cython.final
cdef class rtx_queue(sk_buff_head):
    """sk_buffs that were sent and are not acknowledged, in sequence order (see the module).

    Raises ValueError for an sk_buff that is not on this queue.
    """

    def __cinit__(self):
        self.indexed = True
        self.seed = <uint32_t>(<uintptr_t><PyObject *>self >> 4) | 1

    def __dealloc__(self):
        cdef rtx_node *n
        list_purge(self)
        while self.spare != NULL:
            n = self.spare
            self.spare = n.next
            PyMem_Free(n)

    cdef rtx_node *member(self, sk_buff skb) except NULL:
        if skb is None or skb.list_ != <PyObject *>self:
            raise ValueError("sk_buff is not on this queue")
        return <rtx_node *>skb.index

    cdef rtx_node *enter(self, rtx_node *prev, sk_buff skb) except NULL:
        """Link skb behind prev (NULL: in front), in the queue and the treap."""
        cdef rtx_node *n
        cdef rtx_node *at
        cdef PyObject *before = prev.skb if prev != NULL else NULL
        cdef PyObject *behind = (<sk_buff>before).next_ if prev != NULL else self.first
        if self.spare == NULL:
            self.spare = <rtx_node *>PyMem_Malloc(sizeof(rtx_node))
            if self.spare == NULL:
                raise MemoryError
            self.spare.next = NULL
        self.indexed = False
        try:
            list_link(self, before, behind, skb)
        finally:
            self.indexed = True
        n = self.spare
        self.spare = n.next
        n.leave = leaves
        n.skb = <PyObject *>skb
        n.queue = <PyObject *>self
        n.left = n.right = n.up = n.prev = n.next = NULL
        n.home = NULL
        self.seed ^= self.seed << 13
        self.seed ^= self.seed >> 17
        self.seed ^= self.seed << 5
        n.prio = self.seed
        skb.index = <skb_index *>n
        if self.root == NULL:
            self.root = n
            return n
        if prev != NULL and prev.right == NULL:
            prev.right = n
            n.up = prev
        else:
            # The successor is leftmost in prev's right half, so its left place is free.
            at = <rtx_node *>(<sk_buff>behind).index
            at.left = n
            n.up = at
        while n.up != NULL and n.up.prio < n.prio:
            rise(&self.root, n)
        return n

    # -- the queue
    cpdef void queue_tail(self, sk_buff skb) except *:
        """Takes ownership of skb, the newest in sequence, which was sent just now."""
        cdef rtx_node *prev = NULL
        if self.last != NULL:
            prev = <rtx_node *>(<sk_buff>self.last).index
        put_after(&self.sent_, self.sent_.last, self.enter(prev, skb))

    cpdef void queue_head(self, sk_buff skb) except *:
        """Takes ownership of skb; it is on neither list."""
        self.enter(NULL, skb)

    cpdef void insert_after(self, sk_buff prev, sk_buff skb) except *:
        """Takes ownership of skb, a piece of prev: behind it also on the list that prev is on."""
        cdef rtx_node *at = self.member(prev)
        cdef rtx_node *n = self.enter(at, skb)
        if at.home != NULL:
            put_after(at.home, at, n)

    cpdef sk_buff find(self, uint32_t seq):
        """The first member that ends after `seq`: which holds it, or comes next; or None."""
        cdef rtx_node *n = self.root
        cdef rtx_node *best = NULL
        while n != NULL:
            if after((<sk_buff>n.skb).end_seq, seq):
                best = n
                n = n.left
            else:
                n = n.right
        return <sk_buff>best.skb if best != NULL else None

    cpdef bint coalesce(self, sk_buff to, sk_buff skb) except -1:
        """skb_try_coalesce for two members: skb's data goes behind that of `to`, and skb is freed.

        False: it does not fit; nothing changed.
        """
        cdef rtx_node *n = self.member(skb)
        cdef PyObject *before = skb.prev_
        cdef PyObject *behind = skb.next_
        cdef bint done
        self.member(to)
        if to is skb:
            raise ValueError("rtx_queue.coalesce: to and skb are the same")
        # Off the queue for the attempt only: its node, and so its place in treap and list, stays.
        skb.index = NULL
        list_unlink(self, skb)
        done = skb_try_coalesce(to, skb)
        skb.index = <skb_index *>n
        if done:
            leaves(<PyObject *>skb)
            return True
        self.indexed = False
        list_link(self, before, behind, skb)
        self.indexed = True
        return False

    # -- sent, lost, or neither
    cpdef void sent(self, sk_buff skb) except *:
        """It was sent just now: the last of the sent list."""
        cdef rtx_node *n = self.member(skb)
        take(n)
        put_after(&self.sent_, self.sent_.last, n)

    cpdef void lose(self, sk_buff skb) except *:
        """It waits for retransmission: to its place on the lost list."""
        cdef rtx_node *n = self.member(skb)
        cdef rtx_list *l = &self.lost_
        cdef rtx_node *at
        take(n)
        at = l.cursor if l.cursor != NULL else l.last
        while at != NULL and after(seq_of(at), skb.seq):
            at = at.prev
        if at == NULL:
            put_after(l, NULL, n)
        else:
            while at.next != NULL and not after(seq_of(at.next), skb.seq):
                at = at.next
            put_after(l, at, n)
        l.cursor = n

    cpdef void settle(self, sk_buff skb) except *:
        """It was delivered: on neither list."""
        take(self.member(skb))

    cpdef void unlose(self) except *:
        """Nothing was lost: all of the lost list goes back where it was on the sent list."""
        cdef Py_ssize_t count = self.sent_.qlen + self.lost_.qlen
        cdef Py_ssize_t i
        cdef rtx_list *l
        cdef rtx_node *n
        cdef sent_key *keys
        if not self.lost_.qlen:
            return
        keys = <sent_key *>PyMem_Malloc(count * sizeof(sent_key))
        if keys == NULL:
            raise MemoryError
        for i in range(count):
            l = &self.sent_ if self.sent_.first != NULL else &self.lost_
            n = l.first
            take(n)
            keys[i].tx_tstamp_ns = (<sk_buff>n.skb).tx_tstamp_ns
            keys[i].end_seq = (<sk_buff>n.skb).end_seq
            keys[i].node = n
        qsort(keys, count, sizeof(sent_key), by_time)
        for i in range(count):
            put_after(&self.sent_, self.sent_.last, keys[i].node)
        PyMem_Free(keys)

    @property
    def sent_first(self):
        """Sent longest ago; None: nothing is in flight."""
        return <object>self.sent_.first.skb if self.sent_.first != NULL else None

    @property
    def sent_passed(self):
        """The cursor of the sent list: the newest that RACK has passed."""
        return <object>self.sent_.cursor.skb if self.sent_.cursor != NULL else None

    @property
    def sent_ahead(self):
        """The first behind the cursor of the sent list."""
        cdef rtx_node *n = self.sent_.cursor
        n = n.next if n != NULL else self.sent_.first
        return <object>n.skb if n != NULL else None

    cpdef void sent_pass(self):
        """Move the cursor of the sent list on by one."""
        cdef rtx_node *n = self.sent_.cursor
        n = n.next if n != NULL else self.sent_.first
        if n != NULL:
            self.sent_.cursor = n

    @property
    def lost_first(self):
        """The first in sequence that waits for retransmission, or None."""
        return <object>self.lost_.first.skb if self.lost_.first != NULL else None

    def sent_list(self):
        """The members of the sent list, for tests and for showing."""
        return members(&self.sent_)

    def lost_list(self):
        """The members of the lost list."""
        return members(&self.lost_)

    def depth(self):
        """Levels of the treap. Raises: AssertionError when it is none, or lacks members."""
        cdef Py_ssize_t deepest = 0
        cdef Py_ssize_t count = 0
        if depth_first(self.root, 1, &deepest, &count) != NULL or count != self.qlen:
            raise AssertionError("rtx_queue: the treap is broken")
        return deepest


cdef list members(rtx_list *l):
    cdef list found = []
    cdef rtx_node *n = l.first
    while n != NULL:
        found.append(<object>n.skb)
        n = n.next
    return found
