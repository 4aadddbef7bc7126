/* SPDX-License-Identifier: Apache-2.0
 *
 * The C ABI, used as other emulators use it: `conformance NAME` runs one check and ends with 0, or
 * with 1 and the line that does not hold; `conformance --list` prints the names. Run under
 * AddressSanitizer by tests/e1000emu/embed/test_capi.py.
 */
#define _GNU_SOURCE
#include <e1000emu.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "e1000_min.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define BUS 0x100000u
#define RW (E1000EMU_DMA_READ | E1000EMU_DMA_WRITE)
enum { STATUS = 0x0008, IMS = 0x00D0, ICS = 0x00C8, TCTL = 0x0400, TDT = 0x3818, RCTL = 0x0100 };

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: %s does not hold; last error: %s\n", __FILE__, __LINE__,  \
                    #condition, e1000emu_last_error());                                       \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)
#define OK(call) CHECK((call) == E1000EMU_OK)
/* It fails with this code, and its text has these words. */
#define FAILS(call, code, words)                                                              \
    do {                                                                                      \
        CHECK((call) == (code));                                                              \
        CHECK(e1000emu_last_code() == (code));                                                \
        CHECK(strstr(e1000emu_last_error(), (words)) != NULL);                                \
    } while (0)

/* --- the driver's machine ------------------------------------------------------------------------- */

struct machine {
    e1000emu_nic *nic;
    struct e1000_min driver;
    uint8_t *memory; /* from malloc, so that a step beyond it is seen */
};

uint32_t e1000_min_read32(void *ctx, uint32_t off)
{
    uint64_t value;
    OK(e1000emu_mmio_read(((struct machine *)ctx)->nic, off, 4, &value));
    return (uint32_t)value;
}

void e1000_min_write32(void *ctx, uint32_t off, uint32_t value)
{
    OK(e1000emu_mmio_write(((struct machine *)ctx)->nic, off, 4, value));
}

static e1000emu_nic *make_nic(void)
{
    struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
    e1000emu_nic *nic;
    options.flags = E1000EMU_PCI_ON;
    nic = e1000emu_create(&options);
    CHECK(nic != NULL);
    return nic;
}

static void power_on(struct machine *m)
{
    memset(m, 0, sizeof *m);
    m->nic = make_nic();
    m->memory = aligned_alloc(16, E1000_MIN_MEM_BYTES);
    CHECK(m->memory != NULL);
    memset(m->memory, 0xFF, E1000_MIN_MEM_BYTES);
}

static void bring_up(struct machine *m)
{
    OK(e1000_min_init(&m->driver, m, m->memory, BUS, E1000_MIN_MEM_BYTES));
    for (int i = 0; !e1000_min_link_up(&m->driver); i++) {
        CHECK(i < 100);
        OK(e1000emu_advance(m->nic, 100 * MS));
    }
    (void)e1000_min_causes(&m->driver);
}

static void boot(struct machine *m)
{
    power_on(m);
    OK(e1000emu_dma_add(m->nic, BUS, m->memory, E1000_MIN_MEM_BYTES, RW));
    bring_up(m);
}

static void power_off(struct machine *m)
{
    OK(e1000emu_destroy(m->nic));
    free(m->memory);
}

static void fill(uint8_t *frame, size_t n, unsigned seed)
{
    static const uint8_t header[14] = {0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x88, 0xB5};
    memcpy(frame, header, sizeof header);
    for (size_t i = sizeof header; i < n; i++)
        frame[i] = (uint8_t)(seed * 31 + i * 7);
}

static uint64_t counter(e1000emu_nic *nic, const char *name)
{
    uint64_t value = 0;
    OK(e1000emu_counter(nic, name, &value));
    return value;
}

static char *text(e1000emu_nic *nic, int (*get)(e1000emu_nic *, void *, size_t *))
{
    size_t size = 0;
    char *buffer;
    OK(get(nic, NULL, &size));
    CHECK(size > 0);
    buffer = malloc(size);
    CHECK(buffer != NULL);
    OK(get(nic, buffer, &size));
    CHECK(strlen(buffer) + 1 == size);
    return buffer;
}

static void expect_no_misuse(e1000emu_nic *nic)
{
    char *said = text(nic, e1000emu_misuse);
    if (*said)
        fprintf(stderr, "misuse: %s", said);
    CHECK(!*said);
    free(said);
}

/* Send frames of all sizes and see them on the wire; push them back and see them in the driver. */
static void traffic(struct machine *m, unsigned rounds)
{
    uint8_t frame[E1000_MIN_FRAME_MAX], buffer[E1000_MIN_BUF_BYTES];
    struct e1000emu_frame out[4], in;
    size_t count;
    for (unsigned i = 0; i < rounds; i++) {
        size_t n = 60 + (i * 97) % (E1000_MIN_FRAME_MAX - 60);
        fill(frame, n, i);
        OK(e1000_min_send(&m->driver, frame, (uint32_t)n));
        OK(e1000emu_tx_poll(m->nic, out, 4, &count));
        CHECK(count == 1 && out[0].size == n && memcmp(out[0].data, frame, n) == 0);
        in.data = frame;
        in.size = n;
        OK(e1000emu_rx_push(m->nic, &in, 1, &count));
        CHECK(count == 1);
        CHECK(e1000_min_recv(&m->driver, buffer, sizeof buffer) == (int)n);
        CHECK(memcmp(buffer, frame, n) == 0);
        CHECK(e1000_min_recv(&m->driver, buffer, sizeof buffer) == 0);
    }
}

/* --- checks --------------------------------------------------------------------------------------- */

static void test_versions(void)
{
    CHECK(e1000emu_abi() == E1000EMU_ABI);
    CHECK(strstr(e1000emu_version(), "(Python 3.") != NULL);
    CHECK(strcmp(e1000emu_error_name(E1000EMU_OK), "E1000EMU_OK") == 0);
    CHECK(strcmp(e1000emu_error_name(E1000EMU_EBUSY), "E1000EMU_EBUSY") == 0);
    CHECK(strcmp(e1000emu_error_name(E1000EMU_ENOMEM), "E1000EMU_ENOMEM") == 0);
    CHECK(strcmp(e1000emu_error_name(-12), "?") == 0);
    CHECK(strcmp(e1000emu_error_name(1), "?") == 0);
    CHECK(*e1000emu_last_error() == 0);
    CHECK(e1000emu_last_code() == E1000EMU_OK);
}

static void refused(const struct e1000emu_options *options, int code, const char *words)
{
    CHECK(e1000emu_create(options) == NULL);
    FAILS(e1000emu_last_code(), code, words);
}

