/* What a NIC pair costs in plain C: descriptor fetch and write-back, translation of every address, and a frame buffer
 * between the two NICs. It inserts UDP checksums, filters by MAC and multicast, verifies IP and UDP, and keeps
 * statistics and causes.
 *
 * Portable C, no vector intrinsics. Compiled as a shared object and called by rows/peer.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define RING 256u
#define BUF 2048u
#define WIRE 256u

struct txd { uint64_t addr; uint16_t length; uint8_t cso, cmd, sta, css; uint16_t special; };
struct rxd { uint64_t addr; uint16_t length, csum; uint8_t status, errors; uint16_t special; };
struct region { uint64_t base, len; uint8_t *ptr; };
struct nic {
    struct region ram[2];
    uint8_t *mem;
    uint32_t head, tail, clean, icr;
    uint64_t packets, octets, size[6], multicast, broadcast, crc_errors;
    uint8_t mac[6];
    uint32_t mta[128];
};

#define HANDOVER() __asm__ volatile("" ::: "memory")    /* the other side runs now: memory is what counts */

static uint8_t *translate(const struct nic *n, uint64_t addr, uint64_t len)
{
    int i;
    for (i = 0; i < 2; i++)
        if (addr - n->ram[i].base < n->ram[i].len && len <= n->ram[i].len - (addr - n->ram[i].base))
            return n->ram[i].ptr + (addr - n->ram[i].base);
    return NULL;
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint64_t acc)
{
    uint32_t w;
    while (n >= 4) {
        memcpy(&w, p, 4);
        acc += w;
        p += 4;
        n -= 4;
    }
    if (n) {
        w = 0;
        memcpy(&w, p, n);
        acc += w;
    }
    acc = (acc & 0xFFFFFFFF) + (acc >> 32);
    acc = (acc & 0xFFFFFFFF) + (acc >> 32);
    acc = (acc & 0xFFFF) + (acc >> 16);
    acc = (acc & 0xFFFF) + (acc >> 16);
    return (uint32_t)acc;
}

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

static uint64_t pseudo(const uint8_t *ip, uint32_t len)
{
    uint8_t tail[4] = {0, 17, (uint8_t)(len >> 8), (uint8_t)len};
    return (uint64_t)sum(ip + 12, 8, 0) + sum(tail, 4, 0);
}

static void count(struct nic *n, const uint8_t *p, uint32_t len)
{
    static const uint16_t top[5] = {64, 127, 255, 511, 1023};
    int i;
    for (i = 0; i < 5 && len > top[i]; i++)
        ;
    n->size[i]++;
    n->packets++;
    n->octets += len;
    if (p[0] & 1) {
        if (memcmp(p, "\xff\xff\xff\xff\xff\xff", 6) == 0)
            n->broadcast++;
        else
            n->multicast++;
    }
}

static int accept(const struct nic *n, const uint8_t *p)
{
    uint32_t h;
    if (memcmp(p, n->mac, 6) == 0)
        return 1;
    if (!(p[0] & 1))
        return 0;
    h = ((uint32_t)p[4] | (uint32_t)p[5] << 8) >> 4 & 0xFFF;
    return n->mta[h >> 5] >> (h & 31) & 1;
}

static struct nic *make(void)
{
    struct nic *n = calloc(1, sizeof(*n));
    uint64_t size = RING * 16 + (uint64_t)RING * BUF;
    n->mem = aligned_alloc(4096, size);
    memset(n->mem, 0, size);
    n->ram[0] = (struct region){1u << 30, 4096, n->mem};        /* never hit: the table has two entries */
    n->ram[1] = (struct region){0, size, n->mem};
    memcpy(n->mac, "\x52\x54\x00\x12\x34\x56", 6);
    return n;
}

static uint64_t buffer(uint32_t i) { return RING * 16 + (uint64_t)i * BUF; }

struct ring_model {
    struct nic *a, *b;
    uint8_t *wire;
    uint32_t size, batch;
};

struct ring_model *ring_model_new(uint32_t size, uint32_t batch)
{
    struct ring_model *model = calloc(1, sizeof(*model));
    struct nic *a = make(), *b = make();
    struct rxd *rx = (struct rxd *)b->mem;
    uint32_t i, k;
    *model = (struct ring_model){a, b, aligned_alloc(4096, WIRE * BUF), size, batch};
    for (i = 0; i < RING; i++) {
        uint8_t *p = a->mem + buffer(i), *ip = p + 14, *udp = p + 34;
        uint32_t acc;
        for (k = 0; k < size; k++)
            p[k] = (uint8_t)(k * 7);
        memcpy(p, b->mac, 6);
        memcpy(p + 6, "\x02\x00\x00\x00\x00\x01\x08\x00", 8);
        memcpy(ip, "\x45\x00\x00\x00\x00\x01\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02", 20);
        ip[2] = (uint8_t)((size - 14) >> 8);
        ip[3] = (uint8_t)(size - 14);
        acc = ~sum(ip, 20, 0);
        memcpy(ip + 10, &(uint16_t){(uint16_t)acc}, 2);
        memcpy(udp, "\x00\x07\x00\x09", 4);
        udp[4] = (uint8_t)((size - 34) >> 8);
        udp[5] = (uint8_t)(size - 34);
        acc = sum(NULL, 0, pseudo(ip, size - 34));
        memcpy(udp + 6, &(uint16_t){(uint16_t)acc}, 2);          /* seed, as a driver leaves it */
        rx[i].addr = buffer(i);
    }
    b->tail = RING - 1;
    return model;
}

