/* SPDX-License-Identifier: Apache-2.0
 *
 * e1000emu: an Intel e1000 network controller, emulated register by register, for programs in C and
 * C++. Link with libe1000emu.so; `e1000emu capi --out DIR` makes both and prints the flags.
 *
 *     struct e1000emu_options options = E1000EMU_OPTIONS_INIT;
 *     options.flags = E1000EMU_PCI_ON;
 *     e1000emu_nic *nic = e1000emu_create(&options);
 *     if (!nic)
 *         die(e1000emu_last_error());
 *     e1000emu_dma_add(nic, 0, ram, sizeof ram, E1000EMU_DMA_READ | E1000EMU_DMA_WRITE);
 *     e1000emu_mmio_write(nic, 0x3818, 4, tail);
 *     e1000emu_advance(nic, 1000000);
 *
 * ERRORS. A function returns 0, or one of enum e1000emu_error; then e1000emu_last_error() has one
 * sentence that names the argument and the remedy. No argument makes the library crash, not even a
 * handle that was destroyed or never made; but pointers to memory must be valid, as for memcpy. A
 * mistake of the *driver* is no error: the device does what the hardware would do, and
 * e1000emu_misuse() reports it.
 *
 * TIME is virtual and belongs to the NIC: it starts at 0 and moves only in e1000emu_advance(). The
 * same calls give the same run, byte for byte. The PHY needs time to negotiate, timers to expire.
 *
 * THREADS. Any thread may make any call; the library serves one call at a time. Callbacks run in the
 * thread whose call causes them, before that call returns. A callback may call the library again,
 * except for e1000emu_destroy, e1000emu_reset, e1000emu_pause, e1000emu_resume, e1000emu_advance,
 * e1000emu_state_save, e1000emu_state_load and what changes DMA on the NIC that called it. These return
 * E1000EMU_EBUSY, as does any call nested a hundred deep. A callback must not wait for another thread
 * that may be inside the library, and must not be left by longjmp or a C++ exception.
 *
 * FORK. A child has its own copy of every NIC and goes on with it.
 *
 * SANITIZERS. A program under AddressSanitizer or LeakSanitizer needs no setting: its own leaks are
 * found, Python's caches are not reported, and e1000emu_dma_add refuses memory that is not the program's. For
 * valgrind set PYTHONMALLOC=malloc.
 */
#ifndef E1000EMU_H
#define E1000EMU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface: a program works with libraries of the same number. */
#define E1000EMU_ABI 1

#if defined(__GNUC__)
#define E1000EMU_API __attribute__((visibility("default")))
#else
#define E1000EMU_API
#endif

/* One network controller: made by e1000emu_create, freed by e1000emu_destroy. */
typedef struct e1000emu_nic e1000emu_nic;

enum e1000emu_error {
    E1000EMU_OK = 0,
    E1000EMU_EINTERNAL = -1, /* a bug of the library; the text has the details */
    E1000EMU_EINVAL = -2,    /* an argument is wrong */
    E1000EMU_EHANDLE = -3,   /* no NIC: NULL, destroyed, or never one */
    E1000EMU_ERANGE = -4,    /* an offset is outside the region, a time after the end of time */
    E1000EMU_EBUSY = -5,     /* not allowed in a callback, or in this state (paused, or not) */
    E1000EMU_ENOENT = -6,    /* no such DMA region, counter or event */
    E1000EMU_ENOSPC = -7,    /* the buffer is too small; the size needed is stored */
    E1000EMU_ESTATE = -8,    /* these bytes are no state that this NIC can load */
    E1000EMU_EMISUSE = -9,   /* strict: the driver made a mistake in this access */
    E1000EMU_EPYTHON = -10,  /* the Python inside does not start, or lacks e1000emu */
    E1000EMU_ENOMEM = -11    /* no memory left */
};

/* --- library ------------------------------------------------------------------------------------ */

/* E1000EMU_ABI of the library; compare it when the library is loaded by dlopen. */
E1000EMU_API uint32_t e1000emu_abi(void);

/* Version of the library and of the Python inside: "0.1.0 (Python 3.11.7)". */
E1000EMU_API const char *e1000emu_version(void);

/* What the last call that failed in this thread said; "" when none has. Valid until the next call. */
E1000EMU_API const char *e1000emu_last_error(void);

/* The code that goes with it: for e1000emu_create, which returns a pointer. */
E1000EMU_API int e1000emu_last_code(void);

/* "E1000EMU_EINVAL" for E1000EMU_EINVAL; "?" for a number that is no code. */
E1000EMU_API const char *e1000emu_error_name(int code);

/* --- life --------------------------------------------------------------------------------------- */

#define E1000EMU_STRICT 1u /* an access in which the driver makes a mistake: E1000EMU_EMISUSE */
#define E1000EMU_PCI_ON 2u /* memory and I/O decoding and bus mastering on, as a BIOS leaves them */
#define E1000EMU_WIDE_BARS 4u /* memory BARs of 64 bits: the EEPROM has ICW1.BAR32 clear */