static void test_options(void)
{
    const struct e1000emu_options init = E1000EMU_OPTIONS_INIT;
    struct {
        struct e1000emu_options options;
        uint8_t more[64];
    } newer;
    struct e1000emu_options o = init;
    uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, image[128];
    e1000emu_nic *nic = e1000emu_create(NULL);
    uint64_t value;

    CHECK(nic != NULL);
    OK(e1000emu_config_read(nic, 0, 4, &value));
    CHECK(value == 0x100E8086u);
    OK(e1000emu_config_read(nic, 4, 2, &value));
    CHECK(value == 0); /* nothing decodes until the host says so */
    OK(e1000emu_mmio_read(nic, STATUS, 4, &value));
    CHECK(value == 0xFFFFFFFFu);
    OK(e1000emu_destroy(nic));

    o.size = sizeof o - 1;
    refused(&o, E1000EMU_EINVAL, "size");
    o.size = 1u << 20;
    refused(&o, E1000EMU_EINVAL, "size");
    o = init;
    o.flags = 0x80;
    refused(&o, E1000EMU_EINVAL, "flags");
    o = init;
    o.reserved[3] = 1;
    refused(&o, E1000EMU_EINVAL, "reserved[3]");
    o = init;
    o.flags = E1000EMU_WIDE_BARS;
    nic = e1000emu_create(&o);
    CHECK(nic != NULL);
    OK(e1000emu_config_read(nic, 0x10, 4, &value));
    CHECK(value == 4); /* memory, anywhere in 64 bits */
    OK(e1000emu_config_read(nic, 0x20, 4, &value));
    CHECK(value == 1); /* I/O, behind memory and flash */
    OK(e1000emu_destroy(nic));
    o = init;
    memset(image, 0xFF, sizeof image);
    memcpy(image, mac, 6);
    image[0x14] = 0x08; /* word 0Ah: the signature, and no vendor's ids */
    image[0x15] = 0x40;
    o.eeprom = image;
    o.eeprom_bytes = sizeof image;
    o.flags = E1000EMU_PCI_ON;
    nic = e1000emu_create(&o);
    CHECK(nic != NULL);
    OK(e1000emu_mmio_read(nic, 0x5404, 4, &value)); /* RAH[0] */
    CHECK((value & 0xFFFF) == 0x0900);
    OK(e1000emu_mmio_read(nic, 0, 4, &value));
    CHECK(!(value & 1)); /* CTRL.FD is not loaded */
    OK(e1000emu_destroy(nic));
    o.eeprom_bytes = 64;
    refused(&o, E1000EMU_EINVAL, "eeprom_bytes 64");
    o.eeprom = NULL;
    refused(&o, E1000EMU_EINVAL, "eeprom_bytes 64");
    /* A program made before there was `eeprom`. */
    o = init;
    o.size = offsetof(struct e1000emu_options, eeprom);
    o.eeprom_bytes = 77;
    nic = e1000emu_create(&o);
    CHECK(nic != NULL);
    OK(e1000emu_destroy(nic));
    o = init;
    o.model = "82599";
    refused(&o, E1000EMU_EINVAL, "82540EM");
    o = init;
    o.mac[0] = 1;
    refused(&o, E1000EMU_EINVAL, "group address");
    o = init;
    o.start_ns = UINT64_MAX;
    refused(&o, E1000EMU_ERANGE, "start_ns");

    /* A program made for a later version: what it does not set does not matter. */
    memset(&newer, 0, sizeof newer);
    newer.options = init;
    newer.options.size = sizeof newer;
    memcpy(newer.options.mac, mac, 6);
    newer.options.start_ns = 77;
    newer.options.flags = E1000EMU_PCI_ON;
    nic = e1000emu_create(&newer.options);
    CHECK(nic != NULL);
    OK(e1000emu_now(nic, &value));
    CHECK(value == 77);
    OK(e1000emu_mmio_read(nic, 0x5404, 4, &value)); /* RAH[0] */
    CHECK((value & 0xFFFF) == 0x0900);
    OK(e1000emu_destroy(nic));
    newer.more[60] = 1;
    refused(&newer.options, E1000EMU_EINVAL, "newer");
}

static void test_handles(void)
{
    e1000emu_nic *nic = make_nic(), *next;
    uint64_t value = 0;
    int local = 0;
    FAILS(e1000emu_mmio_read(NULL, 0, 4, &value), E1000EMU_EHANDLE, "NULL");
    FAILS(e1000emu_destroy(NULL), E1000EMU_EHANDLE, "e1000emu_destroy: nic is NULL");
    FAILS(e1000emu_destroy((e1000emu_nic *)(void *)&local), E1000EMU_EHANDLE, "no NIC");
    for (uintptr_t i = 0; i < 4096; i++) {
        e1000emu_nic *wild = (e1000emu_nic *)(i * UINT64_C(0x9E3779B97F4A7C15) | 1);
        CHECK(e1000emu_now(wild, &value) == E1000EMU_EHANDLE);
    }
    OK(e1000emu_destroy(nic));
    FAILS(e1000emu_destroy(nic), E1000EMU_EHANDLE, "destroyed");
    next = make_nic(); /* takes the same place, but not the handle */
    CHECK(next != nic);
    FAILS(e1000emu_mmio_write(nic, 0, 4, 0), E1000EMU_EHANDLE, "destroyed");
    OK(e1000emu_mmio_write(next, 0x5600, 4, 1));
    OK(e1000emu_destroy(next));
}

static void test_bytes_of_a_register(void)
{
    e1000emu_nic *nic = make_nic();
    uint64_t value;

    OK(e1000emu_mmio_write(nic, ICS, 4, 0x204));
    OK(e1000emu_mmio_write(nic, 0x00C1, 1, 0x02)); /* the second byte of ICR */
    OK(e1000emu_mmio_read(nic, 0x00C0, 4, &value));
    CHECK(value == 0x4);
    OK(e1000emu_destroy(nic));
}