void ring_model_free(struct ring_model *model)
{
    free(model->a->mem);
    free(model->b->mem);
    free(model->a);
    free(model->b);
    free(model->wire);
    free(model);
}

/* Move `packets`; the number that arrived, or -1 when one was lost or not verified. */
int64_t ring_model_run(struct ring_model *model, uint64_t packets)
{
    struct nic *a = model->a, *b = model->b;
    struct txd *tx = (struct txd *)a->mem;
    struct rxd *rx = (struct rxd *)b->mem;
    uint8_t *wire = model->wire;
    uint32_t length[WIRE], size = model->size, batch = model->batch, i;
    uint64_t done = 0, bad = 0, before = b->packets;
    if (size < 60 || size > 1514 || batch == 0 || batch >= WIRE)
        return -1;
    while (done < packets) {
        uint32_t queued = 0;
        for (i = 0; i < batch; i++) {
            struct txd *d = &tx[a->tail];
            d->addr = buffer(a->tail);
            d->length = (uint16_t)size;
            d->cso = 40;
            d->css = 34;
            d->cmd = 0x0F;
            d->sta = 0;
            a->tail = (a->tail + 1) % RING;
        }
        HANDOVER();
        while (a->head != a->tail) {                            /* transmit: host memory to wire */
            struct txd *d = (struct txd *)translate(a, (uint64_t)a->head * 16, 16);
            uint32_t n = d->length;
            const uint8_t *from = translate(a, d->addr, n);
            uint8_t *p = wire + queued * BUF;
            if (from && n && n <= 1514) {
                memcpy(p, from, n);
                if (d->cmd & 4 && d->css < n && d->cso + 1u < n) {
                    uint16_t check = (uint16_t)~sum(p + d->css, n - d->css, 0);
                    if (check == 0)
                        check = 0xFFFF;
                    memcpy(p + d->cso, &check, 2);
                }
                count(a, p, n + 4);
                length[queued++] = n;
            }
            if (d->cmd & 8) {
                d->sta |= 1;
                a->icr |= 1;
            }
            a->head = (a->head + 1) % RING;
        }
        HANDOVER();
        for (i = 0; i < queued; i++) {                          /* receive: wire to host memory */
            const uint8_t *p = wire + i * BUF;
            uint32_t n = length[i], ihl, total;
            uint8_t status = 3, errors = 0, *to;
            struct rxd *r;
            if (!accept(b, p) || b->head == b->tail)
                continue;
            r = (struct rxd *)translate(b, (uint64_t)b->head * 16, 16);
            to = translate(b, r->addr, n);
            if (!to)
                continue;
            memcpy(to, p, n);
            if (be16(p + 12) == 0x0800 && p[14] >> 4 == 4) {
                ihl = (p[14] & 15) * 4u;
                total = be16(p + 16);
                if (ihl >= 20 && total >= ihl + 8 && total <= n - 14) {
                    status |= 0x40;
                    if (sum(p + 14, ihl, 0) != 0xFFFF)
                        errors |= 0x40;
                    if (p[23] == 17) {
                        status |= 0x20;
                        if (sum(to + 14 + ihl, total - ihl, pseudo(p + 14, total - ihl)) != 0xFFFF)
                            errors |= 0x20;
                    }
                }
            }
            count(b, p, n + 4);
            r->length = (uint16_t)n;
            r->errors = errors;
            r->status = status;
            b->icr |= 0x80;
            b->head = (b->head + 1) % RING;
        }
        HANDOVER();
        while (a->clean != a->tail && tx[a->clean].sta & 1)
            a->clean = (a->clean + 1) % RING;
        while (rx[b->clean].status & 1) {
            bad += rx[b->clean].errors || !(rx[b->clean].status & 0x20);
            rx[b->clean].status = 0;
            b->tail = b->clean;
            b->clean = (b->clean + 1) % RING;
            done++;
        }
    }
    return bad || b->packets - before != done ? -1 : (int64_t)done;
}
