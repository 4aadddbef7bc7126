/* The ceiling: copy frames from one ring of 16-byte descriptors to another and do nothing else.
 *
 * Legacy layouts of the 8254x, 256 descriptors and 2 KiB buffers on either side, addresses checked against the size
 * of memory, DD written on both sides, driver side queues and reaps. usage: ring_copy FRAME_BYTES BATCH PACKETS
 * Prints CPU nanoseconds per packet. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING 256u
#define BUF 2048u

struct txd { uint64_t addr; uint16_t length; uint8_t cso, cmd, sta, css; uint16_t special; };
struct rxd { uint64_t addr; uint16_t length, csum; uint8_t status, errors; uint16_t special; };
struct host { uint8_t *mem; uint64_t size; uint32_t head, tail, clean; };

#define HANDOVER() __asm__ volatile("" ::: "memory")    /* the other side runs now: memory is what counts */

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

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

int main(int argc, char **argv)
{
    uint32_t size = argc > 1 ? (uint32_t)atoi(argv[1]) : 60, batch = argc > 2 ? (uint32_t)atoi(argv[2]) : 32, i;
    uint64_t packets = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000, done = 0;
    struct host a = make(), b = make();
    struct txd *tx = (struct txd *)a.mem;
    struct rxd *rx = (struct rxd *)b.mem;
    double t;
    if (size < 14 || size > BUF || batch == 0 || batch >= RING)
        return 2;
    for (i = 0; i < RING; i++)
        rx[i].addr = buffer(i);
    b.tail = RING - 1;
    t = now_ns();
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
    t = now_ns() - t;
    printf("%.3f\n", t / (double)done);
    return memcmp(a.mem + buffer(0), b.mem + buffer(0), size) != 0;
}