static void test_arguments(void)
{
    e1000emu_nic *nic = make_nic();
    struct e1000emu_frame frame = {"x", 0};
    uint64_t value;
    size_t n;
    int level;
    uint8_t memory[64];

    FAILS(e1000emu_mmio_read(nic, 0, 4, NULL), E1000EMU_EINVAL, "e1000emu_mmio_read: value is NULL");
    FAILS(e1000emu_mmio_read(nic, 0, 3, &value), E1000EMU_EINVAL, "size 3");
    CHECK(value == UINT64_MAX);
    FAILS(e1000emu_mmio_read(nic, 0, 0, &value), E1000EMU_EINVAL, "size 0");
    FAILS(e1000emu_mmio_write(nic, 0, 16, 0), E1000EMU_EINVAL, "size 16");
    FAILS(e1000emu_mmio_read(nic, E1000EMU_MMIO_BYTES, 4, &value), E1000EMU_ERANGE, "0x20000");
    FAILS(e1000emu_mmio_read(nic, E1000EMU_MMIO_BYTES - 2, 4, &value), E1000EMU_ERANGE, "outside");
    FAILS(e1000emu_mmio_write(nic, UINT64_MAX, 8, 0), E1000EMU_ERANGE, "outside");
    FAILS(e1000emu_io_read(nic, 8, 4, &value), E1000EMU_ERANGE, "outside");
    FAILS(e1000emu_io_read(nic, 0, 8, &value), E1000EMU_EINVAL, "size 8");
    FAILS(e1000emu_config_read(nic, 256, 1, &value), E1000EMU_ERANGE, "outside");
    FAILS(e1000emu_config_read(nic, 3, 2, &value), E1000EMU_EINVAL, "cross");
    FAILS(e1000emu_config_write(nic, 0, 8, 0), E1000EMU_EINVAL, "size 8");
    FAILS(e1000emu_irq_level(nic, NULL), E1000EMU_EINVAL, "level is NULL");
    OK(e1000emu_irq_level(nic, &level));
    CHECK(level == 0);

    FAILS(e1000emu_dma_add(nic, 0, NULL, 64, RW), E1000EMU_EINVAL, "memory is NULL");
    FAILS(e1000emu_dma_add(nic, 0, memory, 0, RW), E1000EMU_EINVAL, "size 0");
    FAILS(e1000emu_dma_add(nic, 0, memory, 64, 0), E1000EMU_EINVAL, "flags");
    FAILS(e1000emu_dma_add(nic, 0, memory, 64, 4), E1000EMU_EINVAL, "flags 0x4");
    FAILS(e1000emu_dma_add(nic, UINT64_MAX, memory, 64, RW), E1000EMU_EINVAL, "2^64");
    FAILS(e1000emu_dma_add(nic, 0, memory, UINT64_MAX, RW), E1000EMU_EINVAL, "size");
    OK(e1000emu_dma_add(nic, 0x1000, memory, 64, RW));
    FAILS(e1000emu_dma_add(nic, 0x103F, memory, 1, RW), E1000EMU_EINVAL, "overlaps");
    FAILS(e1000emu_dma_remove(nic, 0x1000, 63), E1000EMU_ENOENT, "no region");
    OK(e1000emu_dma_remove(nic, 0x1000, 64));
    FAILS(e1000emu_dma_remove(nic, 0x1000, 64), E1000EMU_ENOENT, "no region");

    FAILS(e1000emu_rx_push(nic, &frame, 1, NULL), E1000EMU_EINVAL, "taken is NULL");
    FAILS(e1000emu_rx_push(nic, NULL, 1, &n), E1000EMU_EINVAL, "frames is NULL");
    FAILS(e1000emu_rx_push(nic, &frame, 1, &n), E1000EMU_EINVAL, "frame 0 has 0 bytes");
    frame.size = E1000EMU_MAX_FRAME + 1;
    FAILS(e1000emu_rx_push(nic, &frame, 1, &n), E1000EMU_EINVAL, "65536 bytes");
    CHECK(n == 0);
    frame.data = NULL;
    frame.size = 60;
    FAILS(e1000emu_rx_push(nic, &frame, 1, &n), E1000EMU_EINVAL, "frame 0");
    OK(e1000emu_rx_push(nic, NULL, 0, &n));
    FAILS(e1000emu_tx_poll(nic, NULL, 1, &n), E1000EMU_EINVAL, "frames is NULL");
    FAILS(e1000emu_tx_poll(nic, &frame, 1, NULL), E1000EMU_EINVAL, "count is NULL");
    OK(e1000emu_tx_poll(nic, NULL, 0, &n));
    FAILS(e1000emu_set_link(nic, 1, 2500), E1000EMU_EINVAL, "2500");

    FAILS(e1000emu_now(nic, NULL), E1000EMU_EINVAL, "now_ns is NULL");
    FAILS(e1000emu_next_event(nic, NULL), E1000EMU_EINVAL, "when_ns is NULL");
    FAILS(e1000emu_counter(nic, NULL, &value), E1000EMU_EINVAL, "name is NULL");
    FAILS(e1000emu_counter(nic, "gprc", NULL), E1000EMU_EINVAL, "value is NULL");
    FAILS(e1000emu_counter(nic, "gprcs", &value), E1000EMU_ENOENT, "did you mean gprc");
    FAILS(e1000emu_counter(nic, "\xff\xfe", &value), E1000EMU_ENOENT, "e1000emu_counters");
    FAILS(e1000emu_state_save(nic, memory, NULL), E1000EMU_EINVAL, "size is NULL");
    n = 63;
    FAILS(e1000emu_state_save(nic, memory, &n), E1000EMU_ENOSPC, "63 bytes");
    CHECK(n > 64);
    FAILS(e1000emu_state_load(nic, NULL, 5), E1000EMU_EINVAL, "state is NULL");
    n = 0;
    FAILS(e1000emu_explain(nic, memory, &n), E1000EMU_ENOSPC, "0 bytes");
    OK(e1000emu_destroy(nic));
}

static void test_regions(void)
{
    struct machine m;
    char *said;
    boot(&m);
    CHECK(memcmp(m.driver.mac, "\x52\x54\x00\x12\x34\x56", 6) == 0);
    traffic(&m, 100);
    CHECK(counter(m.nic, "gptc") == 100);
    CHECK(counter(m.nic, "gprc") == 100);
    CHECK(counter(m.nic, "dma_aborts") == 0);
    expect_no_misuse(m.nic);
    said = text(m.nic, e1000emu_counters);
    CHECK(strstr(said, "gptc 100\n") != NULL);
    free(said);
    (void)e1000_min_causes(&m.driver);
    said = text(m.nic, e1000emu_explain);
    CHECK(!*said);
    free(said);

    /* The region goes: master aborts, and the device says so. */
    OK(e1000emu_dma_remove(m.nic, BUS, E1000_MIN_MEM_BYTES));
    {
        uint8_t frame[64];
        fill(frame, sizeof frame, 1);
        OK(e1000_min_send(&m.driver, frame, sizeof frame));
    }
    CHECK(counter(m.nic, "dma_aborts") > 0);
    said = text(m.nic, e1000emu_misuse);
    CHECK(strstr(said, "TDBAL") != NULL);
    free(said);
    power_off(&m);
}

struct dma {
    struct machine *m;
    uint64_t reads, writes, bytes;
    int refuse; /* answer every access with a master abort */
    int nosy;   /* call the library from inside */
};

static void look_around(struct dma *d)
{
    uint64_t value;
    uint8_t byte;
    size_t size = 0;
    OK(e1000emu_mmio_read(d->m->nic, STATUS, 4, &value));
    OK(e1000emu_now(d->m->nic, &value));
    FAILS(e1000emu_advance(d->m->nic, 1), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_destroy(d->m->nic), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_reset(d->m->nic), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_pause(d->m->nic), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_resume(d->m->nic), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_state_save(d->m->nic, NULL, &size), E1000EMU_EBUSY, "engine is at work");
    FAILS(e1000emu_state_load(d->m->nic, &byte, 1), E1000EMU_EBUSY, "inside a callback");
    FAILS(e1000emu_dma_add(d->m->nic, 0, &byte, 1, RW), E1000EMU_EBUSY, "engine");
    FAILS(e1000emu_set_dma(d->m->nic, NULL, NULL, NULL), E1000EMU_EBUSY, "engine");
    FAILS(e1000emu_config_write(d->m->nic, 0xE0, 2, 0), E1000EMU_EBUSY, "DMA callback");
}

static int dma_read(void *opaque, uint64_t address, void *to, size_t size)
{
    struct dma *d = opaque;
    d->reads++;
    d->bytes += size;
    if (d->nosy)
        look_around(d);
    if (d->refuse || address < BUS || address - BUS + size > E1000_MIN_MEM_BYTES)
        return -1;
    memcpy(to, d->m->memory + (address - BUS), size);
    return 0;
}