/* Options of a NIC. Zero means the default everywhere; begin with E1000EMU_OPTIONS_INIT. */
struct e1000emu_options {
    size_t size;         /* sizeof(struct e1000emu_options): the struct may grow */
    uint32_t flags;      /* E1000EMU_STRICT, E1000EMU_PCI_ON, E1000EMU_WIDE_BARS */
    uint8_t mac[6];      /* address in the EEPROM; default that of `eeprom`, or 52:54:00:12:34:56 */
    uint8_t reserved[6]; /* 0 */
    const char *model;   /* default "82540EM" */
    uint64_t autoneg_ns; /* how long the PHY negotiates; default as the hardware, 1 = at once */
    uint64_t start_ns;   /* time at which the clock starts */
    /* Directories, separated by colons, in which Python looks for e1000emu and its packages before
     * those of the machine that built the library. As E1000EMU_PYTHONPATH, which comes first; used by
     * the first e1000emu_create of the process. */
    const char *python_path;
    const uint8_t *eeprom; /* what the EEPROM holds, words with the low byte first; default a new board's */
    size_t eeprom_bytes;   /* 128 or 512; without `eeprom` 0 */
};

#ifdef __cplusplus
#define E1000EMU_OPTIONS_INIT \
    { sizeof(struct e1000emu_options), 0, {0}, {0}, 0, 0, 0, 0, 0, 0 }
#else
#define E1000EMU_OPTIONS_INIT \
    { .size = sizeof(struct e1000emu_options) }
#endif

/* Make a NIC, powered on, with its cable plugged in. NULL options: all defaults. Returns NULL on an
 * error. The first call starts Python, which takes a tenth of a second or so. */
E1000EMU_API e1000emu_nic *e1000emu_create(const struct e1000emu_options *options);

/* Unplug and forget a NIC. Its memory regions, frames and texts are not used any more. */
E1000EMU_API int e1000emu_destroy(e1000emu_nic *nic);

/* RST# of the bus: configuration space and the MAC as after power-on; the PHY negotiates anew. */
E1000EMU_API int e1000emu_reset(e1000emu_nic *nic);

/* Stop: after return the NIC accesses no memory, no frame comes in or goes out, and INTA# keeps its level,
 * whatever is called, until e1000emu_resume. e1000emu_rx_push takes nothing. Nothing is lost:
 * e1000emu_resume handles doorbells and deadlines that came in between. Registers answer and time can move;
 * a reset and e1000emu_state_load leave the NIC paused. E1000EMU_EBUSY when it is paused already, or not. */
E1000EMU_API int e1000emu_pause(e1000emu_nic *nic);
E1000EMU_API int e1000emu_resume(e1000emu_nic *nic);

/* --- PCI ---------------------------------------------------------------------------------------- */

#define E1000EMU_CONFIG_BYTES 0x100u
#define E1000EMU_MMIO_BYTES 0x20000u /* BAR 0, memory */
#define E1000EMU_IO_BYTES 8u         /* BAR 2, I/O: IOADDR at 0, IODATA at 4; BAR 4 behind wide BARs */

/* Configuration space: 1, 2 or 4 bytes that do not cross a dword. Values are in host order. */
E1000EMU_API int e1000emu_config_read(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                      uint64_t *value);
E1000EMU_API int e1000emu_config_write(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                       uint64_t value);

/* Registers, at their offset in BAR 0. The part is made for 4 aligned bytes; 1, 2 and 8 work and are
 * counted as misuse. While the command register does not decode memory, reads give all ones and
 * writes vanish. After an error *value is all ones. */
E1000EMU_API int e1000emu_mmio_read(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                    uint64_t *value);
E1000EMU_API int e1000emu_mmio_write(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                     uint64_t value);

/* The same for the I/O BAR, wherever it is. */
E1000EMU_API int e1000emu_io_read(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                  uint64_t *value);
E1000EMU_API int e1000emu_io_write(e1000emu_nic *nic, uint64_t offset, unsigned size,
                                   uint64_t value);

/* The level of INTA#, 1 = asserted. `fn` is called at each change, unless it is NULL. */
typedef void (*e1000emu_irq_fn)(void *opaque, int level);
E1000EMU_API int e1000emu_set_irq(e1000emu_nic *nic, e1000emu_irq_fn fn, void *opaque);
E1000EMU_API int e1000emu_irq_level(e1000emu_nic *nic, int *level);

/* --- DMA ---------------------------------------------------------------------------------------- */

#define E1000EMU_DMA_READ 1u  /* the device may read the region */
#define E1000EMU_DMA_WRITE 2u /* the device may write it */

/* Let the device access `size` bytes at `memory` as bus addresses from `base` on, until they are removed
 * or the NIC is destroyed. Regions must not overlap. An access outside all regions is a master abort:
 * reads give FF, writes vanish, the counter dma_aborts counts it. */
E1000EMU_API int e1000emu_dma_add(e1000emu_nic *nic, uint64_t base, void *memory, uint64_t size,
                                  unsigned flags);

/* Remove the region that was added at exactly `base` with `size` bytes. */
E1000EMU_API int e1000emu_dma_remove(e1000emu_nic *nic, uint64_t base, uint64_t size);

