# cython: language_level=3, embedsignature=True
"""Classic BPF (struct sock_filter): checked once, run on packets.

net/core/filter.c: bpf_check_classic says what may be attached, bpf_convert_filter what each
instruction means. Tests compare it with this machine's kernel and with libpcap. A program has no
loops, so a run ends after at most as many steps as it has instructions; it allocates nothing and
needs no GIL.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.base.bytes cimport ld16be, ld32be
from fastpath.base.skbuff cimport (
    SKB_UNSET, need, sk_buff, skb_c, skb_check, skb_core, skb_core_headlen, skb_frag,
)

BPF_MAXINSNS = MAXINSNS
BPF_MEMWORDS = MEMWORDS
SKF_AD_OFF = -0x1000
SKF_NET_OFF = -0x100000
SKF_LL_OFF = -0x200000

cdef enum:
    MAXINSNS = 4096
    MEMWORDS = 16
    AD_OFF = -0x1000
    NET_OFF = -0x100000
    LL_OFF = -0x200000
    AD_MAX = 64
    NOWHERE = -0x80000000
    PROG_BYTES = 120        # struct bpf_prog, and the three instructions every program begins with

# BPF_CLASS | BPF_SIZE | BPF_MODE, or | BPF_OP | BPF_SRC (uapi/linux/bpf_common.h)
cdef enum:
    LD_W_ABS = 0x20
    LD_H_ABS = 0x28
    LD_B_ABS = 0x30
    LD_W_IND = 0x40
    LD_H_IND = 0x48
    LD_B_IND = 0x50
    LD_LEN = 0x80
    LD_IMM = 0x00
    LD_MEM = 0x60
    LDX_LEN = 0x81
    LDX_MSH = 0xB1
    LDX_IMM = 0x01
    LDX_MEM = 0x61
    ST = 0x02
    STX = 0x03
    ADD_K = 0x04
    ADD_X = 0x0C
    SUB_K = 0x14
    SUB_X = 0x1C
    MUL_K = 0x24
    MUL_X = 0x2C
    DIV_K = 0x34
    DIV_X = 0x3C
    OR_K = 0x44
    OR_X = 0x4C
    AND_K = 0x54
    AND_X = 0x5C
    LSH_K = 0x64
    LSH_X = 0x6C
    RSH_K = 0x74
    RSH_X = 0x7C
    NEG = 0x84
    MOD_K = 0x94
    MOD_X = 0x9C
    XOR_K = 0xA4
    XOR_X = 0xAC
    JA = 0x05
    JEQ_K = 0x15
    JEQ_X = 0x1D
    JGT_K = 0x25
    JGT_X = 0x2D
    JGE_K = 0x35
    JGE_X = 0x3D
    JSET_K = 0x45
    JSET_X = 0x4D
    RET_K = 0x06
    RET_A = 0x16
    TAX = 0x07
    TXA = 0x87

# Ancillary loads, behind all real codes: SKF_AD_* (uapi/linux/filter.h)
cdef enum:
    AD = 0x100
    AD_PROTOCOL = 0x100
    AD_PKTTYPE = 0x104
    AD_IFINDEX = 0x108
    AD_NLATTR = 0x10C
    AD_NLATTR_NEST = 0x110
    AD_MARK = 0x114
    AD_QUEUE = 0x118
    AD_HATYPE = 0x11C
    AD_RXHASH = 0x120
    AD_CPU = 0x124
    AD_ALU_XOR_X = 0x128
    AD_VLAN_TAG = 0x12C
    AD_VLAN_TAG_PRESENT = 0x130
    AD_PAY_OFFSET = 0x134
    AD_RANDOM = 0x138
    AD_VLAN_TPID = 0x13C

cdef enum:
    P_IP = 0x0800
    P_IPV6 = 0x86DD
    P_8021Q = 0x8100
    P_8021AD = 0x88A8
    P_ARP = 0x0806
    P_RARP = 0x8035


cdef struct packet:
    const uint8_t *head
    int64_t data            # where offset 0 of the program is, from head
    int64_t len             # from there to the end
    int64_t headlen         # of it: linear
    int64_t mac, net        # offsets from `data`; NOWHERE when not set
    const skb_frag *frags
    uint32_t nr_frags
    uint32_t protocol, pkt_type, mark, queue, hash, vlan_tci, vlan_proto
    bint has_dev
    uint32_t ifindex, hatype


cdef Py_ssize_t[16] AD_INSNS = [2, 2, 4, 4, 4, 1, 1, 4, 1, 4, 1, 1, 3, 4, 4, 2]


# --- checking ---------------------------------------------------------------------------------


cdef bint code_allowed(uint16_t code) noexcept nogil:
    """net/core/filter.c chk_code_allowed."""
    if code in (LD_W_ABS, LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND, LD_LEN, LD_IMM, LD_MEM,
                LDX_LEN, LDX_MSH, LDX_IMM, LDX_MEM, ST, STX, TAX, TXA, RET_K, RET_A, JA,
                JEQ_K, JEQ_X, JGT_K, JGT_X, JGE_K, JGE_X, JSET_K, JSET_X):
        return True
    return code in (ADD_K, ADD_X, SUB_K, SUB_X, MUL_K, MUL_X, DIV_K, DIV_X, OR_K, OR_X, AND_K,
                    AND_X, LSH_K, LSH_X, RSH_K, RSH_X, NEG, MOD_K, MOD_X, XOR_K, XOR_X)


cdef inline bint is_branch(uint16_t code) noexcept nogil:
    return code in (JEQ_K, JEQ_X, JGT_K, JGT_X, JGE_K, JGE_X, JSET_K, JSET_X)


cdef inline bint is_ancillary(const bpf_insn *f) noexcept nogil:
    cdef int64_t at
    if f.code not in (LD_W_ABS, LD_H_ABS, LD_B_ABS):
        return False
    at = <int64_t><int32_t>f.k - AD_OFF
    return 0 <= at < AD_MAX and at % 4 == 0


cdef const char *insn_error(const bpf_insn *f, Py_ssize_t left) noexcept nogil:
    """The error in an instruction that `left` others follow, or NULL."""
    if not code_allowed(f.code):
        return b"no such instruction"
    if f.code in (DIV_K, MOD_K) and f.k == 0:
        return b"division by zero"
    if f.code in (LSH_K, RSH_K) and f.k >= 32:
        return b"shift by 32 bits or more"
    if f.code in (LD_MEM, LDX_MEM, ST, STX) and f.k >= MEMWORDS:
        return b"no such word of scratch memory"
    if f.code == JA and <int64_t>f.k >= left:
        return b"jump beyond the end"
    if is_branch(f.code) and (f.jt >= left or f.jf >= left):
        return b"jump beyond the end"
    if (f.code in (LD_W_ABS, LD_H_ABS, LD_B_ABS) and f.k >= <uint32_t>AD_OFF
            and not is_ancillary(f)):
        return b"no such ancillary load"
    return NULL


cdef Py_ssize_t check_load_and_stores(const bpf_insn *f, Py_ssize_t n,
                                      uint16_t *masks) noexcept nogil:
    """net/core/filter.c: the first instruction that loads a word that may not be stored; n: none.

    `masks`: n words, all ones.
    """
    cdef Py_ssize_t pc
    cdef uint16_t valid = 0
    for pc in range(n):
        valid &= masks[pc]
        if f[pc].code in (ST, STX):
            valid |= <uint16_t>(1 << f[pc].k)
        elif f[pc].code in (LD_MEM, LDX_MEM):
            if not valid & (1 << f[pc].k):
                return pc
        elif f[pc].code == JA:
            masks[pc + 1 + f[pc].k] &= valid
            valid = 0xFFFF
        elif is_branch(f[pc].code):
            masks[pc + 1 + f[pc].jt] &= valid
            masks[pc + 1 + f[pc].jf] &= valid
            valid = 0xFFFF
    return n


cdef int refuse(Py_ssize_t pc, const bpf_insn *f, str why) except -1:
    raise ValueError(f"bpf: instruction {pc} ({f[pc].code:#x} {f[pc].jt} {f[pc].jf} {f[pc].k:#x}): "
                     f"{why}")


cdef int bpf_check_classic(const bpf_insn *f, Py_ssize_t n) except -1:
    """net/core/filter.c: may this be run? ValueError with the instruction and what is wrong."""
    cdef Py_ssize_t pc
    cdef const char *why
    cdef uint16_t *masks
    for pc in range(n):
        why = insn_error(&f[pc], n - pc - 1)
        if why is not NULL:
            refuse(pc, f, why.decode())
    if f[n - 1].code not in (RET_K, RET_A):
        refuse(n - 1, f, "the last one must return")
    masks = <uint16_t *>calloc(n, sizeof(uint16_t))
    if masks is NULL:
        raise MemoryError
    memset(masks, 0xFF, n * sizeof(uint16_t))
    pc = check_load_and_stores(f, n, masks)
    free(masks)
    if pc < n:
        refuse(pc, f, "scratch memory is loaded before it is stored")
    return 0


@cython.final
cdef class bpf_prog:
    """A checked program: `filter` its instructions as struct sock_filter, `len` how many.

    `filter` may be those bytes (8 for each: u16 code, u8 jt, u8 jf, u32 k, this machine's order) or
    (code, jt, jf, k) tuples. `size_bytes` is what Linux charges a socket for it (bpf_prog_size).
    `seed` starts the numbers that SKF_AD_RANDOM loads.

    Raises ValueError: no instructions, more than 4096, or one that bpf_check_classic refuses.
    """

    def __cinit__(self, filter, uint64_t seed=1):  # noqa: A002
        cdef Py_ssize_t n, pc
        cdef const uint8_t[::1] view
        if not isinstance(filter, bytes):
            filter = insns_bytes(filter)
        n = len(<bytes>filter) // 8
        if len(<bytes>filter) % 8 or not 0 < n <= MAXINSNS:
            raise ValueError(f"bpf: {len(<bytes>filter)} bytes are not 1 to {MAXINSNS} "
                             "instructions of 8")
        self.insns = <bpf_insn *>calloc(n, sizeof(bpf_insn))
        if self.insns is NULL:
            raise MemoryError
        view = filter
        memcpy(self.insns, &view[0], n * 8)
        bpf_check_classic(self.insns, n)
        self.filter = filter
        self.len = n
        self.size_bytes = prog_size(self.insns, n)
        self.state = seed or 1
        for pc in range(n):
            if is_ancillary(&self.insns[pc]):
                self.insns[pc].code = <uint16_t>(AD + (<int32_t>self.insns[pc].k - AD_OFF))
                if self.insns[pc].code in (AD_IFINDEX, AD_HATYPE):
                    self.wants_dev = True

    def __dealloc__(self):
        free(self.insns)

    def __len__(self):
        return self.len

    def __repr__(self):
        return f"<bpf_prog of {self.len} instructions>"


cdef bytes insns_bytes(rows):
    """(code, jt, jf, k) tuples as struct sock_filter. ValueError for what does not fit."""
    cdef bytearray out = bytearray()
    cdef bpf_insn one
    try:
        for code, jt, jf, k in rows:
            if not (0 <= code < 1 << 16 and 0 <= jt < 256 and 0 <= jf < 256
                    and -0x80000000 <= k <= 0xFFFFFFFFU):
                raise ValueError
            one.code, one.jt, one.jf = code, jt, jf
            one.k = <uint32_t>(<int64_t>k & 0xFFFFFFFFU)
            out += (<const uint8_t *>&one)[:8]
    except (TypeError, ValueError):
        raise ValueError("bpf: a program is rows of (code, jt, jf, k)") from None
    return bytes(out)


cdef bint reads_packet(const bpf_insn *f) noexcept nogil:
    return f.code in (LD_W_IND, LD_H_IND, LD_B_IND, LDX_MSH) or (
        f.code in (LD_W_ABS, LD_H_ABS, LD_B_ABS) and not is_ancillary(f))


cdef int64_t prog_size(const bpf_insn *f, Py_ssize_t n) noexcept nogil:
    """bpf_prog_size of what bpf_convert_filter makes of the program, on x86-64."""
    cdef Py_ssize_t pc, insns = 0
    cdef bint reads = False
    for pc in range(n):
        insns += expansion(&f[pc])
        reads = reads or reads_packet(&f[pc])
    return PROG_BYTES + 8 * (insns + (4 if reads else 0))


cdef Py_ssize_t expansion(const bpf_insn *f) noexcept nogil:
    """Instructions of bpf_convert_filter (net/core/filter.c) for one of ours."""
    cdef Py_ssize_t n
    if f.code in (DIV_X, MOD_X):
        return 5
    if f.code == RET_K:
        return 2
    if f.code in (LD_W_IND, LD_H_IND, LD_B_IND):
        return 9 if f.k else 8
    if is_ancillary(f):
        return AD_INSNS[(<int32_t>f.k - AD_OFF) // 4]
    if reads_packet(f):                                     # convert_bpf_ld_abs
        n = 8
        if <int32_t>f.k >= 0:
            n = 12 + (f.code in (LD_W_ABS, LD_H_ABS)) + (f.k != 0) + 2 * (f.k > 0x7FFF)
        return n + 6 if f.code == LDX_MSH else n
    if is_branch(f.code):
        n = 1 if not f.jf or (not f.jt and f.code not in (JSET_K, JSET_X)) else 2
        return n + (f.k > 0x7FFFFFFF and f.code in (JEQ_K, JGT_K, JGE_K, JSET_K))
    return 1


# --- reading ----------------------------------------------------------------------------------


cdef bint copy_bits(const packet *p, int64_t off, uint8_t *to, int64_t n) noexcept nogil:
    """net/core/skbuff.c skb_copy_bits: bytes off … off + n of `data`; False beyond its end."""
    cdef int64_t at, here
    cdef uint32_t i
    cdef const skb_frag *frag
    if off > p.len - n or off < -p.data:
        return False
    if off < p.headlen:
        here = min(n, p.headlen - off)
        memcpy(to, p.head + p.data + off, here)
        to += here
        off += here
        n -= here
    at = p.headlen
    for i in range(p.nr_frags):
        if not n:
            return True
        frag = &p.frags[i]
        if off < at + frag.len:
            here = min(n, at + frag.len - off)
            memcpy(to, frag.buf.ptr + frag.off + (off - at), here)
            to += here
            off += here
            n -= here
        at += frag.len
    return n == 0


cdef int64_t load(const packet *p, int64_t off, int64_t n) noexcept nogil:
    """bpf_skb_load_helper_*: `n` bytes in network order; -1 when they are not there.

    `off` is a signed 32-bit offset; negative ones count from the headers (SKF_NET_OFF, SKF_LL_OFF).
    """
    cdef uint8_t four[4]
    cdef const uint8_t *at
    if off < 0:
        if off >= NET_OFF:
            if p.net == NOWHERE:
                return -1
            off = off - NET_OFF + p.net
        elif off >= LL_OFF and p.mac != NOWHERE:
            off = off - LL_OFF + p.mac
        else:
            return -1
        if off < -p.data:
            return -1
    if off + n <= p.headlen:
        at = p.head + p.data + off
    elif copy_bits(p, off, four, n):
        at = four
    else:
        return -1
    if n == 1:
        return at[0]
    if n == 2:
        return ld16be(at)
    return ld32be(at)


cdef uint32_t nla_find(const packet *p, uint32_t at, uint32_t end, uint32_t kind) noexcept nogil:
    """lib/nlattr.c: where between `at` and `end` an attribute of type `kind` begins; 0: nowhere."""
    cdef uint16_t head[2]
    cdef int64_t left = <int64_t>end - at
    while left >= 4:
        if not copy_bits(p, at, <uint8_t *>head, 4):
            return 0
        if head[0] < 4 or head[0] > left:
            return 0
        if (head[1] & 0x3FFFU) == kind:
            return at
        left -= (head[0] + 3) & ~3
        at += (head[0] + 3) & ~3
    return 0


cdef uint32_t get_nlattr(const packet *p, uint32_t a, uint32_t x, bint nested) noexcept nogil:
    """net/core/filter.c: bpf_skb_get_nlattr and bpf_skb_get_nlattr_nest."""
    cdef uint16_t nla_len
    if p.nr_frags or p.len < 4 or a > p.len - 4:
        return 0
    if not nested:
        return nla_find(p, a, <uint32_t>p.len, x)
    if not copy_bits(p, a, <uint8_t *>&nla_len, 2) or nla_len > p.len - a:
        return 0
    return nla_find(p, a + 4, a + nla_len, x)


cdef uint32_t get_poff(const packet *p) noexcept nogil:
    """net/core/flow_dissector.c skb_get_poff: where the payload of the transport layer begins.

    IPv4, IPv6 with its extension headers, one in the other, VLAN tags, ARP. 0 for the rest.
    """
    cdef int64_t off = p.net, v, proto, transport = 0
    cdef int rounds = 0
    cdef uint32_t l3 = p.protocol
    if off == NOWHERE:
        return 0
    while rounds < 16:      # MAX_FLOW_DISSECT_HDRS
        rounds += 1
        if l3 == P_IP:
            v = load_at(p, off, 1)
            if v < 0 or load_at(p, off + 19, 1) < 0 or v & 15 < 5:
                return 0
            transport = load_at(p, off + 9, 1)
            proto = load_at(p, off + 6, 2)
            off += (v & 15) * 4
            if proto & 0x3FFF:
                if proto & 0x1FFF:
                    return cap_poff(p, off)
                break
        elif l3 == P_IPV6:
            if load_at(p, off + 39, 1) < 0:
                return 0
            transport = load_at(p, off + 6, 1)
            off += 40
        elif l3 == P_8021Q or l3 == P_8021AD:
            v = load_at(p, off + 2, 2)
            if v < 0:
                return 0
            l3 = <uint32_t>v
            off += 4
            continue
        elif l3 == P_ARP or l3 == P_RARP:
            return cap_poff(p, off)
        else:
            return 0
        while l3 == P_IPV6 and transport in (0, 43, 60) and rounds < 16:
            rounds += 1
            v = load_at(p, off, 2)
            if v < 0:
                return 0
            transport = v >> 8
            off += ((v & 0xFF) + 1) * 8
        if l3 == P_IPV6 and transport == 44:
            v = load_at(p, off + 2, 2)
            proto = load_at(p, off, 1)
            if load_at(p, off + 7, 1) < 0:
                return 0
            off += 8
            transport = proto
            if v & 0xFFF8:
                return cap_poff(p, off)
            break
        if transport == 4:
            l3 = P_IP
        elif transport == 41:
            l3 = P_IPV6
        else:
            break
    off = cap_poff(p, off)
    if transport == 6:
        v = load_at(p, off + 12, 1)
        return <uint32_t>(off if v < 0 else off + max(20, (v & 0xF0) >> 2))
    if transport in (17, 136, 1, 58, 2):
        return <uint32_t>(off + 8)
    if transport in (33, 132):
        return <uint32_t>(off + 12)
    return <uint32_t>off


cdef inline uint32_t cap_poff(const packet *p, int64_t off) noexcept nogil:
    return <uint32_t>(<uint16_t>min(off, p.len))


cdef inline int64_t load_at(const packet *p, int64_t off, int64_t n) noexcept nogil:
    """As `load`, of an offset that may be negative itself (a header before `data`)."""
    cdef uint8_t four[4]
    memset(four, 0, 4)
    if not copy_bits(p, off, four, n):
        return -1
    return four[0] if n == 1 else ld16be(four)


# --- running ----------------------------------------------------------------------------------


cdef inline uint32_t next_random(uint64_t *state) noexcept nogil:
    """xorshift64*: as good as get_random_u32 for sampling, and repeatable."""
    cdef uint64_t s = state[0]
    s ^= s >> 12
    s ^= s << 25
    s ^= s >> 27
    state[0] = s
    return <uint32_t>((s * 0x2545F4914F6CDD1DULL) >> 32)


cdef uint32_t run(const bpf_insn *f, const packet *p, uint64_t *random) noexcept nogil:
    """bpf_convert_filter's meaning of the program: bytes of the packet to keep, 0 for none."""
    cdef uint32_t A = 0, X = 0
    cdef uint32_t mem[16]
    cdef uint16_t code
    cdef uint32_t k
    cdef int64_t got
    while True:
        code = f.code
        k = f.k
        if code == LD_W_ABS:
            got = load(p, <int32_t>k, 4)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LD_H_ABS:
            got = load(p, <int32_t>k, 2)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LD_B_ABS:
            got = load(p, <int32_t>k, 1)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LD_W_IND:
            got = load(p, <int32_t>(X + k), 4)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LD_H_IND:
            got = load(p, <int32_t>(X + k), 2)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LD_B_IND:
            got = load(p, <int32_t>(X + k), 1)
            if got < 0:
                return 0
            A = <uint32_t>got
        elif code == LDX_MSH:
            got = load(p, <int32_t>k, 1)
            if got < 0:
                return 0
            X = (<uint32_t>got & 15) << 2
        elif code == JEQ_K:
            f += f.jt if A == k else f.jf
        elif code == JGT_K:
            f += f.jt if A > k else f.jf
        elif code == JGE_K:
            f += f.jt if A >= k else f.jf
        elif code == JSET_K:
            f += f.jt if A & k else f.jf
        elif code == JA:
            f += k
        elif code == RET_K:
            return k
        elif code == RET_A:
            return A
        elif code == LD_LEN:
            A = <uint32_t>p.len
        elif code == LD_IMM:
            A = k
        elif code == LD_MEM:
            A = mem[k & 15]
        elif code == LDX_LEN:
            X = <uint32_t>p.len
        elif code == LDX_IMM:
            X = k
        elif code == LDX_MEM:
            X = mem[k & 15]
        elif code == ST:
            mem[k & 15] = A
        elif code == STX:
            mem[k & 15] = X
        elif code == TAX:
            X = A
        elif code == TXA:
            A = X
        elif code == ADD_K:
            A += k
        elif code == ADD_X:
            A += X
        elif code == SUB_K:
            A -= k
        elif code == SUB_X:
            A -= X
        elif code == MUL_K:
            A *= k
        elif code == MUL_X:
            A *= X
        elif code == DIV_K:
            A = A // k if k else 0
        elif code == DIV_X:
            if not X:
                return 0
            A //= X
        elif code == MOD_K:
            A = A % k if k else 0
        elif code == MOD_X:
            if not X:
                return 0
            A %= X
        elif code == AND_K:
            A &= k
        elif code == AND_X:
            A &= X
        elif code == OR_K:
            A |= k
        elif code == OR_X:
            A |= X
        elif code == XOR_K:
            A ^= k
        elif code == XOR_X or code == AD_ALU_XOR_X:
            A ^= X
        elif code == LSH_K:
            A <<= k & 31
        elif code == LSH_X:
            A <<= X & 31
        elif code == RSH_K:
            A >>= k & 31
        elif code == RSH_X:
            A >>= X & 31
        elif code == NEG:
            A = 0 - A
        elif code == JEQ_X:
            f += f.jt if A == X else f.jf
        elif code == JGT_X:
            f += f.jt if A > X else f.jf
        elif code == JGE_X:
            f += f.jt if A >= X else f.jf
        elif code == JSET_X:
            f += f.jt if A & X else f.jf
        elif code == AD_PROTOCOL:
            A = p.protocol
        elif code == AD_PKTTYPE:
            A = p.pkt_type
        elif code == AD_IFINDEX:
            if not p.has_dev:
                return A
            A = p.ifindex
        elif code == AD_HATYPE:
            if not p.has_dev:
                return A
            A = p.hatype
        elif code == AD_NLATTR:
            A = get_nlattr(p, A, X, False)
        elif code == AD_NLATTR_NEST:
            A = get_nlattr(p, A, X, True)
        elif code == AD_MARK:
            A = p.mark
        elif code == AD_QUEUE:
            A = p.queue
        elif code == AD_RXHASH:
            A = p.hash
        elif code == AD_CPU:
            A = 0
        elif code == AD_VLAN_TAG:
            A = p.vlan_tci
        elif code == AD_VLAN_TAG_PRESENT:
            A = 1 if p.vlan_proto or p.vlan_tci else 0
        elif code == AD_VLAN_TPID:
            A = p.vlan_proto
        elif code == AD_PAY_OFFSET:
            A = get_poff(p)
        elif code == AD_RANDOM:
            A = next_random(random)
        else:
            return 0
        f += 1


cpdef int64_t bpf_prog_run(bpf_prog prog, sk_buff skb, int64_t off=0) except -1:
    """Run a program over a packet whose offset 0 is `off` bytes from skb.data. Borrows skb.

    Returns what it returns: how many bytes of the packet to keep, 0 to drop it. Raises ValueError
    for a freed sk_buff and an `off` outside of it.
    """
    cdef packet p
    cdef skb_core *s
    cdef int64_t linear
    need(prog)
    skb_check(skb)
    s = skb_c(skb)
    linear = skb_core_headlen(s)
    if off < -<int64_t>skb.data or off > skb.len:
        raise ValueError(f"bpf: no packet at offset {off}")
    p.head = skb.head
    p.data = skb.data + off
    p.len = skb.len - off
    p.headlen = linear - off
    p.mac = NOWHERE if skb.mac_header == SKB_UNSET else skb.mac_header - p.data
    p.net = NOWHERE if skb.network_header == SKB_UNSET else skb.network_header - p.data
    p.frags = skb.frags
    p.nr_frags = skb.nr_frags
    p.protocol = skb.protocol
    p.pkt_type = skb.pkt_type
    p.mark = skb.mark
    p.queue = skb.queue_mapping
    p.hash = skb.hash
    p.vlan_tci = skb.vlan_tci
    p.vlan_proto = skb.vlan_proto
    p.has_dev = prog.wants_dev and skb.dev is not None
    if p.has_dev:
        p.ifindex = skb.dev.ifindex
        p.hatype = skb.dev.type
    return run(prog.insns, &p, &prog.state)


def bpf_filter(bpf_prog prog not None, data, int64_t wirelen=-1):
    """Run a program over the bytes of an Ethernet frame, as libpcap's bpf_filter does.

    `wirelen`: the frame's length where `data` is only its beginning. Returns bytes to keep, 0 for
    none.
    """
    cdef const uint8_t[::1] view = data
    cdef packet p
    cdef uint32_t verdict
    memset(&p, 0, sizeof(p))
    p.headlen = view.shape[0]
    p.len = max(wirelen, p.headlen)
    p.head = &view[0] if p.headlen else NULL
    p.net = 14
    p.protocol = ld16be(p.head + 12) if p.headlen >= 14 else 0
    with nogil:
        verdict = run(prog.insns, &p, &prog.state)
    return verdict