static int dma_write(void *opaque, uint64_t address, const void *from, size_t size)
{
    struct dma *d = opaque;
    d->writes++;
    d->bytes += size;
    if (d->nosy)
        look_around(d);
    if (d->refuse || address < BUS || address - BUS + size > E1000_MIN_MEM_BYTES)
        return -1;
    memcpy(d->m->memory + (address - BUS), from, size);
    return 0;
}

static void test_callbacks(void)
{
    struct machine m;
    struct dma d = {&m, 0, 0, 0, 0, 0};
    uint8_t frame[64];
    uint64_t aborts;
    power_on(&m);
    OK(e1000emu_set_dma(m.nic, dma_read, dma_write, &d));
    bring_up(&m);
    traffic(&m, 100);
    CHECK(d.reads >= 200 && d.writes >= 200);
    expect_no_misuse(m.nic);
    d.nosy = 1;
    traffic(&m, 5);
    d.nosy = 0;
    expect_no_misuse(m.nic);
    aborts = counter(m.nic, "dma_aborts");
    CHECK(aborts == 0);
    d.refuse = 1;
    fill(frame, sizeof frame, 1);
    OK(e1000_min_send(&m.driver, frame, sizeof frame));
    CHECK(counter(m.nic, "dma_aborts") > 0);
    OK(e1000emu_set_dma(m.nic, NULL, NULL, NULL));
    power_off(&m);
}

/* Long runs, in which the engines have let go of Python, with memory by callbacks. */
static void test_callbacks_in_long_runs(void)
{
    struct machine m;
    struct dma d = {&m, 0, 0, 0, 0, 1};
    uint8_t frame[E1000_MIN_RX - 1][64], buffer[E1000_MIN_BUF_BYTES];
    struct e1000emu_frame batch[E1000_MIN_RX - 1];
    size_t taken;
    power_on(&m);
    OK(e1000emu_set_dma(m.nic, dma_read, dma_write, &d));
    bring_up(&m);
    for (unsigned i = 0; i < E1000_MIN_RX - 1; i++) {
        fill(frame[i], sizeof frame[i], i);
        OK(e1000_min_queue(&m.driver, frame[i], sizeof frame[i]));
        batch[i].data = frame[i];
        batch[i].size = sizeof frame[i];
    }
    e1000_min_kick(&m.driver);
    CHECK(e1000_min_pending(&m.driver) == 0);
    OK(e1000emu_rx_push(m.nic, batch, E1000_MIN_RX - 1, &taken));
    CHECK(taken == E1000_MIN_RX - 1);
    for (unsigned i = 0; i < E1000_MIN_RX - 1; i++) {
        CHECK(e1000_min_recv(&m.driver, buffer, sizeof buffer) == 64);
        CHECK(memcmp(buffer, frame[i], 64) == 0);
    }
    expect_no_misuse(m.nic);
    power_off(&m);
}

struct interrupts {
    struct machine *m;
    int rises, falls, serve;
    uint32_t causes;
};

static void on_irq(void *opaque, int level)
{
    struct interrupts *i = opaque;
    level ? i->rises++ : i->falls++;
    if (level && i->serve)
        i->causes |= e1000_min_causes(&i->m->driver); /* lowers the line, inside this call */
}

static void test_interrupts(void)
{
    struct machine m;
    struct interrupts irq = {&m, 0, 0, 0, 0};
    uint8_t frame[64], buffer[E1000_MIN_BUF_BYTES];
    struct e1000emu_frame in = {frame, sizeof frame};
    size_t taken;
    int level;
    boot(&m);
    fill(frame, sizeof frame, 1);
    OK(e1000emu_set_irq(m.nic, on_irq, &irq));
    e1000_min_enable_irq(&m.driver, E1000_MIN_IRQ_RXT0);
    OK(e1000emu_rx_push(m.nic, &in, 1, &taken));
    CHECK(irq.rises == 1 && irq.falls == 0);
    OK(e1000emu_irq_level(m.nic, &level));
    CHECK(level == 1);
    CHECK(e1000_min_causes(&m.driver) & E1000_MIN_IRQ_RXT0);
    CHECK(irq.falls == 1);
    CHECK(e1000_min_recv(&m.driver, buffer, sizeof buffer) == 64);

    irq.serve = 1;
    for (int i = 0; i < 10; i++) {
        OK(e1000emu_rx_push(m.nic, &in, 1, &taken));
        CHECK(e1000_min_recv(&m.driver, buffer, sizeof buffer) == 64);
    }
    CHECK(irq.rises == 11 && irq.falls == 11 && irq.causes & E1000_MIN_IRQ_RXT0);
    OK(e1000emu_irq_level(m.nic, &level));
    CHECK(level == 0);
    CHECK(counter(m.nic, "interrupts") == 11);
    OK(e1000emu_set_irq(m.nic, NULL, NULL));
    OK(e1000emu_rx_push(m.nic, &in, 1, &taken));
    CHECK(irq.rises == 11);
    power_off(&m);
}

/* A handler that undoes what it has done, for ever. */
static void on_irq_forever(void *opaque, int level)
{
    struct interrupts *i = opaque;
    uint64_t value;
    int code = level ? e1000emu_mmio_read(i->m->nic, 0x00C0, 4, &value)
                     : e1000emu_mmio_write(i->m->nic, ICS, 4, 1);
    level ? i->rises++ : i->falls++;
    if (code) {
        CHECK(code == E1000EMU_EBUSY && strstr(e1000emu_last_error(), "one inside the other"));
        i->causes++;
    }
}

static void test_endless_callbacks(void)
{
    struct machine m;
    struct interrupts irq = {&m, 0, 0, 0, 0};
    power_on(&m);
    OK(e1000emu_set_irq(m.nic, on_irq_forever, &irq));
    OK(e1000emu_mmio_write(m.nic, IMS, 4, 1));
    OK(e1000emu_mmio_write(m.nic, ICS, 4, 1));
    CHECK(irq.causes == 1 && irq.rises + irq.falls == 100);
    OK(e1000emu_set_irq(m.nic, NULL, NULL));
    bring_up(&m);
    power_off(&m);
}

struct echo {
    e1000emu_nic *nic;
    size_t batches, frames;
};

static void on_tx(void *opaque, const struct e1000emu_frame *frames, size_t count)
{
    struct echo *e = opaque;
    size_t taken;
    e->batches++;
    e->frames += count;
    OK(e1000emu_rx_push(e->nic, frames, count, &taken)); /* the far end answers at once */
    CHECK(taken == count);
}

static void test_frames_by_callback(void)
{
    struct machine m;
    struct echo echo;
    uint8_t frame[64], buffer[E1000_MIN_BUF_BYTES];
    boot(&m);
    fill(frame, sizeof frame, 1);
    OK(e1000_min_send(&m.driver, frame, sizeof frame)); /* waits for a taker */
    echo.nic = m.nic;
    echo.batches = echo.frames = 0;
    OK(e1000emu_set_tx(m.nic, on_tx, &echo));
    CHECK(echo.frames == 1);
    CHECK(e1000_min_recv(&m.driver, buffer, sizeof buffer) == 64);
    for (unsigned i = 0; i < 16; i++) {
        fill(frame, sizeof frame, i);
        OK(e1000_min_queue(&m.driver, frame, sizeof frame));
    }
    e1000_min_kick(&m.driver);
    CHECK(echo.frames == 17 && echo.batches == 2);
    for (unsigned i = 0; i < 16; i++) {
        fill(frame, sizeof frame, i);
        CHECK(e1000_min_recv(&m.driver, buffer, sizeof buffer) == 64);
        CHECK(memcmp(buffer, frame, 64) == 0);
    }
    OK(e1000emu_set_tx(m.nic, NULL, NULL));
    traffic(&m, 3);
    power_off(&m);
}