/* Serve accesses outside all regions by functions: they move `size` bytes and return 0, or another
 * number for a master abort. NULL: master abort. An access may begin anywhere and be of any size.
 * The library copies nothing beyond what is asked for. */
typedef int (*e1000emu_dma_read_fn)(void *opaque, uint64_t address, void *to, size_t size);
typedef int (*e1000emu_dma_write_fn)(void *opaque, uint64_t address, const void *from, size_t size);
E1000EMU_API int e1000emu_set_dma(e1000emu_nic *nic, e1000emu_dma_read_fn read,
                                  e1000emu_dma_write_fn write, void *opaque);

/* --- frames ------------------------------------------------------------------------------------- */

#define E1000EMU_MAX_FRAME 65535u

/* An Ethernet frame without its FCS. */
struct e1000emu_frame {
    const void *data;
    size_t size;
};

/* Frames that the NIC sends. With a function they are handed to it in batches as they leave, valid
 * until it returns (those that wait go at once); without one (NULL) they wait for e1000emu_tx_poll. */
typedef void (*e1000emu_tx_fn)(void *opaque, const struct e1000emu_frame *frames, size_t count);
E1000EMU_API int e1000emu_set_tx(e1000emu_nic *nic, e1000emu_tx_fn fn, void *opaque);

/* Take at most `room` frames that were sent; *count says how many. They are valid until the next
 * e1000emu_tx_poll of this NIC or its end. 4096 frames wait, at most; then the transmitter waits. */
E1000EMU_API int e1000emu_tx_poll(e1000emu_nic *nic, struct e1000emu_frame *frames, size_t room,
                                  size_t *count);

/* Frames that reach the NIC over its cable. *taken says how many it took, counted from the first.
 * It takes fewer than `count` when it has no room now, so that nothing is lost. Give it the others again
 * after its driver has made room. A frame that no filter wants, or that meets a receiver that is off, is
 * taken and dropped, as on a wire. The frames are copied. */
E1000EMU_API int e1000emu_rx_push(e1000emu_nic *nic, const struct e1000emu_frame *frames,
                                  size_t count, size_t *taken);

/* `fn` is called when e1000emu_rx_push took less than it was given and there is room again. */
typedef void (*e1000emu_rx_ready_fn)(void *opaque);
E1000EMU_API int e1000emu_set_rx_ready(e1000emu_nic *nic, e1000emu_rx_ready_fn fn, void *opaque);

/* Plug (1) or pull (0) the cable; the far end offers 10, 100 or 1000 Mbit/s, full duplex. */
E1000EMU_API int e1000emu_set_link(e1000emu_nic *nic, int up, unsigned speed_mbps);

/* --- time --------------------------------------------------------------------------------------- */

/* What the NIC's clock shows, in ns. */
E1000EMU_API int e1000emu_now(e1000emu_nic *nic, uint64_t *now_ns);

/* Let `ns` pass: run what becomes due, in order, and set the new time. 0 runs what is due now. */
E1000EMU_API int e1000emu_advance(e1000emu_nic *nic, uint64_t ns);

/* The time of the next event of the clock, in ns, never before now; E1000EMU_ENOENT and UINT64_MAX
 * when there is none. An emulator sets its own timer to it. */
E1000EMU_API int e1000emu_next_event(e1000emu_nic *nic, uint64_t *when_ns);

/* --- state -------------------------------------------------------------------------------------- */

/* Functions with `void *buffer, size_t *size` store what they have into the *size bytes at `buffer`
 * and set *size to what it takes; texts end with a NUL, which counts. E1000EMU_ENOSPC when it does
 * not fit, with *size set. A NULL buffer asks for the size only. */

/* Save the NIC's whole state, and its time. Memory, frames in flight, DMA regions and callbacks are the
 * program's. */
E1000EMU_API int e1000emu_state_save(e1000emu_nic *nic, void *buffer, size_t *size);

/* Take back what e1000emu_state_save stored, from a NIC of the same model in any process: the NIC
 * continues from there, also in time. After E1000EMU_ESTATE it is as after power-on. */
E1000EMU_API int e1000emu_state_load(e1000emu_nic *nic, const void *state, size_t size);

/* --- seeing inside ------------------------------------------------------------------------------ */

/* One counter: a statistics register ("gprc", "tpt"), "interrupts", "dma_aborts", ... */
E1000EMU_API int e1000emu_counter(e1000emu_nic *nic, const char *name, uint64_t *value);

/* All counters as text, one "name value" to a line. */
E1000EMU_API int e1000emu_counters(e1000emu_nic *nic, void *buffer, size_t *size);

/* What holds frames or interrupts back, one sentence to a line; "" when nothing does. */
E1000EMU_API int e1000emu_explain(e1000emu_nic *nic, void *buffer, size_t *size);

/* What the driver did wrong, one kind to a line with count, last case and remedy; "" for nothing. */
E1000EMU_API int e1000emu_misuse(e1000emu_nic *nic, void *buffer, size_t *size);

#ifdef __cplusplus
}
#endif

#endif
