/* The bodies behind sk_buff: fragment arrays, trimming, pulling, sharing, copying. Compiled once, in
 * skbuff.pyx, because the free lists of fragment arrays live here. Call with the GIL held. */
#ifndef E1000EMU_SKB_BODY_H
#define E1000EMU_SKB_BODY_H

#include "skb.h"
#include "skb_run.h"
#include <stdlib.h>
#include <sys/uio.h>

/* The object of an sk_buff is cleared for every packet. gcc turns that memset into `rep stos`, whose
 * start costs more than the rest of alloc_skb; the C library's own takes a third of the time. */
static void *(*const volatile skb_memset)(void *, int, size_t) = memset;
#define memset(p, c, n) skb_memset(p, c, n)

/* -- fragment arrays in size classes, kept on free lists ------------------------------------------ */
#define SKB_NCLASS 4
static const uint32_t skb_class_cap[SKB_NCLASS] = {20, 72, 400, SKB_MAX_FRAGS};
static const uint32_t skb_class_keep[SKB_NCLASS] = {1024, 256, 128, 32};
static skb_frag *skb_class_free[SKB_NCLASS];
static uint32_t skb_class_n[SKB_NCLASS];
static uint64_t skb_frag_mallocs; /* for the test that the steady state allocates nothing */

static int skb_class_of(uint32_t cap) {
    int c = 0;
    while (skb_class_cap[c] < cap)
        c++;
    return c;
}

static void skb_frags_free(skb_core *s) {
    if (s->cap_frags > SKB_INLINE_FRAGS) {
        int c = skb_class_of(s->cap_frags);
        if (skb_class_n[c] < skb_class_keep[c]) {
            memcpy(s->frags, &skb_class_free[c], sizeof(void *));
            skb_class_free[c] = s->frags;
            skb_class_n[c]++;
        } else {
            free(s->frags);
        }
    }
    s->frags = s->inl;
    s->cap_frags = SKB_INLINE_FRAGS;
}

/* Room for `need` frags in all: 0, or -1 beyond the limit or without memory (nothing changed). */
static int skb_core_reserve_frags(skb_core *s, uint32_t need) {
    skb_frag *f;
    uint32_t n = s->nr_frags;
    int c;
    if (need <= s->cap_frags)
        return 0;
    if (need > SKB_MAX_FRAGS)
        return -1;
    c = skb_class_of(need);
    f = skb_class_free[c];
    if (f != NULL) {
        memcpy(&skb_class_free[c], f, sizeof(void *));
        skb_class_n[c]--;
    } else {
        f = (skb_frag *)malloc(sizeof(skb_frag) * skb_class_cap[c]);
        if (f == NULL)
            return -1;
        skb_frag_mallocs++;
    }
    if (n != 0)
        memcpy(f, s->frags, sizeof(skb_frag) * n);
    skb_frags_free(s);
    s->frags = f;
    s->cap_frags = skb_class_cap[c];
    return 0;
}

static void skb_core_cursor_reset(skb_core *s) { s->cur_frag = s->cur_base = 0; }

/* -- life ----------------------------------------------------------------------------------------- */
static void skb_core_init(skb_core *s, skb_buf *b, uint32_t headroom) {
    s->head = b->ptr;
    s->hbuf = b;
    s->data = s->tail = headroom;
    s->end = b->size;
    s->truesize = b->size + SKB_OVERHEAD;
    s->users = 1;
    s->frags = s->inl;
    s->cap_frags = SKB_INLINE_FRAGS;
}

/* Let go of every buffer; the core is then the freed, harmless state. */
static void skb_core_release(skb_core *s) {
    uint32_t i, n = s->nr_frags;
    skb_buf *h = s->hbuf;
    if (h == NULL)
        return;
    s->hbuf = NULL;
    s->head = NULL;
    s->nr_frags = 0;
    for (i = 0; i < n; i++)
        skb_buf_drop(s->frags[i].buf);
    skb_frags_free(s);
    if (s->nohdr)
        h->nohdr--;
    skb_buf_drop(h);
    s->data = s->tail = s->end = s->len = s->data_len = s->users = s->nohdr = 0;
    skb_core_cursor_reset(s);
}

