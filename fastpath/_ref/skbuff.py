"""Plain-Python twin of ``fastpath.base.skbuff``: the same names and meaning, no raw memory.

A buffer is a counted bytearray; the data part of an sk_buff is its head buffer with offsets and a
list of fragments. Only functions on bytes and buffers are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastpath._ref.csum import csum_block_add, csum_partial

MAX_SKB_FRAGS = 1100
HEADER_UNSET = 0xFFFFFFFF


@dataclass(eq=False, slots=True)
class Buf:
    """One counted buffer of a pool; payload may be appended at `used`."""

    pool: SkbPool
    mem: bytearray
    refs: int = 1
    nohdr: int = 0
    used: int = 0

    def drop(self) -> None:
        """Return the buffer to its pool if it has no holder."""
        self.refs -= 1
        if self.refs == 0:
            self.pool.free += 1


@dataclass(eq=False, slots=True)
class Frag:
    """Bytes off … off + len of a buffer."""

    buf: Buf
    off: int
    len: int

    def data(self) -> bytes:
        """The bytes."""
        return bytes(self.buf.mem[self.off : self.off + self.len])


class SkbPool:
    """`count` buffers of `buf_bytes`."""

    def __init__(self, buf_bytes: int, count: int) -> None:
        self.buf_bytes, self.count, self.free = buf_bytes, count, count
        self.cur: Buf | None = None

    def take(self) -> Buf | None:
        """A buffer with one reference, without room to append; None if empty."""
        if self.free == 0:
            return None
        self.free -= 1
        return Buf(self, bytearray(self.buf_bytes), used=self.buf_bytes)

    @property
    def available(self) -> int:
        """Free buffers."""
        return self.free + (self.cur is not None and self.cur.refs == 1)

    @property
    def in_use(self) -> int:
        """Buffers in use."""
        return self.count - self.available


@dataclass(eq=False)
class sk_buff:
    """Head, frags and the offsets; `users` 0 means freed."""

    hbuf: Buf | None
    data: int = 0
    tail: int = 0
    frags: list[Frag] = field(default_factory=list)
    users: int = 1
    nohdr: bool = False
    mac_header: int = HEADER_UNSET
    network_header: int = HEADER_UNSET
    transport_header: int = HEADER_UNSET

    @property
    def head(self) -> bytearray:
        """The head buffer's bytes; ValueError when freed."""
        if self.hbuf is None:
            raise ValueError("sk_buff was freed")
        return self.hbuf.mem

    @property
    def end(self) -> int:
        """Size of the head buffer."""
        return len(self.hbuf.mem) if self.hbuf else 0

    @property
    def data_len(self) -> int:
        """Bytes in the frags."""
        return sum(f.len for f in self.frags)

    @property
    def headlen(self) -> int:
        """Bytes in the linear part."""
        return self.tail - self.data

    def __len__(self) -> int:
        return self.headlen + self.data_len

    def __bool__(self) -> bool:
        return True

    @property
    def tailroom(self) -> int:
        """Bytes skb_put may add."""
        return 0 if self.frags else self.end - self.tail

    def add_frag(self, buf: Buf, off: int, n: int) -> None:
        """Append a fragment, taking over a reference; joined with the last if contiguous."""
        last = self.frags[-1] if self.frags else None
        if last and last.buf is buf and last.off + last.len == off:
            last.len += n
            buf.refs -= 1
        else:
            self.frags.append(Frag(buf, off, n))

    def pieces(self, off: int, n: int) -> Iterator[tuple[Buf, int, int]]:
        """(buffer, offset, length) of bytes off … off + n."""
        assert self.hbuf is not None
        for buf, at, size in [(self.hbuf, self.data, self.headlen)] + [
            (f.buf, f.off, f.len) for f in self.frags
        ]:
            if n and off < size:
                c = min(size - off, n)
                yield buf, at + off, c
                off, n = 0, n - c
            else:
                off -= min(off, size)


def _check(skb: sk_buff) -> None:
    if skb.users == 0:
        raise ValueError("sk_buff was freed")