static void on_ready(void *opaque)
{
    ++*(int *)opaque;
}

/* Nobody loses a frame: the queue to the program and the packet buffer push back. */
static void test_back_pressure(void)
{
    enum { SENT = 5000, PUSHED = 2000 };
    struct machine m;
    uint8_t frame[64], buffer[E1000_MIN_BUF_BYTES];
    static uint8_t pushed[PUSHED][64];
    static struct e1000emu_frame in[PUSHED];
    struct e1000emu_frame out[100];
    size_t count, seen = 0, given = 0, got = 0;
    int ready = 0, stuck = 0;
    boot(&m);
    for (unsigned i = 0; i < SENT;) {
        fill(frame, sizeof frame, i);
        int code = e1000_min_send(&m.driver, frame, sizeof frame);
        if (code == 0) {
            i++;
            continue;
        }
        CHECK(code == E1000_MIN_EFULL);
        stuck++;
        OK(e1000emu_tx_poll(m.nic, out, 100, &count));
        CHECK(count == 100);
        for (size_t k = 0; k < count; k++, seen++) {
            fill(frame, sizeof frame, (unsigned)seen);
            CHECK(out[k].size == 64 && memcmp(out[k].data, frame, 64) == 0);
        }
    }
    CHECK(stuck > 5);
    do {
        OK(e1000emu_tx_poll(m.nic, out, 100, &count));
        for (size_t k = 0; k < count; k++, seen++) {
            fill(frame, sizeof frame, (unsigned)seen);
            CHECK(out[k].size == 64 && memcmp(out[k].data, frame, 64) == 0);
        }
    } while (count);
    CHECK(seen == SENT);

    OK(e1000emu_set_rx_ready(m.nic, on_ready, &ready));
    for (unsigned i = 0; i < PUSHED; i++) {
        fill(pushed[i], 64, i);
        in[i].data = pushed[i];
        in[i].size = 64;
    }
    OK(e1000emu_rx_push(m.nic, in, PUSHED, &count));
    CHECK(count >= E1000_MIN_RX - 1 && count < PUSHED);
    given = count;
    while (got < PUSHED) {
        int n = e1000_min_recv(&m.driver, buffer, sizeof buffer);
        if (n == 0) {
            OK(e1000emu_rx_push(m.nic, in + given, PUSHED - given, &count));
            CHECK(count > 0);
            given += count;
            continue;
        }
        CHECK(n == 64 && memcmp(buffer, pushed[got], 64) == 0);
        got++;
    }
    CHECK(ready > 0);
    CHECK(given == PUSHED);
    CHECK(counter(m.nic, "mpc") == 0);
    expect_no_misuse(m.nic);
    power_off(&m);
}

static void test_time(void)
{
    struct machine m;
    uint64_t now, when, at = 0;
    power_on(&m);
    OK(e1000emu_dma_add(m.nic, BUS, m.memory, E1000_MIN_MEM_BYTES, RW));
    OK(e1000emu_now(m.nic, &now));
    CHECK(now == 0);
    OK(e1000_min_init(&m.driver, &m, m.memory, BUS, E1000_MIN_MEM_BYTES));
    CHECK(!e1000_min_link_up(&m.driver));
    while (!e1000_min_link_up(&m.driver)) { /* as an emulator does it: from event to event */
        OK(e1000emu_next_event(m.nic, &when));
        OK(e1000emu_now(m.nic, &now));
        CHECK(when >= now);
        OK(e1000emu_advance(m.nic, when - now));
        OK(e1000emu_now(m.nic, &at));
        CHECK(at == when);
    }
    CHECK(at >= SECOND && at < 5 * SECOND);
    FAILS(e1000emu_next_event(m.nic, &when), E1000EMU_ENOENT, "nothing");
    CHECK(when == UINT64_MAX);
    OK(e1000emu_advance(m.nic, 0));
    FAILS(e1000emu_advance(m.nic, UINT64_MAX), E1000EMU_ERANGE, "end of time");
    FAILS(e1000emu_advance(m.nic, UINT64_C(1) << 63), E1000EMU_ERANGE, "end of time");
    OK(e1000emu_now(m.nic, &now));
    CHECK(now == at);
    power_off(&m);
}

static void test_link(void)
{
    struct machine m;
    uint8_t frame[64];
    struct e1000emu_frame out[4], in = {frame, sizeof frame};
    uint64_t status;
    size_t count;
    boot(&m);
    fill(frame, sizeof frame, 1);
    OK(e1000emu_set_link(m.nic, 0, 1000));
    OK(e1000emu_advance(m.nic, SECOND));
    CHECK(!e1000_min_link_up(&m.driver));
    CHECK(e1000_min_causes(&m.driver) & E1000_MIN_IRQ_LSC);
    OK(e1000_min_send(&m.driver, frame, sizeof frame));
    OK(e1000emu_tx_poll(m.nic, out, 4, &count));
    CHECK(count == 0 && e1000_min_pending(&m.driver) == 1);
    OK(e1000emu_rx_push(m.nic, &in, 1, &count)); /* into a cable that ends nowhere */
    CHECK(count == 1 && counter(m.nic, "gprc") == 0);
    OK(e1000emu_set_link(m.nic, 1, 100));
    OK(e1000emu_advance(m.nic, 5 * SECOND));
    CHECK(e1000_min_link_up(&m.driver));
    OK(e1000emu_mmio_read(m.nic, STATUS, 4, &status));
    CHECK((status >> 6 & 3) == 1); /* 100 Mbit/s */
    OK(e1000emu_tx_poll(m.nic, out, 4, &count));
    CHECK(count == 1 && e1000_min_pending(&m.driver) == 0);
    power_off(&m);
}

static void *save(e1000emu_nic *nic, size_t *size)
{
    void *state;
    *size = 0;
    OK(e1000emu_state_save(nic, NULL, size));
    state = malloc(*size);
    CHECK(state != NULL);
    OK(e1000emu_state_save(nic, state, size));
    return state;
}