/* Append one fragment, taking over one reference of `b`; joined with the last when contiguous. */
static int skb_core_add_frag(skb_core *s, skb_buf *b, uint32_t off, uint32_t len) {
    skb_frag *f;
    if (s->nr_frags != 0) {
        f = &s->frags[s->nr_frags - 1];
        if (f->buf == b && f->off + f->len == off) {
            f->len += len;
            b->refs--; /* the frag holds one already */
            s->len += len;
            s->data_len += len;
            return 0;
        }
    }
    if (s->nr_frags >= s->cap_frags && skb_core_reserve_frags(s, s->nr_frags + 1) < 0)
        return -1;
    f = &s->frags[s->nr_frags++];
    f->buf = b;
    f->off = off;
    f->len = len;
    s->len += len;
    s->data_len += len;
    return 0;
}

/* Make `d` (empty, initialised to zero) share everything of `s`. */
static int skb_core_clone(skb_core *d, const skb_core *s) {
    uint32_t i;
    d->frags = d->inl;
    d->cap_frags = SKB_INLINE_FRAGS;
    d->nr_frags = 0;
    if (s->nr_frags != 0) {
        if (skb_core_reserve_frags(d, s->nr_frags) < 0)
            return -1;
        memcpy(d->frags, s->frags, sizeof(skb_frag) * s->nr_frags);
        for (i = 0; i < s->nr_frags; i++)
            d->frags[i].buf->refs++;
        d->nr_frags = s->nr_frags;
    }
    s->hbuf->refs++;
    d->head = s->head;
    d->hbuf = s->hbuf;
    d->data = s->data;
    d->tail = s->tail;
    d->end = s->end;
    d->len = s->len;
    d->data_len = s->data_len;
    d->truesize = s->truesize;
    d->users = 1;
    return 0;
}

/* -- cutting -------------------------------------------------------------------------------------- */
/* Remove the first n <= data_len bytes of the frags. */
static void skb_core_drop_frags(skb_core *s, uint32_t n) {
    uint32_t i = 0;
    s->len -= n;
    s->data_len -= n;
    while (n != 0) {
        skb_frag *f = &s->frags[i];
        if (f->len > n) {
            f->off += n;
            f->len -= n;
            break;
        }
        n -= f->len;
        skb_buf_drop(f->buf);
        i++;
    }
    if (i != 0) {
        s->nr_frags -= i;
        memmove(s->frags, s->frags + i, sizeof(skb_frag) * s->nr_frags);
    }
    skb_core_cursor_reset(s);
}

/* Remove n <= len bytes at the front. */
static void skb_core_pull(skb_core *s, uint32_t n) {
    uint32_t h = skb_core_headlen(s);
    if (n <= h) {
        s->data += n;
        s->len -= n;
        return;
    }
    s->data = s->tail;
    s->len -= h;
    skb_core_drop_frags(s, n - h);
}

/* Keep the first n bytes; longer is left alone. */
static void skb_core_trim(skb_core *s, uint32_t n) {
    uint32_t h = skb_core_headlen(s), cut;
    if (n >= s->len)
        return;
    cut = s->data_len;
    if (n < h) {
        s->tail = s->data + n;
    } else {
        cut = s->len - n;
    }
    s->data_len -= cut;
    s->len = n;
    if (cut != 0)
        skb_core_cursor_reset(s);
    while (cut != 0) {
        skb_frag *f = &s->frags[s->nr_frags - 1];
        if (f->len > cut) {
            f->len -= cut;
            break;
        }
        cut -= f->len;
        s->nr_frags--;
        skb_buf_drop(f->buf);
    }
}

/* -- copying -------------------------------------------------------------------------------------- */
/* Position on byte `off` of the fragment area (off < data_len), from the cursor when it is ahead. */
static void skb_core_seek(skb_core *s, uint32_t off, uint32_t *index, uint32_t *skip) {
    uint32_t i = 0, base = 0;
    if (off >= s->cur_base && s->cur_frag < s->nr_frags) {
        i = s->cur_frag;
        base = s->cur_base;
    }
    while (off - base >= s->frags[i].len) {
        base += s->frags[i].len;
        i++;
    }
    s->cur_frag = i;
    s->cur_base = base;
    *index = i;
    *skip = off - base;
}