def alloc_skb(pool: SkbPool, size_bytes: int, headroom: int = 0) -> sk_buff | None:
    """Empty sk_buff, or None if the pool is empty."""
    if size_bytes < 0 or headroom < 0 or headroom + size_bytes > pool.buf_bytes:
        raise ValueError("does not fit")
    buf = pool.take()
    return None if buf is None else sk_buff(buf, headroom, headroom)


def kfree_skb(skb: sk_buff) -> None:
    """Free it and release its buffers."""
    _check(skb)
    skb.users = 0
    assert skb.hbuf is not None
    for f in skb.frags:
        f.buf.drop()
    if skb.nohdr:
        skb.hbuf.nohdr -= 1
    skb.hbuf.drop()
    skb.hbuf, skb.frags, skb.data, skb.tail, skb.nohdr = None, [], 0, 0, False


def skb_clone(skb: sk_buff) -> sk_buff:
    """Shares head and frags."""
    _check(skb)
    assert skb.hbuf is not None
    skb.hbuf.refs += 1
    for f in skb.frags:
        f.buf.refs += 1
    return sk_buff(
        skb.hbuf,
        skb.data,
        skb.tail,
        [Frag(f.buf, f.off, f.len) for f in skb.frags],
        mac_header=skb.mac_header,
        network_header=skb.network_header,
        transport_header=skb.transport_header,
    )


def _private(skb: sk_buff) -> sk_buff | None:
    _check(skb)
    assert skb.hbuf is not None
    buf = skb.hbuf.pool.take()
    if buf is None:
        return None
    buf.mem[: skb.tail] = skb.head[: skb.tail]
    return sk_buff(
        buf,
        skb.data,
        skb.tail,
        mac_header=skb.mac_header,
        network_header=skb.network_header,
        transport_header=skb.transport_header,
    )


def skb_copy(skb: sk_buff) -> sk_buff | None:
    """Private head and payload."""
    new = _private(skb)
    if new is None:
        return None
    rest = skb_copy_bits(skb, skb.headlen, skb.data_len)
    while rest:
        buf = skb.frags[0].buf.pool.take()
        if buf is None:
            kfree_skb(new)
            return None
        n = min(len(rest), len(buf.mem))
        buf.mem[:n] = rest[:n]
        new.add_frag(buf, 0, n)
        rest = rest[n:]
    return new


def pskb_copy(skb: sk_buff) -> sk_buff | None:
    """Private head, shared frags."""
    new = _private(skb)
    if new is not None:
        _share(new, skb, skb.headlen, skb.data_len)
    return new


def _share(to: sk_buff, frm: sk_buff, off: int, n: int) -> bool:
    pieces = list(frm.pieces(off, n))
    if len(to.frags) + len(pieces) > MAX_SKB_FRAGS:
        return False
    for buf, at, size in pieces:
        buf.refs += 1
        to.add_frag(buf, at, size)
    return True


def skb_header_release(skb: sk_buff) -> None:
    """Promise not to access the header part."""
    _check(skb)
    if not skb.nohdr and skb.hbuf:
        skb.nohdr = True
        skb.hbuf.nohdr += 1


def skb_header_cloned(skb: sk_buff) -> bool:
    """Whether another holder uses the header part."""
    _check(skb)
    assert skb.hbuf is not None
    return skb.hbuf.refs - skb.hbuf.nohdr > (0 if skb.nohdr else 1)


def _rehead(skb: sk_buff, headroom: int, ntail: int) -> bool:
    old = skb.hbuf
    assert old is not None
    buf: Buf | None = old
    need = headroom + skb.headlen + ntail
    if old.refs > 1 or need > len(old.mem):
        if need > old.pool.buf_bytes:
            return False
        buf = old.pool.take()
    if buf is None:
        return False
    keep = min(skb.data, headroom)
    buf.mem[headroom - keep : headroom + skb.headlen] = bytes(skb.head[skb.data - keep : skb.tail])
    if buf is not old:
        if skb.nohdr:
            old.nohdr -= 1
        skb.nohdr = False
        old.drop()
    delta = headroom - skb.data
    for name in ("mac_header", "network_header", "transport_header"):
        off = getattr(skb, name)
        if off != HEADER_UNSET:
            setattr(skb, name, off + delta if off + delta >= 0 else HEADER_UNSET)
    skb.hbuf, skb.data, skb.tail = buf, headroom, headroom + skb.headlen
    return True