/* A NIC that is amid things is saved; another one goes on, and does the same at the same times. */
static void test_state(void)
{
    struct machine m, other;
    uint8_t frame[64];
    struct e1000emu_frame out[4];
    uint64_t now, when, then;
    size_t size, size2, count;
    void *state, *state2;
    char *said, *said2;

    power_on(&m);
    OK(e1000emu_dma_add(m.nic, BUS, m.memory, E1000_MIN_MEM_BYTES, RW));
    OK(e1000_min_init(&m.driver, &m, m.memory, BUS, E1000_MIN_MEM_BYTES));
    OK(e1000emu_advance(m.nic, 700 * MS)); /* the PHY negotiates */
    fill(frame, sizeof frame, 1);
    OK(e1000_min_send(&m.driver, frame, sizeof frame)); /* waits for the link */
    OK(e1000emu_next_event(m.nic, &when));
    state = save(m.nic, &size);
    said = text(m.nic, e1000emu_misuse);
    CHECK(strstr(said, "tx-link-down") != NULL);

    power_on(&other);
    OK(e1000emu_advance(other.nic, 3 * SECOND)); /* its own time does not matter */
    memcpy(other.memory, m.memory, E1000_MIN_MEM_BYTES);
    other.driver = m.driver;
    other.driver.ctx = &other;
    other.driver.mem = other.memory;
    OK(e1000emu_dma_add(other.nic, BUS, other.memory, E1000_MIN_MEM_BYTES, RW));
    OK(e1000emu_state_load(other.nic, state, size));
    OK(e1000emu_now(other.nic, &now));
    CHECK(now == 700 * MS);
    OK(e1000emu_next_event(other.nic, &then));
    CHECK(then == when);
    state2 = save(other.nic, &size2);
    CHECK(size == size2 && memcmp(state, state2, size) == 0);
    free(state2);
    OK(e1000emu_destroy(m.nic)); /* nothing of it is needed any more */
    free(m.memory);

    OK(e1000emu_advance(other.nic, 5 * SECOND));
    CHECK(e1000_min_link_up(&other.driver));
    OK(e1000emu_tx_poll(other.nic, out, 4, &count));
    CHECK(count == 1 && memcmp(out[0].data, frame, sizeof frame) == 0);
    (void)e1000_min_causes(&other.driver);
    traffic(&other, 20);
    said2 = text(other.nic, e1000emu_misuse); /* what was noted came along, and nothing since */
    CHECK(strcmp(said, said2) == 0);
    free(said);
    free(said2);
    free(state);
    power_off(&other);
}

static void test_bad_state(void)
{
    struct machine m;
    uint8_t *state, *broken;
    size_t size;
    unsigned loaded = 0, refused_ = 0, random = 1;
    boot(&m);
    traffic(&m, 3);
    state = save(m.nic, &size);
    broken = malloc(size);
    CHECK(broken != NULL);
    FAILS(e1000emu_state_load(m.nic, state, 0), E1000EMU_ESTATE, "0 bytes");
    FAILS(e1000emu_state_load(m.nic, "no state at all", 15), E1000EMU_ESTATE, "no snapshot");
    for (size_t n = 1; n < size; n += size / 50)
        FAILS(e1000emu_state_load(m.nic, state, n), E1000EMU_ESTATE, "snapshot");
    for (int i = 0; i < 400; i++) {
        memcpy(broken, state, size);
        for (int k = 0; k < 1 + i % 3; k++) {
            random = random * 1103515245 + 12345;
            broken[(random >> 8) % (i & 1 ? size : 512)] = (uint8_t)(random >> 24);
        }
        switch (e1000emu_state_load(m.nic, broken, size)) {
        case E1000EMU_OK:
            loaded++;
            break;
        case E1000EMU_ESTATE:
            refused_++;
            break;
        default:
            CHECK(!"E1000EMU_ESTATE or success");
        }
        CHECK(e1000emu_advance(m.nic, 1 + random % SECOND) == E1000EMU_OK ||
              e1000emu_last_code() == E1000EMU_ERANGE);
    }
    CHECK(refused_ > 10);
    CHECK(loaded > 10);
    OK(e1000emu_state_load(m.nic, state, size));
    traffic(&m, 3);
    free(broken);
    free(state);
    power_off(&m);
}

/* --- calls at random ------------------------------------------------------------------------------ */

static uint64_t random_state;

static uint32_t rnd(uint32_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % below);
}

/* Numbers that are often at an edge. */
static uint64_t odd_number(void)
{
    static const uint64_t edges[] = {0, 1, 2, 3, 4, 7, 8, 0xFF, 0x100, 0xFFF, 0x1FFFF, 0x20000,
                                     BUS, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX, UINT64_MAX};
    return rnd(2) ? edges[rnd(sizeof edges / sizeof *edges)] + rnd(3) - 1 : rnd(0x20010);
}

static const uint32_t busy_registers[] = {
    0x0000, 0x0008, 0x0010, 0x0014, 0x0018, 0x0020, 0x00C0, 0x00C4, 0x00C8, 0x00D0, 0x00D8, 0x0100,
    0x0400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818, 0x2820, 0x282C, 0x3800, 0x3804, 0x3808, 0x3810,
    0x3818, 0x3820, 0x382C, 0x5000, 0x5400, 0x5404, 0x5600, 0x1000, 0x0170, 0x2160, 0x2168,
};

static void count_frames(void *opaque, const struct e1000emu_frame *frames, size_t count)
{
    size_t *total = opaque;
    for (size_t i = 0; i < count; i++) /* every byte is there */
        *total += frames[i].size + ((const uint8_t *)frames[i].data)[frames[i].size - 1];
}

static void expect_code(int code)
{
    CHECK(code <= 0 && code != E1000EMU_EINTERNAL && code != E1000EMU_EPYTHON &&
          code != E1000EMU_EHANDLE && code != E1000EMU_ENOMEM);
}

static void one_call(struct machine *m, uint8_t *region, size_t *total)
{
    static const unsigned sizes[] = {4, 4, 4, 4, 1, 2, 8, 0, 3, 16};
    e1000emu_nic *nic = m->nic;
    uint32_t off = busy_registers[rnd(sizeof busy_registers / sizeof *busy_registers)];
    unsigned size = sizes[rnd(sizeof sizes / sizeof *sizes)];
    struct e1000emu_frame frames[40];
    uint64_t value;
    size_t n;

    switch (rnd(20)) {
    case 0:
        expect_code(e1000emu_mmio_read(nic, odd_number(), size, &value));
        break;
    case 1:
        expect_code(e1000emu_mmio_write(nic, odd_number(), size, odd_number()));
        break;
    case 2:
    case 3:
        expect_code(e1000emu_mmio_read(nic, off, size, &value));
        break;
    case 4:
    case 5:
    case 6:
    case 7: /* mostly what could be meant */
        value = rnd(4) ? rnd(64) : odd_number();
        if (off == 0x2800 || off == 0x3800)
            value = BUS + rnd(E1000_MIN_MEM_BYTES);
        if (off == 0x2808 || off == 0x3808)
            value = 128u * rnd(20);
        if (off == 0x0100 || off == 0x0400 || off == 0x0000)
            value |= 2;
        expect_code(e1000emu_mmio_write(nic, off, rnd(8) ? 4 : size, value));
        break;
    case 8:
        expect_code(e1000emu_io_write(nic, rnd(9), rnd(2) ? 4 : size, odd_number()));
        break;
    case 9:
        expect_code(e1000emu_io_read(nic, rnd(9), rnd(2) ? 4 : size, &value));
        break;
    case 10:
        expect_code(e1000emu_config_read(nic, rnd(260), size, &value));
        break;
    case 11:
        expect_code(e1000emu_config_write(nic, rnd(260), size, odd_number()));
        if (rnd(2))
            OK(e1000emu_config_write(nic, 4, 2, 7));
        break;
    case 12:
    case 13:
        for (n = 0; n < 40; n++) {
            frames[n].size = 1 + rnd(rnd(8) ? 1600 : 20000);
            frames[n].data = region;
        }
        expect_code(e1000emu_rx_push(nic, frames, rnd(41), &n));
        CHECK(n <= 40);
        break;
    case 14:
        OK(e1000emu_tx_poll(nic, frames, rnd(41), &n));
        count_frames(total, frames, n);
        break;
    case 15:
        expect_code(e1000emu_advance(nic, rnd(10) ? rnd(1u << 30) : odd_number()));
        break;
    case 16:
        expect_code(e1000emu_set_link(nic, (int)rnd(2), rnd(2) ? 1000 : rnd(2000)));
        break;
    case 17:
        expect_code(e1000emu_set_tx(nic, rnd(3) ? NULL : count_frames, total));
        break;
    case 18:
        value = 0x1000 * rnd(16);
        if (rnd(2))
            expect_code(e1000emu_dma_add(nic, value, region, 1 + rnd(0x4000), 1 + rnd(3)));
        else
            expect_code(e1000emu_dma_remove(nic, value, 1 + rnd(0x4000)));
        break;
    default: /* descriptors that mean something else by now */
        m->memory[rnd(E1000_MIN_MEM_BYTES)] = (uint8_t)rnd(256);
        region[rnd(0x8000)] = (uint8_t)rnd(256);
    }
}