/* Copy bytes off … off + n (inside len) to dst. */
static void skb_core_copy(skb_core *s, uint32_t off, uint8_t *dst, uint32_t n) {
    uint32_t h = skb_core_headlen(s), c, i, skip;
    if (n == 0)
        return;
    if (off < h) {
        c = h - off < n ? h - off : n;
        memcpy(dst, s->head + s->data + off, c);
        dst += c;
        off += c;
        n -= c;
        if (n == 0)
            return;
    }
    skb_core_seek(s, off - h, &i, &skip);
    for (;;) {
        skb_frag *f = &s->frags[i];
        c = f->len - skip;
        if (c >= n) {
            memcpy(dst, f->buf->ptr + f->off + skip, n);
            return;
        }
        memcpy(dst, f->buf->ptr + f->off + skip, c);
        dst += c;
        n -= c;
        skip = 0;
        i++;
        s->cur_base += f->len;
        s->cur_frag = i;
    }
}

static void skb_core_store(skb_core *s, uint32_t off, const uint8_t *src, uint32_t n) {
    uint32_t h = skb_core_headlen(s), c, i, skip;
    if (n == 0)
        return;
    if (off < h) {
        c = h - off < n ? h - off : n;
        memcpy(s->head + s->data + off, src, c);
        src += c;
        off += c;
        n -= c;
        if (n == 0)
            return;
    }
    skb_core_seek(s, off - h, &i, &skip);
    for (;; i++) {
        skb_frag *f = &s->frags[i];
        c = f->len - skip;
        if (c > n)
            c = n;
        memcpy(f->buf->ptr + f->off + skip, src, c);
        src += c;
        n -= c;
        skip = 0;
        if (n == 0)
            return;
    }
}

typedef uint32_t (*skb_csum_fn)(const uint8_t *p, size_t n, uint32_t acc);

static inline uint32_t skb_csum_join(uint32_t a, uint32_t b, uint32_t odd) {
    uint64_t t;
    if (odd & 1)
        b = b >> 8 | b << 24;
    t = (uint64_t)a + b;
    return (uint32_t)t + (uint32_t)(t >> 32);
}

/* Sum of bytes off … off + n (inside len); pieces that begin at odd places are rotated. */
static uint32_t skb_core_csum(skb_core *s, uint32_t off, uint32_t n, uint32_t acc, skb_csum_fn fn) {
    uint32_t h = skb_core_headlen(s), c, i, skip, done = 0;
    if (n == 0)
        return acc;
    if (off < h) {
        c = h - off < n ? h - off : n;
        acc = fn(s->head + s->data + off, c, acc);
        off += c;
        n -= c;
        done = c;
        if (n == 0)
            return acc;
    }
    skb_core_seek(s, off - h, &i, &skip);
    for (;; i++) {
        skb_frag *f = &s->frags[i];
        c = f->len - skip;
        if (c > n)
            c = n;
        acc = skb_csum_join(acc, fn(f->buf->ptr + f->off + skip, c, 0), done);
        done += c;
        n -= c;
        skip = 0;
        if (n == 0)
            return acc;
    }
}

/* Append bytes off … off + n of `s` to `d` by reference: 0, or -1 (d unchanged). */
static int skb_core_share(skb_core *d, skb_core *s, uint32_t off, uint32_t n) {
    uint32_t h = skb_core_headlen(s), c, i, skip, need = 0;
    uint32_t o = off, left = n;
    if (n == 0)
        return 0;
    if (o < h) {
        need++;
        c = h - o < left ? h - o : left;
        o += c;
        left -= c;
    }
    if (left != 0) {
        skb_core_seek(s, o - h, &i, &skip);
        for (left += skip; left != 0; i++) {
            need++;
            left -= s->frags[i].len < left ? s->frags[i].len : left;
        }
    }
    if (skb_core_reserve_frags(d, d->nr_frags + need) < 0)
        return -1;
    if (off < h) {
        c = h - off < n ? h - off : n;
        s->hbuf->refs++;
        skb_core_add_frag(d, s->hbuf, s->data + off, c);
        off += c;
        n -= c;
        if (n == 0)
            return 0;
    }
    skb_core_seek(s, off - h, &i, &skip);
    for (; n != 0; i++) {
        skb_frag *f = &s->frags[i];
        c = f->len - skip;
        if (c > n)
            c = n;
        f->buf->refs++;
        skb_core_add_frag(d, f->buf, f->off + skip, c);
        n -= c;
        skip = 0;
    }
    return 0;
}