def skb_cow_head(skb: sk_buff, headroom: int) -> bool:
    """Private header with this much headroom."""
    _check(skb)
    if not skb_header_cloned(skb) and headroom <= skb.data:
        return True
    return _rehead(skb, max(headroom, skb.data), 0)


def skb_reserve(skb: sk_buff, n: int) -> None:
    """Move the start of an empty sk_buff."""
    _check(skb)
    if len(skb) or not -skb.data <= n <= skb.end - skb.tail:
        raise ValueError("skb_reserve")
    skb.data = skb.tail = skb.data + n


def skb_put_data(skb: sk_buff, data: bytes) -> None:
    """Append to the linear part."""
    _check(skb)
    if len(data) > skb.tailroom or skb.frags:
        raise ValueError("skb_put")
    skb.head[skb.tail : skb.tail + len(data)] = data
    skb.tail += len(data)


def skb_push_data(skb: sk_buff, data: bytes) -> None:
    """Prepend to the linear part."""
    _check(skb)
    if len(data) > skb.data:
        raise ValueError("skb_push")
    skb.data -= len(data)
    skb.head[skb.data : skb.data + len(data)] = data


def _drop_frags(skb: sk_buff, n: int) -> None:
    while n:
        f = skb.frags[0]
        c = min(n, f.len)
        f.off, f.len, n = f.off + c, f.len - c, n - c
        if f.len == 0:
            skb.frags.pop(0).buf.drop()


def skb_pull(skb: sk_buff, n: int) -> None:
    """Drop bytes at the front."""
    _check(skb)
    if not 0 <= n <= len(skb):
        raise ValueError("skb_pull")
    h = min(n, skb.headlen)
    skb.data += h
    _drop_frags(skb, n - h)


def skb_trim(skb: sk_buff, n: int) -> None:
    """Keep the first n bytes."""
    _check(skb)
    if n < 0:
        raise ValueError("skb_trim")
    cut = len(skb) - n
    while cut > 0 and skb.frags:
        f = skb.frags[-1]
        c = min(cut, f.len)
        f.len, cut = f.len - c, cut - c
        if f.len == 0:
            skb.frags.pop().buf.drop()
    if cut > 0:
        skb.tail -= cut


def pskb_may_pull(skb: sk_buff, n: int) -> bool:
    """Make the first n bytes linear."""
    if n < 0 or n > len(skb):
        return False
    need = n - skb.headlen
    if need <= 0:
        return True
    assert skb.hbuf is not None
    if (
        (skb.hbuf.refs > 1 or need > skb.end - skb.tail)
        and not _rehead(skb, skb.data, need)
        and not _rehead(skb, 0, need)
    ):
        return False
    data = skb_copy_bits(skb, skb.headlen, need)
    _drop_frags(skb, need)
    skb.head[skb.tail : skb.tail + need] = data
    skb.tail += need
    return True


def skb_linearize(skb: sk_buff) -> bool:
    """Make all of it linear."""
    _check(skb)
    return pskb_may_pull(skb, len(skb))


def skb_copy_bits(skb: sk_buff, off: int, n: int) -> bytes:
    """Bytes off … off + n."""
    _check(skb)
    if n < 0 or off < -skb.data or off + n > len(skb) or off > len(skb):
        raise ValueError("skb_copy_bits")
    out = b""
    if off < 0:
        c = min(-off, n)
        out = bytes(skb.head[skb.data + off : skb.data + off + c])
        off, n = off + c, n - c
    return out + b"".join(bytes(b.mem[at : at + c]) for b, at, c in skb.pieces(off, n))