/* What the calls have turned off is turned on, so that frames move until something breaks again. */
static void revive(struct machine *m)
{
    uint8_t frame[64];
    OK(e1000emu_reset(m->nic));
    OK(e1000emu_config_write(m->nic, 4, 2, 7));
    OK(e1000emu_set_link(m->nic, 1, 1000));
    CHECK(e1000_min_init(&m->driver, m, m->memory, BUS, E1000_MIN_MEM_BYTES) == 0);
    expect_code(e1000emu_advance(m->nic, 5 * SECOND));
    e1000_min_enable_irq(&m->driver, rnd(0x100));
    for (int i = 0; i < 20; i++) {
        fill(frame, sizeof frame, (unsigned)i);
        OK(e1000_min_queue(&m->driver, frame, sizeof frame));
    }
    e1000_min_kick(&m->driver);
}

static void test_random_calls(void)
{
    uint8_t *region = calloc(1, 0x8000);
    size_t total = 0, size;
    CHECK(region != NULL);
    for (unsigned seed = 1; seed <= 8; seed++) {
        struct machine m;
        void *state;
        random_state = seed;
        boot(&m);
        for (int i = 0; i < 4000; i++) {
            if (i % 100 == 0)
                revive(&m);
            one_call(&m, region, &total);
            if (i % 500 == 0) {
                uint64_t now;
                state = save(m.nic, &size);
                OK(e1000emu_state_load(m.nic, state, size));
                free(state);
                free(text(m.nic, e1000emu_explain));
                free(text(m.nic, e1000emu_counters));
                free(text(m.nic, e1000emu_misuse));
                OK(e1000emu_now(m.nic, &now));
                if (now > UINT64_C(1) << 62) { /* hardly any time is left */
                    power_off(&m);
                    boot(&m);
                }
            }
        }
        power_off(&m);
    }
    CHECK(total > 0);
    free(region);
}

/* FNV-1a of all that can be seen from outside. */
static uint64_t digest(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size--)
        hash = (hash ^ *p++) * UINT64_C(1099511628211);
    return hash;
}

static uint64_t one_run(void)
{
    struct machine m;
    uint64_t hash = UINT64_C(14695981039346656037), when;
    size_t size;
    void *state;
    char *said;
    boot(&m);
    traffic(&m, 30);
    for (uint64_t off = 0; off < 0x6000; off += 4) {
        uint64_t value;
        OK(e1000emu_mmio_read(m.nic, off, 4, &value));
        hash = digest(hash, &value, sizeof value);
    }
    e1000emu_next_event(m.nic, &when);
    hash = digest(hash, &when, sizeof when);
    said = text(m.nic, e1000emu_counters);
    hash = digest(hash, said, strlen(said));
    free(said);
    state = save(m.nic, &size);
    hash = digest(hash, state, size);
    hash = digest(hash, m.memory, E1000_MIN_MEM_BYTES);
    free(state);
    power_off(&m);
    return hash;
}

static void test_determinism(void)
{
    uint64_t first = one_run();
    CHECK(first == one_run());
    printf("%016llx\n", (unsigned long long)first); /* the test compares processes */
}

static void test_misuse(void)
{
    struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
    e1000emu_nic *nic = make_nic();
    char *said;
    uint64_t value;
    OK(e1000emu_mmio_write(nic, TDT, 4, 5));
    OK(e1000emu_mmio_read(nic, 0x000C, 4, &value));
    CHECK(value == 0);
    OK(e1000emu_mmio_read(nic, STATUS, 2, &value));
    CHECK(value <= 0xFFFF);
    OK(e1000emu_mmio_read(nic, STATUS, 8, &value));
    OK(e1000emu_mmio_read(nic, STATUS + 1, 4, &value));
    said = text(nic, e1000emu_misuse);
    CHECK(strstr(said, "tx-disabled x1") && strstr(said, "set TCTL.EN"));
    CHECK(strstr(said, "unknown-register") && strstr(said, "access-size x3"));
    free(said);
    said = text(nic, e1000emu_explain);
    CHECK(strstr(said, "they wait for TCTL.EN") != NULL);
    free(said);
    CHECK(counter(nic, "misuse_tx_disabled") == 1);
    OK(e1000emu_destroy(nic));

    options.flags = E1000EMU_PCI_ON | E1000EMU_STRICT;
    nic = e1000emu_create(&options);
    CHECK(nic != NULL);
    FAILS(e1000emu_mmio_write(nic, TDT, 4, 5), E1000EMU_EMISUSE, "set TCTL.EN");
    FAILS(e1000emu_mmio_read(nic, 0x000C, 4, &value), E1000EMU_EMISUSE, "no such register");
    CHECK(value == UINT64_MAX);
    OK(e1000emu_mmio_read(nic, STATUS, 4, &value));
    OK(e1000emu_destroy(nic));
}

static void check_io(uint32_t flags)
{
    struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
    e1000emu_nic *nic;
    uint64_t direct, value;
    options.flags = E1000EMU_PCI_ON | flags;
    nic = e1000emu_create(&options);
    CHECK(nic != NULL);
    OK(e1000emu_mmio_read(nic, STATUS, 4, &direct));
    OK(e1000emu_io_write(nic, 0, 4, STATUS));
    OK(e1000emu_io_read(nic, 0, 4, &value));
    CHECK(value == STATUS);
    OK(e1000emu_io_read(nic, 4, 4, &value));
    CHECK(value == direct);
    OK(e1000emu_io_write(nic, 0, 4, 0x5600));
    OK(e1000emu_io_write(nic, 4, 4, 0xCAFE));
    OK(e1000emu_mmio_read(nic, 0x5600, 4, &value));
    CHECK(value == 0xCAFE);
    OK(e1000emu_config_write(nic, 4, 2, 2)); /* memory only */
    OK(e1000emu_io_read(nic, 4, 4, &value));
    CHECK(value == 0xFFFFFFFFu);
    OK(e1000emu_destroy(nic));
}