/* -- the linear part ------------------------------------------------------------------------------ */
/* Give the linear data its own buffer with `headroom` before data and at least `ntail` after tail.
 * Works in place when the buffer is not shared. 0, or -1 (nothing changed). */
static int skb_core_rehead(skb_core *s, uint32_t headroom, uint32_t ntail) {
    uint32_t h = skb_core_headlen(s);
    /* bytes before data are headers already pulled: keep as many as fit */
    uint32_t k = s->data < headroom ? s->data : headroom;
    skb_buf *old = s->hbuf, *b = old;
    uint64_t need = (uint64_t)headroom + h + ntail;
    if (need > old->size)
        return -1;
    if (old->refs > 1) {
        b = skb_pool_take(old->pool);
        if (b == NULL)
            return -1;
    }
    memmove(b->ptr + headroom - k, s->head + s->data - k, (size_t)k + h);
    if (b != old) {
        if (s->nohdr)
            old->nohdr--;
        s->nohdr = 0;
        skb_buf_drop(old);
    }
    s->hbuf = b;
    s->head = b->ptr;
    s->data = headroom;
    s->tail = headroom + h;
    return 0;
}

/* Copy `n` bytes from the front of the frags to the linear tail (room checked by the caller). */
static void skb_core_pull_tail(skb_core *s, uint32_t n) {
    uint32_t len = s->len;
    skb_core_copy(s, skb_core_headlen(s), s->head + s->tail, n);
    skb_core_drop_frags(s, n);
    s->tail += n;
    s->len = len;
}

/* The places of bytes off … off + *n (inside len), at most `most` pieces: their number. *n is what
 * they hold. */
static int skb_core_pieces(skb_core *s, uint32_t off, uint32_t *n, struct iovec *out, int most) {
    uint32_t h = skb_core_headlen(s), left = *n, c, i, skip;
    int parts = 0;
    if (off < h && left != 0) {
        c = h - off < left ? h - off : left;
        out[parts++] = (struct iovec){s->head + s->data + off, c};
        off += c;
        left -= c;
    }
    if (left != 0) {
        skb_core_seek(s, off - h, &i, &skip);
        for (; left != 0 && parts < most; i++, skip = 0) {
            skb_frag *f = &s->frags[i];
            c = f->len - skip < left ? f->len - skip : left;
            out[parts++] = (struct iovec){f->buf->ptr + f->off + skip, c};
            left -= c;
        }
    }
    *n -= left;
    return parts;
}

/* Append up to n bytes from src in payload pages of `pool`; bytes taken. NULL: the caller fills
 * them. */
static uint64_t skb_core_add_data(skb_core *s, skb_pool *pool, const uint8_t *src, uint64_t n) {
    uint64_t done = 0;
    if (n > 0x7FFFFFFFu - s->len)
        n = 0x7FFFFFFFu - s->len;
    while (done < n) {
        skb_frag *f = s->nr_frags != 0 ? &s->frags[s->nr_frags - 1] : NULL;
        skb_buf *b;
        uint32_t c;
        if (f != NULL && f->off + f->len == f->buf->used && f->buf->used < f->buf->size) {
            c = f->buf->size - f->buf->used;
            if (c > n - done)
                c = (uint32_t)(n - done);
            uint8_t *end = skb_core_extend(s, c);
            if (src != NULL)
                memcpy(end, src + done, c);
        } else {
            b = pool->cur;
            if (b != NULL && b->refs == 1)
                b->used = 0; /* no other holder: reuse the buffer from its start */
            if (b != NULL && b->used < b->size) {
                b->refs++;
            } else {
                b = skb_pool_take(pool);
                if (b == NULL)
                    break;
                b->used = 0;
                if (pool->cur != NULL)
                    skb_buf_drop(pool->cur);
                pool->cur = b;
                b->refs++;
            }
            c = b->size - b->used;
            if (c > n - done)
                c = (uint32_t)(n - done);
            if (skb_core_add_frag(s, b, b->used, c) < 0) {
                skb_buf_drop(b);
                break;
            }
            if (src != NULL)
                memcpy(b->ptr + b->used, src + done, c);
            s->truesize += c;
            b->used += c;
        }
        done += c;
    }
    return done;
}

#endif
