/* Fast paths of skb_core_add_data and skb_core_copy for small pieces that are copied one after the
 * other to or from an sk_buff's fragments; inline. Call with the GIL held. */
#ifndef E1000EMU_SKB_RUN_H
#define E1000EMU_SKB_RUN_H

#include "skb.h"

/* Extend the last fragment by n bytes and return their address; NULL: use skb_core_add_data. */
static inline uint8_t *skb_core_extend(skb_core *s, uint32_t n) {
    skb_frag *f;
    skb_buf *b;
    uint8_t *end;
    if (s->nr_frags == 0 || n > 0x7FFFFFFFu - s->len)
        return NULL;
    f = &s->frags[s->nr_frags - 1];
    b = f->buf;
    if (f->off + f->len != b->used || n > b->size - b->used)
        return NULL;
    end = b->ptr + b->used;
    b->used += n;
    f->len += n;
    s->len += n;
    s->data_len += n;
    s->truesize += n;
    return end;
}

/* Bytes off … off + n (inside len) where they lie in the linear part, in the cursor's fragment or
 * in the next one; NULL: take skb_core_copy. */
static inline const uint8_t *skb_core_piece(skb_core *s, uint32_t off, uint32_t n) {
    uint32_t h = skb_core_headlen(s), i = s->cur_frag, base = s->cur_base;
    const skb_frag *f;
    if (off < h)
        return n <= h - off ? s->head + s->data + off : NULL;
    off -= h;
    if (i >= s->nr_frags || off < base)
        return NULL;
    f = &s->frags[i];
    if (off - base >= f->len) {
        base += f->len;
        f++;
        if (++i >= s->nr_frags || off - base >= f->len)
            return NULL;
        s->cur_frag = i;
        s->cur_base = base;
    }
    off -= base;
    return n <= f->len - off ? f->buf->ptr + f->off + off : NULL;
}

#endif