static void test_io(void)
{
    check_io(0);
    check_io(E1000EMU_WIDE_BARS); /* the I/O BAR is another one then */
}

static void test_reset(void)
{
    struct machine m;
    uint64_t value;
    boot(&m);
    traffic(&m, 3);
    OK(e1000emu_reset(m.nic));
    OK(e1000emu_config_read(m.nic, 4, 2, &value));
    CHECK(value == 0);
    OK(e1000emu_config_write(m.nic, 4, 2, 7));
    OK(e1000emu_mmio_read(m.nic, RCTL, 4, &value));
    CHECK(value == 0);
    CHECK(!e1000_min_link_up(&m.driver));
    bring_up(&m);
    traffic(&m, 3);
    power_off(&m);
}

static void test_many(void)
{
    enum { NICS = 40 };
    struct machine m[NICS];
    for (int i = 0; i < NICS; i++)
        boot(&m[i]);
    for (int i = 0; i < NICS; i++) {
        traffic(&m[i], (unsigned)i % 5 + 1);
        OK(e1000emu_advance(m[i].nic, (uint64_t)i));
    }
    for (int i = 0; i < NICS; i++)
        CHECK(counter(m[i].nic, "gptc") == (uint64_t)i % 5 + 1);
    for (int i = 0; i < NICS; i += 2)
        power_off(&m[i]);
    for (int i = 1; i < NICS; i += 2)
        traffic(&m[i], 1);
    for (int i = 0; i < NICS; i += 2)
        boot(&m[i]);
    for (int i = 0; i < NICS; i++)
        power_off(&m[i]);
}

/* --- threads -------------------------------------------------------------------------------------- */

enum { THREADS = 4 };

static void *own_nic(void *unused)
{
    struct machine m;
    (void)unused;
    boot(&m);
    traffic(&m, 60);
    expect_no_misuse(m.nic);
    power_off(&m);
    return NULL;
}

static void *shared_nic(void *opaque)
{
    struct machine *m = opaque;
    struct e1000emu_frame frame = {"a frame for nobody in particular, padded to some length......", 60};
    uint64_t value;
    size_t taken;
    for (int i = 0; i < 3000; i++) {
        OK(e1000emu_mmio_read(m->nic, STATUS, 4, &value));
        OK(e1000emu_mmio_write(m->nic, ICS, 4, 1));
        if (i % 16 == 0)
            OK(e1000emu_rx_push(m->nic, &frame, 1, &taken));
        if (i % 64 == 0)
            OK(e1000emu_advance(m->nic, MS));
    }
    return NULL;
}

static void *short_life(void *opaque)
{
    uint64_t value;
    OK(e1000emu_mmio_read(opaque, STATUS, 4, &value));
    FAILS(e1000emu_mmio_read(NULL, STATUS, 4, &value), E1000EMU_EHANDLE, "NULL");
    return NULL;
}

static void in_threads(int n, void *(*fn)(void *), void *arg)
{
    pthread_t thread[64];
    CHECK(n <= 64);
    for (int i = 0; i < n; i++)
        CHECK(pthread_create(&thread[i], NULL, fn, arg) == 0);
    for (int i = 0; i < n; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
}

static void test_threads(void)
{
    struct machine m;
    struct interrupts irq = {&m, 0, 0, 0, 0};
    uint64_t now;
    in_threads(THREADS, own_nic, NULL); /* the first of them starts Python */
    boot(&m);
    OK(e1000emu_set_irq(m.nic, on_irq, &irq));
    irq.serve = 1;
    OK(e1000emu_mmio_write(m.nic, IMS, 4, 1));
    OK(e1000emu_now(m.nic, &now));
    in_threads(THREADS, shared_nic, &m);
    CHECK(irq.rises == THREADS * 3000 && irq.falls == irq.rises);
    {
        uint64_t later;
        OK(e1000emu_now(m.nic, &later));
        CHECK(later - now == THREADS * 47 * MS);
    }
    for (int i = 0; i < 20; i++)
        in_threads(16, short_life, m.nic);
    CHECK(*e1000emu_last_error() == 0); /* theirs, not ours */
    power_off(&m);
}

static void test_fork(void)
{
    struct machine m;
    int status;
    pid_t child;
    boot(&m);
    traffic(&m, 3);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) { /* the child's NIC is its own, and so are new ones */
        traffic(&m, 20);
        CHECK(counter(m.nic, "gptc") == 23);
        in_threads(THREADS, own_nic, NULL);
        power_off(&m);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(counter(m.nic, "gptc") == 3);
    traffic(&m, 3);
    in_threads(THREADS, own_nic, NULL);
    power_off(&m);
}

/* A driver that steps beyond its memory, for AddressSanitizer to find. */
static void test_planted_overflow(void)
{
    struct machine m;
    power_on(&m);
    free(m.memory);
    m.memory = malloc(1500); /* the rings and half a buffer; the driver is told otherwise */
    CHECK(m.memory != NULL);
    FAILS(e1000emu_dma_add(m.nic, BUS, m.memory, E1000_MIN_MEM_BYTES, RW), E1000EMU_EINVAL,
          "byte 1500 of memory is not the program's");
    (void)e1000_min_init(&m.driver, &m, m.memory, BUS, E1000_MIN_MEM_BYTES);
    {
        uint8_t frame[1000];
        fill(frame, sizeof frame, 1);
        (void)e1000_min_send(&m.driver, frame, sizeof frame);
    }
    power_off(&m);
}

/* A leak of the program's own, for LeakSanitizer to find. */
static void test_planted_leak(void)
{
    struct machine m;
    boot(&m);
    traffic(&m, 3);
    OK(e1000emu_destroy(m.nic));
    m.memory = NULL;
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"versions", test_versions},
    {"options", test_options},
    {"handles", test_handles},
    {"bytes", test_bytes_of_a_register},
    {"arguments", test_arguments},
    {"regions", test_regions},
    {"callbacks", test_callbacks},
    {"callbacks_in_long_runs", test_callbacks_in_long_runs},
    {"interrupts", test_interrupts},
    {"endless_callbacks", test_endless_callbacks},
    {"frames_by_callback", test_frames_by_callback},
    {"back_pressure", test_back_pressure},
    {"time", test_time},
    {"link", test_link},
    {"state", test_state},
    {"bad_state", test_bad_state},
    {"random_calls", test_random_calls},
    {"determinism", test_determinism},
    {"misuse", test_misuse},
    {"io", test_io},
    {"reset", test_reset},
    {"many", test_many},
    {"threads", test_threads},
    {"fork", test_fork},
    {"planted_overflow", test_planted_overflow},
    {"planted_leak", test_planted_leak},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc == 2 && strcmp(argv[1], "--list") == 0)
            puts(tests[i].name);
        else if (argc == 2 && strcmp(argv[1], tests[i].name) == 0) {
            tests[i].run();
            return 0;
        }
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return 0;
    fprintf(stderr, "usage: conformance NAME | --list\n");
    return 2;
}
