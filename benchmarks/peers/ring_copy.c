/* The ceiling: copy frames from one ring of 16-byte descriptors to another and do nothing else.
 *
 * Legacy layouts of the 8254x, 256 descriptors and 2 KiB buffers on either side, addresses checked against the size
 * of memory, DD written on both sides, driver side queues and reaps. Compiled as a shared
 * object and called by rows/peer.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RING 256u
#define BUF 2048u

struct txd { uint64_t addr; uint16_t length; uint8_t cso, cmd, sta, css; uint16_t special; };
struct rxd { uint64_t addr; uint16_t length, csum; uint8_t status, errors; uint16_t special; };
struct host { uint8_t *mem; uint64_t size; uint32_t head, tail, clean; };

#define HANDOVER() __asm__ volatile("" ::: "memory")    /* the other side runs now: memory is what counts */

static struct host make(void)
{
    struct host h = {0};
    h.size = RING * 16 + (uint64_t)RING * BUF;
    h.mem = aligned_alloc(4096, h.size);
    memset(h.mem, 0x5A, h.size);
    memset(h.mem, 0, RING * 16);
    return h;
}

static uint64_t buffer(uint32_t i) { return RING * 16 + (uint64_t)i * BUF; }

struct ring_copy {
    struct host a, b;
    uint32_t size, batch;
};

struct ring_copy *ring_copy_new(uint32_t size, uint32_t batch)
{
    struct ring_copy *copy = calloc(1, sizeof(*copy));
    uint32_t i;
    *copy = (struct ring_copy){make(), make(), size, batch};
    for (i = 0; i < RING; i++)
        ((struct rxd *)copy->b.mem)[i].addr = buffer(i);
    copy->b.tail = RING - 1;
    return copy;
}

void ring_copy_free(struct ring_copy *copy)
{
    free(copy->a.mem);
    free(copy->b.mem);
    free(copy);
}

/* Move `packets`; the number that arrived, or -1 when they arrived changed. */
int64_t ring_copy_run(struct ring_copy *copy, uint64_t packets)
{
    struct host a = copy->a, b = copy->b;
    struct txd *tx = (struct txd *)a.mem;
    struct rxd *rx = (struct rxd *)b.mem;
    uint32_t size = copy->size, batch = copy->batch, i;
    uint64_t done = 0;
    if (size < 14 || size > BUF || batch == 0 || batch >= RING)
        return -1;
    while (done < packets) {
        for (i = 0; i < batch; i++) {
            struct txd *d = &tx[a.tail];
            d->addr = buffer(a.tail);
            d->length = (uint16_t)size;
            d->cmd = 0x0B;
            d->sta = 0;
            a.tail = (a.tail + 1) % RING;
        }
        HANDOVER();
        while (a.head != a.tail && b.head != b.tail) {
            struct txd *d = &tx[a.head];
            struct rxd *r = &rx[b.head];
            uint64_t from = d->addr, to = r->addr;
            uint32_t n = d->length;
            if (n <= BUF && from <= a.size - n && to <= b.size - n)
                memcpy(b.mem + to, a.mem + from, n);
            r->length = (uint16_t)n;
            r->status = 3;
            d->sta |= 1;
            a.head = (a.head + 1) % RING;
            b.head = (b.head + 1) % RING;
        }
        HANDOVER();
        while (a.clean != a.tail && tx[a.clean].sta & 1)
            a.clean = (a.clean + 1) % RING;
        while (rx[b.clean].status & 1) {
            rx[b.clean].status = 0;
            b.tail = b.clean;
            b.clean = (b.clean + 1) % RING;
            done++;
        }
    }
    copy->a = a;
    copy->b = b;
    return memcmp(a.mem + buffer(0), b.mem + buffer(0), size) ? -1 : (int64_t)done;
}
