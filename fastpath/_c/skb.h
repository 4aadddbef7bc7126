/* Buffers, pools and the data part of an sk_buff: layouts and the small inline functions.
 * The larger bodies are in skb_body.h, compiled once, in skbuff.pyx. Call with the GIL held. */
#ifndef E1000EMU_SKB_H
#define E1000EMU_SKB_H

#include <stdint.h>
#include <stddef.h>
#include <string.h>

#include "bytes.h"

#define SKB_INLINE_FRAGS 4
#define SKB_MAX_FRAGS 1100
#define SKB_OVERHEAD 256u /* the sk_buff's own share of truesize, in bytes */
#define SKB_UNSET 0xFFFFFFFFu

struct skb_pool;

/* One counted buffer. `used` is where the next bytes may be appended (payload pages); `size` when
 * nothing may be (heads, receive buffers). */
typedef struct skb_buf {
    uint8_t *ptr;
    uint64_t dma;
    struct skb_pool *pool;
    struct skb_buf *next;
    uint32_t refs;
    uint32_t nohdr; /* of refs: holders that never look at the header part */
    uint32_t size;
    uint32_t used;
} skb_buf;

typedef struct skb_pool {
    skb_buf *free_list; /* LIFO: the hottest buffer first */
    skb_buf *bufs;
    skb_buf *cur; /* payload page that is partly filled; the pool holds one reference */
    uint32_t nfree, count, buf_bytes;
    uint32_t fresh; /* number of `bufs` ever taken; the rest is zero, mostly not mapped */
    int alive; /* the SkbPool object exists */
    uint64_t dma;
    uint8_t *bytes; /* of the first buffer */
    uint64_t gets, puts, failures;
    void (*release)(struct skb_pool *); /* called when !alive and every buffer is back */
    void *mem;  /* PyObject: the HostMemory */
    void *view; /* Py_buffer on its bytes */
} skb_pool;

typedef struct skb_frag {
    skb_buf *buf;
    uint32_t off, len;
} skb_frag;

/* head/data/tail/end and the fragments. Invariant: data <= tail <= end <= hbuf->size,
 * len == (tail - data) + data_len, every frag inside its buffer. Freed: hbuf NULL, all zero.
 * The class sk_buff (skbuff.pxd) has the same members in the same order. Fields that the stack
 * calculates with are signed and wide, so that their differences may be negative. */
typedef struct skb_core {
    uint8_t *head;
    skb_buf *hbuf;
    int64_t len, data_len;
    int64_t truesize;
    uint32_t data, tail, end;
    uint32_t users;
    uint32_t nr_frags, cap_frags;
    uint32_t cur_frag, cur_base; /* read cursor: frag and the bytes of frags before it */
    uint32_t nohdr;
    skb_frag *frags;
    skb_frag inl[SKB_INLINE_FRAGS];
} skb_core;

static inline uint32_t skb_core_headlen(const skb_core *s) { return s->tail - s->data; }

static inline skb_buf *skb_pool_take(skb_pool *p) {
    skb_buf *b = p->free_list;
    if (b != NULL) {
        p->free_list = b->next;
    } else if (p->fresh < p->count) {
        uint64_t at = (uint64_t)p->fresh * p->buf_bytes;
        b = p->bufs + p->fresh++;
        b->ptr = p->bytes + at;
        b->dma = p->dma + at;
        b->pool = p;
        b->size = p->buf_bytes;
    } else {
        p->failures++;
        return NULL;
    }
    p->nfree--;
    p->gets++;
    b->refs = 1;
    b->nohdr = 0;
    b->used = b->size;
    return b;
}

static inline void skb_buf_drop(skb_buf *b) {
    if (--b->refs == 0) {
        skb_pool *p = b->pool;
        b->next = p->free_list;
        p->free_list = b;
        p->nfree++;
        p->puts++;
        if (!p->alive && p->nfree == p->count)
            p->release(p);
    }
}

#endif