def skb_store_bits(skb: sk_buff, off: int, data: bytes) -> None:
    """Overwrite bytes from off."""
    _check(skb)
    if off < 0 or off + len(data) > len(skb):
        raise ValueError("skb_store_bits")
    for buf, at, c in skb.pieces(off, len(data)):
        buf.mem[at : at + c] = data[:c]
        data = data[c:]


def skb_to_bytes(skb: sk_buff) -> bytes:
    """Everything."""
    _check(skb)
    return skb_copy_bits(skb, 0, len(skb))


def skb_copy_datagram_iter(
    skb: sk_buff, offset: int, buffer: bytearray, buf_off: int, n: int
) -> int:
    """Copy to a caller's buffer; returns the bytes copied."""
    _check(skb)
    if offset < 0 or buf_off < 0 or n < 0:
        raise ValueError("skb_copy_datagram_iter")
    n = max(0, min(n, len(skb) - offset, len(buffer) - buf_off))
    if n:
        buffer[buf_off : buf_off + n] = skb_copy_bits(skb, offset, n)
    return n


def skb_add_data(skb: sk_buff, pool: SkbPool, data: bytes, off: int, n: int) -> int:
    """Append payload in pages; returns the bytes accepted."""
    _check(skb)
    if off < 0 or n < 0 or off + n > len(data):
        raise ValueError("skb_add_data")
    src, done = data[off : off + n], 0
    while done < n:
        last = skb.frags[-1] if skb.frags else None
        if last and last.off + last.len == last.buf.used < len(last.buf.mem):
            buf = last.buf
            c = min(len(buf.mem) - buf.used, n - done)
            last.len += c
        else:
            cur = pool.cur
            if cur and cur.refs == 1:
                cur.used = 0
            if cur and cur.used < len(cur.mem):
                buf = cur
            else:
                new = pool.take()
                if new is None:
                    break
                if cur:
                    cur.drop()
                pool.cur = buf = new
                buf.used = 0
            c = min(len(buf.mem) - buf.used, n - done)
            if len(skb.frags) == MAX_SKB_FRAGS:
                break
            buf.refs += 1
            skb.add_frag(buf, buf.used, c)
        buf.mem[buf.used : buf.used + c] = src[done : done + c]
        buf.used += c
        done += c
    return done


def skb_split(skb: sk_buff, skb1: sk_buff, n: int) -> None:
    """Move bytes past n to skb1."""
    _check(skb)
    _check(skb1)
    if skb is skb1 or len(skb1) or not 0 <= n <= len(skb):
        raise ValueError("skb_split")
    if not _share(skb1, skb, n, len(skb) - n):
        raise ValueError("skb_split")
    skb_trim(skb, n)


def skb_shift(tgt: sk_buff, skb: sk_buff, n: int) -> int:
    """Move n bytes from the front of skb to the end of tgt."""
    _check(tgt)
    _check(skb)
    if tgt is skb or not 0 <= n <= len(skb):
        raise ValueError("skb_shift")
    if not _share(tgt, skb, 0, n):
        return 0
    skb_pull(skb, n)
    return n


def skb_try_coalesce(to: sk_buff, frm: sk_buff) -> bool:
    """Append all of frm and free it."""
    _check(to)
    _check(frm)
    if to is frm:
        raise ValueError("skb_try_coalesce")
    if not _share(to, frm, 0, len(frm)):
        return False
    kfree_skb(frm)
    return True


def skb_checksum(skb: sk_buff, off: int, n: int, acc: int = 0) -> int:
    """Sum over the pieces, rotated where they begin at odd places."""
    _check(skb)
    if off < 0 or n < 0 or off + n > len(skb):
        raise ValueError("skb_checksum")
    done = 0
    for buf, at, c in skb.pieces(off, n):
        acc = csum_block_add(acc, csum_partial(bytes(buf.mem[at : at + c]), 0), done)
        done += c
    return acc
