/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver e1000_min over the C ABI: what an emulator, or a driver's test bench, does in C.
 *
 *     e1000emu capi --out build
 *     cc over_capi.c e1000_min.c $(e1000emu capi --out build --cflags --libs) -o over_capi
 *     ./over_capi            one frame out, one in
 *     ./over_capi --bench    rates of register accesses and frames
 */
#define _POSIX_C_SOURCE 199309L
#include <e1000emu.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "e1000_min.h"

#define BUS 0x100000u /* where the device sees our memory */
#define SECOND 1000000000u

static _Alignas(16) uint8_t memory[E1000_MIN_MEM_BYTES];

static void check(int code, const char *what)
{
    if (code) {
        fprintf(stderr, "%s: %s: %s\n", what, e1000emu_error_name(code), e1000emu_last_error());
        exit(1);
    }
}

/* What e1000_min asks for. */
uint32_t e1000_min_read32(void *ctx, uint32_t off)
{
    uint64_t value;
    check(e1000emu_mmio_read(ctx, off, 4, &value), "read");
    return (uint32_t)value;
}

void e1000_min_write32(void *ctx, uint32_t off, uint32_t value)
{
    check(e1000emu_mmio_write(ctx, off, 4, value), "write");
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sink(void *opaque, const struct e1000emu_frame *frames, size_t count)
{
    (void)frames;
    *(size_t *)opaque += count;
}

static void bench(e1000emu_nic *nic, struct e1000_min *dev)
{
    enum { READS = 2000000, FRAMES = 1000000, BATCH = E1000_MIN_RX / 2 };
    static uint8_t frame[60] = {0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x88, 0xB5};
    struct e1000emu_frame batch[BATCH];
    uint8_t buffer[E1000_MIN_BUF_BYTES];
    size_t sent = 0, received = 0, taken, i;
    uint64_t value;
    double start;

    start = seconds();
    for (i = 0; i < READS; i++)
        check(e1000emu_mmio_read(nic, 0x0008, 4, &value), "STATUS");
    printf("register reads   %8.2f million/s (STATUS)\n", READS / (seconds() - start) / 1e6);

    start = seconds();
    for (i = 0; i < READS; i++)
        check(e1000emu_mmio_write(nic, 0x2818, 4, E1000_MIN_RX - 1), "RDT");
    printf("register writes  %8.2f million/s (RDT)\n", READS / (seconds() - start) / 1e6);

    check(e1000emu_set_tx(nic, sink, &sent), "set_tx");
    start = seconds();
    for (i = 0; i < FRAMES; i++) {
        check(e1000_min_queue(dev, frame, sizeof frame), "queue");
        if (i % BATCH == BATCH - 1)
            e1000_min_kick(dev);
    }
    e1000_min_kick(dev);
    printf("frames out       %8.2f million/s (60 bytes, %d to a doorbell)\n",
           (double)sent / (seconds() - start) / 1e6, BATCH);

    for (i = 0; i < BATCH; i++) {
        batch[i].data = frame;
        batch[i].size = sizeof frame;
    }
    start = seconds();
    while (received < FRAMES) {
        check(e1000emu_rx_push(nic, batch, BATCH, &taken), "rx_push");
        while (e1000_min_recv(dev, buffer, sizeof buffer) > 0)
            received++;
    }
    printf("frames in        %8.2f million/s (60 bytes, %d to a push, RDT after each)\n",
           (double)received / (seconds() - start) / 1e6, BATCH);
}

int main(int argc, char **argv)
{
    static const uint8_t hello[64] = {
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 0x88, 0xB5,
        'h',  'e',  'l',  'l',  'o',  ',',  ' ',  'w',  'i',  'r',  'e',
    };
    struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
    struct e1000emu_frame frames[8], in;
    struct e1000_min dev;
    uint8_t buffer[E1000_MIN_BUF_BYTES];
    char said[2048];
    size_t count, size = sizeof said;
    e1000emu_nic *nic;

    options.flags = E1000EMU_PCI_ON;
    nic = e1000emu_create(&options);
    if (!nic)
        check(e1000emu_last_code(), "e1000emu_create");
    check(e1000emu_dma_add(nic, BUS, memory, sizeof memory, E1000EMU_DMA_READ | E1000EMU_DMA_WRITE),
          "e1000emu_dma_add");
    check(e1000_min_init(&dev, nic, memory, BUS, sizeof memory), "e1000_min_init");
    while (!e1000_min_link_up(&dev))
        check(e1000emu_advance(nic, SECOND / 10), "e1000emu_advance");

    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        bench(nic, &dev);
    } else {
        check(e1000_min_send(&dev, hello, sizeof hello), "e1000_min_send");
        check(e1000emu_tx_poll(nic, frames, 8, &count), "e1000emu_tx_poll");
        for (size_t i = 0; i < count; i++)
            printf("on the wire: %zu bytes, \"%s\"\n", frames[i].size,
                   (const char *)frames[i].data + 14);
        in.data = hello;
        in.size = sizeof hello;
        check(e1000emu_rx_push(nic, &in, 1, &count), "e1000emu_rx_push");
        printf("received:    %d bytes\n", e1000_min_recv(&dev, buffer, sizeof buffer));
    }
    check(e1000emu_misuse(nic, said, &size), "e1000emu_misuse");
    printf("the device complains of: %s\n", *said ? said : "nothing");
    e1000_min_stop(&dev);
    check(e1000emu_destroy(nic), "e1000emu_destroy");
    return 0;
}
