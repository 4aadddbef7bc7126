/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of e1000emu.h check arguments, start Python when the first NIC is made, and take the
 * library's lock. Then they call either a compiled entry (fastpath/nic/c_abi.pyx: registers, frames,
 * clock) or a hook in Python (host.py: all rare calls).
 */
#define _GNU_SOURCE /* dladdr */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "interpreter.h"

#include "hooks.h"
#include "provided.h"

/* In the order of fastpath.nic.c_abi.entries(). */
static struct {
    int (*bar_read)(void *nic, int bar, uint64_t off, int size, uint64_t *value);
    int (*bar_write)(void *nic, int bar, uint64_t off, int size, uint64_t value);
    int (*config_read)(void *nic, uint64_t off, int size, uint64_t *value);
    int (*config_write)(void *nic, uint64_t off, int size, uint64_t value);
    int (*push)(void *nic, const struct e1000emu_frame *frames, size_t n, size_t *done);
    int (*poll)(void *nic, struct e1000emu_frame *frames, size_t room, size_t *done);
    int (*now)(void *nic, uint64_t *when);
    int (*advance)(void *nic, uint64_t ns);
    int (*next_event)(void *nic, uint64_t *when);
} entries;

/* As fastpath.nic.c_abi has it: the I/O BAR, whose index the EEPROM decides. */
enum { IO_BAR = -1 };
/* As host.py has them. */
enum { CONNECT_IRQ, CONNECT_TX, CONNECT_RX_READY, CONNECT_DMA };
enum { STORE_STATE, STORE_COUNTERS, STORE_EXPLAIN, STORE_MISUSE };

/* --- errors --------------------------------------------------------------------------------------- */

const char *e1000emu_last_error(void)
{
    return last_error;
}

int e1000emu_last_code(void)
{
    return last_code;
}

const char *e1000emu_error_name(int code)
{
    static const char *const names[] = {
        "E1000EMU_OK",      "E1000EMU_EINTERNAL", "E1000EMU_EINVAL", "E1000EMU_EHANDLE",
        "E1000EMU_ERANGE",  "E1000EMU_EBUSY",     "E1000EMU_ENOENT", "E1000EMU_ENOSPC",
        "E1000EMU_ESTATE",  "E1000EMU_EMISUSE",   "E1000EMU_EPYTHON", "E1000EMU_ENOMEM",
    };
    if (code > 0 || code <= -(int)(sizeof names / sizeof *names))
        return "?";
    return names[-code];
}

uint32_t e1000emu_abi(void)
{
    return E1000EMU_ABI;
}

const char *e1000emu_version(void)
{
    return PATHS_VERSION " (Python " PY_VERSION ")";
}

int shim_entries(uintptr_t *addresses, size_t count)
{
    if (count * sizeof *addresses != sizeof entries)
        return -1;
    memcpy(&entries, addresses, sizeof entries);
    served = 1;
    return 0;
}

/* --- handles -------------------------------------------------------------------------------------- */

/* A handle is a number that looks like a pointer: slot and generation. It is never dereferenced, so
 * a stale or invented one is detected. Generations begin above the values that a pointer of a user
 * program can have in these bits. */
struct slot {
    uint32_t generation;
    int live;
    int busy; /* unfinished calls on this NIC */
    void *cnic;
};

#define GENERATION_SHIFT (sizeof(uintptr_t) == 8 ? 32 : 20)
#define FIRST_GENERATION (sizeof(uintptr_t) == 8 ? 0x0E100000u : 0xE10u)
#define MAX_NICS 65535u
#define MAX_DEPTH 100 /* a few KiB of stack each */

static struct slot **slots;
static uint32_t slot_count;

static e1000emu_nic *to_handle(uint32_t index)
{
    return (e1000emu_nic *)((uintptr_t)slots[index]->generation << GENERATION_SHIFT |
                            (uintptr_t)index << 4);
}

static struct slot *find(const e1000emu_nic *nic, uint32_t *index)
{
    uint32_t i = (uint32_t)((uintptr_t)nic >> 4 & 0xFFFF);
    if (!nic || i >= slot_count || !slots[i]->live || to_handle(i) != nic)
        return NULL;
    *index = i;
    return slots[i];
}

static struct slot *free_slot(uint32_t *index)
{
    uint32_t i;
    struct slot **grown;
    for (i = 0; i < slot_count; i++)
        if (!slots[i]->live) {
            *index = i;
            return slots[i];
        }
    if (slot_count == MAX_NICS)
        return NULL;
    grown = realloc(slots, (slot_count + 1) * sizeof *slots);
    if (!grown)
        return NULL;
    slots = grown;
    slots[slot_count] = calloc(1, sizeof **slots);
    if (!slots[slot_count])
        return NULL;
    slots[slot_count]->generation = FIRST_GENERATION;
    *index = slot_count++;
    return slots[*index];
}

void shim_nic(uint32_t index, void *cnic)
{
    slots[index]->cnic = cnic;
}

/* Begin a call on `nic`: the lock, the thread, the NIC. NULL: there is no such NIC. */
static struct slot *enter(const e1000emu_nic *nic, const char *function, uint32_t *index)
{
    struct slot *slot;
    lock();
    if (depth > MAX_DEPTH) {
        fail(E1000EMU_EBUSY, "%s: %d calls, one inside the other; a callback calls what calls it",
             function, depth);
        unlock();
        return NULL;
    }
    slot = find(nic, index);
    if (!slot) {
        fail(E1000EMU_EHANDLE, "%s: %s", function,
             nic ? "this is no NIC, or it was destroyed" : "nic is NULL");
        unlock();
        return NULL;
    }
    attach();
    slot->busy++;
    return slot;
}

static int leave(struct slot *slot, int code)
{
    slot->busy--;
    unlock();
    return code;
}

static int busy(struct slot *slot, const char *function)
{
    return leave(slot, fail(E1000EMU_EBUSY,
                            "%s: called from inside a callback of the same NIC; return from it first",
                            function));
}

#define ENTER(nic)                                       \
    uint32_t index;                                      \
    struct slot *slot = enter((nic), __func__, &index);  \
    if (!slot)                                           \
        return last_code
/* The argument's name is in the text. */
#define NEED(slot, pointer)                                                              \
    do {                                                                                 \
        if (!(pointer))                                                                  \
            return leave(slot, fail(E1000EMU_EINVAL, "%s: %s is NULL", __func__, #pointer)); \
    } while (0)
#define OUTERMOST(slot)                     \
    do {                                    \
        if ((slot)->busy > 1)               \
            return busy(slot, __func__);    \
    } while (0)

/* --- life ----------------------------------------------------------------------------------------- */

/* The size that programs compiled without `eeprom` pass. */
#define FIRST_OPTIONS offsetof(struct e1000emu_options, eeprom)

static int check_options(struct e1000emu_options *o, const struct e1000emu_options *given)
{
    static const struct e1000emu_options none = E1000EMU_OPTIONS_INIT;
    size_t i;
    *o = none;
    if (!given)
        return 0;
    if (given->size < sizeof *o && given->size != FIRST_OPTIONS)
        return fail(E1000EMU_EINVAL,
                    "e1000emu_create: options->size is %zu, not %zu; begin with "
                    "E1000EMU_OPTIONS_INIT",
                    given->size, sizeof *o);
    if (given->size > 4096)
        return fail(E1000EMU_EINVAL,
                    "e1000emu_create: options->size is %zu; begin with E1000EMU_OPTIONS_INIT",
                    given->size);
    for (i = sizeof *o; i < given->size; i++)
        if (((const unsigned char *)given)[i])
            return fail(E1000EMU_EINVAL,
                        "e1000emu_create: byte %zu of options is set, but this library knows %zu; "
                        "use a newer one",
                        i, sizeof *o);
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    if (o->eeprom ? o->eeprom_bytes != 128 && o->eeprom_bytes != 512 : o->eeprom_bytes != 0)
        return fail(E1000EMU_EINVAL,
                    "e1000emu_create: eeprom_bytes %zu; give the 128 of a 93C46 or the 512 of a "
                    "93C66, and 0 without eeprom",
                    o->eeprom_bytes);
    if (o->flags & ~(E1000EMU_STRICT | E1000EMU_PCI_ON | E1000EMU_WIDE_BARS))
        return fail(E1000EMU_EINVAL, "e1000emu_create: flags %#x has bits that mean nothing",
                    (unsigned)o->flags);
    for (i = 0; i < sizeof o->reserved; i++)
        if (o->reserved[i])
            return fail(E1000EMU_EINVAL, "e1000emu_create: reserved[%zu] is not 0", i);
    return 0;
}

e1000emu_nic *e1000emu_create(const struct e1000emu_options *options)
{
    struct e1000emu_options o;
    e1000emu_nic *nic = NULL;
    struct slot *slot;
    uint32_t index;

    if (check_options(&o, options))
        return NULL;
    lock();
    if (ready(o.python_path) == 0) {
        attach();
        slot = free_slot(&index);
        if (!slot) {
            fail(E1000EMU_ENOMEM, "e1000emu_create: no memory, or %u NICs exist", slot_count);
        } else {
            slot->live = 1;
            slot->busy = 1;
            slot->generation++;
            if (py_create(index, o.model, o.mac, o.flags, o.autoneg_ns, o.start_ns,
                          o.eeprom, o.eeprom_bytes) == 0)
                nic = to_handle(index);
            else
                slot->live = 0;
            slot->busy = 0;
        }
    }
    unlock();
    return nic;
}

int e1000emu_destroy(e1000emu_nic *nic)
{
    ENTER(nic);
    OUTERMOST(slot);
    slot->live = 0;
    slot->cnic = NULL;
    return leave(slot, py_destroy(index));
}

int e1000emu_reset(e1000emu_nic *nic)
{
    ENTER(nic);
    OUTERMOST(slot);
    return leave(slot, py_reset(index));
}

int e1000emu_pause(e1000emu_nic *nic)
{
    ENTER(nic);
    OUTERMOST(slot);
    return leave(slot, py_pause(index, 1));
}

int e1000emu_resume(e1000emu_nic *nic)
{
    ENTER(nic);
    OUTERMOST(slot);
    return leave(slot, py_pause(index, 0));
}

/* --- PCI ------------------------------------------------------------------------------------------ */

static int check_access(const char *function, uint64_t offset, unsigned size, unsigned widest,
                        uint32_t limit)
{
    if (size == 0 || size > widest || size & (size - 1))
        return fail(E1000EMU_EINVAL, "%s: size %u; give 1, 2, %s", function, size,
                    widest == 8 ? "4 or 8" : "or 4");
    if (offset > limit || size > limit - offset)
        return fail(E1000EMU_ERANGE, "%s: %u bytes at %#llx are outside its %#x bytes", function,
                    size, (unsigned long long)offset, limit);
    return 0;
}

static int check_config(const char *function, uint64_t offset, unsigned size)
{
    int code = check_access(function, offset, size, 4, E1000EMU_CONFIG_BYTES);
    if (!code && (offset & 3) + size > 4)
        return fail(E1000EMU_EINVAL, "%s: %u bytes at %#llx cross a dword; split the access",
                    function, size, (unsigned long long)offset);
    return code;
}

int e1000emu_config_read(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t *value)
{
    int code;
    ENTER(nic);
    NEED(slot, value);
    *value = UINT64_MAX;
    code = check_config(__func__, offset, size);
    return leave(slot, code ? code : entries.config_read(slot->cnic, offset, (int)size, value));
}

int e1000emu_config_write(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t value)
{
    int code;
    ENTER(nic);
    code = check_config(__func__, offset, size);
    return leave(slot, code ? code : entries.config_write(slot->cnic, offset, (int)size, value));
}

int e1000emu_mmio_read(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t *value)
{
    int code;
    ENTER(nic);
    NEED(slot, value);
    *value = UINT64_MAX;
    code = check_access(__func__, offset, size, 8, E1000EMU_MMIO_BYTES);
    return leave(slot, code ? code : entries.bar_read(slot->cnic, 0, offset, (int)size, value));
}

int e1000emu_mmio_write(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t value)
{
    int code;
    ENTER(nic);
    code = check_access(__func__, offset, size, 8, E1000EMU_MMIO_BYTES);
    return leave(slot, code ? code : entries.bar_write(slot->cnic, 0, offset, (int)size, value));
}

int e1000emu_io_read(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t *value)
{
    int code;
    ENTER(nic);
    NEED(slot, value);
    *value = UINT64_MAX;
    code = check_access(__func__, offset, size, 4, E1000EMU_IO_BYTES);
    return leave(slot, code ? code : entries.bar_read(slot->cnic, IO_BAR, offset, (int)size, value));
}

int e1000emu_io_write(e1000emu_nic *nic, uint64_t offset, unsigned size, uint64_t value)
{
    int code;
    ENTER(nic);
    code = check_access(__func__, offset, size, 4, E1000EMU_IO_BYTES);
    return leave(slot, code ? code : entries.bar_write(slot->cnic, IO_BAR, offset, (int)size, value));
}

/* ISO C has no conversion between function and object pointers; POSIX has them alike. */
static void *address(void (*fn)(void))
{
    void *p;
    memcpy(&p, &fn, sizeof p);
    return p;
}
#define ADDRESS(fn) address((void (*)(void))(fn))

int e1000emu_set_irq(e1000emu_nic *nic, e1000emu_irq_fn fn, void *opaque)
{
    ENTER(nic);
    return leave(slot, py_connect(index, CONNECT_IRQ, ADDRESS(fn), NULL, opaque));
}

int e1000emu_irq_level(e1000emu_nic *nic, int *level)
{
    ENTER(nic);
    NEED(slot, level);
    return leave(slot, py_irq_level(index, level));
}

/* --- DMA ------------------------------------------------------------------------------------------ */

int e1000emu_dma_add(e1000emu_nic *nic, uint64_t base, void *memory, uint64_t size, unsigned flags)
{
    ENTER(nic);
    NEED(slot, memory);
    if (!flags || flags & ~(E1000EMU_DMA_READ | E1000EMU_DMA_WRITE))
        return leave(slot, fail(E1000EMU_EINVAL,
                                "%s: flags %#x; give E1000EMU_DMA_READ, E1000EMU_DMA_WRITE or both",
                                __func__, flags));
    /* The device's engines are not instrumented, so memory that they must not touch is detected here. */
    if (__asan_region_is_poisoned && size && size - 1 <= UINTPTR_MAX - (uintptr_t)memory) {
        void *bad = __asan_region_is_poisoned(memory, (size_t)size);
        if (bad)
            return leave(slot, fail(E1000EMU_EINVAL,
                                    "%s: byte %zu of memory is not the program's, says "
                                    "AddressSanitizer; size is %llu",
                                    __func__, (size_t)((char *)bad - (char *)memory),
                                    (unsigned long long)size));
    }
    return leave(slot, py_dma_add(index, base, memory, size, flags));
}

int e1000emu_dma_remove(e1000emu_nic *nic, uint64_t base, uint64_t size)
{
    ENTER(nic);
    return leave(slot, py_dma_remove(index, base, size));
}

int e1000emu_set_dma(e1000emu_nic *nic, e1000emu_dma_read_fn read, e1000emu_dma_write_fn write,
                     void *opaque)
{
    ENTER(nic);
    return leave(slot, py_connect(index, CONNECT_DMA, ADDRESS(read), ADDRESS(write), opaque));
}

/* --- frames --------------------------------------------------------------------------------------- */

int e1000emu_set_tx(e1000emu_nic *nic, e1000emu_tx_fn fn, void *opaque)
{
    ENTER(nic);
    return leave(slot, py_connect(index, CONNECT_TX, ADDRESS(fn), NULL, opaque));
}

int e1000emu_tx_poll(e1000emu_nic *nic, struct e1000emu_frame *frames, size_t room, size_t *count)
{
    ENTER(nic);
    NEED(slot, count);
    *count = 0;
    if (room)
        NEED(slot, frames);
    return leave(slot, entries.poll(slot->cnic, frames, room, count));
}

int e1000emu_rx_push(e1000emu_nic *nic, const struct e1000emu_frame *frames, size_t count,
                     size_t *taken)
{
    size_t i;
    ENTER(nic);
    NEED(slot, taken);
    *taken = 0;
    if (count)
        NEED(slot, frames);
    for (i = 0; i < count; i++)
        if (!frames[i].data || !frames[i].size || frames[i].size > E1000EMU_MAX_FRAME)
            return leave(slot, fail(E1000EMU_EINVAL,
                                    "%s: frame %zu has %zu bytes at %p; give 1 to %u, none was taken",
                                    __func__, i, frames[i].size, frames[i].data,
                                    E1000EMU_MAX_FRAME));
    return leave(slot, entries.push(slot->cnic, frames, count, taken));
}

int e1000emu_set_rx_ready(e1000emu_nic *nic, e1000emu_rx_ready_fn fn, void *opaque)
{
    ENTER(nic);
    return leave(slot, py_connect(index, CONNECT_RX_READY, ADDRESS(fn), NULL, opaque));
}

int e1000emu_set_link(e1000emu_nic *nic, int up, unsigned speed_mbps)
{
    ENTER(nic);
    if (speed_mbps != 10 && speed_mbps != 100 && speed_mbps != 1000)
        return leave(slot, fail(E1000EMU_EINVAL, "%s: speed_mbps %u; give 10, 100 or 1000", __func__,
                                speed_mbps));
    return leave(slot, py_set_link(index, up != 0, speed_mbps));
}

/* --- time ----------------------------------------------------------------------------------------- */

int e1000emu_now(e1000emu_nic *nic, uint64_t *now_ns)
{
    ENTER(nic);
    NEED(slot, now_ns);
    return leave(slot, entries.now(slot->cnic, now_ns));
}

int e1000emu_advance(e1000emu_nic *nic, uint64_t ns)
{
    ENTER(nic);
    OUTERMOST(slot);
    return leave(slot, entries.advance(slot->cnic, ns));
}

int e1000emu_next_event(e1000emu_nic *nic, uint64_t *when_ns)
{
    int code;
    ENTER(nic);
    NEED(slot, when_ns);
    *when_ns = UINT64_MAX;
    code = entries.next_event(slot->cnic, when_ns);
    if (!code && *when_ns == UINT64_MAX)
        code = fail(E1000EMU_ENOENT, "%s: nothing happens by itself", __func__);
    return leave(slot, code);
}

/* --- state, seeing inside ------------------------------------------------------------------------- */

static int store(e1000emu_nic *nic, const char *function, int what, void *buffer, size_t *size)
{
    uint32_t index;
    struct slot *slot = enter(nic, function, &index);
    if (!slot)
        return last_code;
    if (!size)
        return leave(slot, fail(E1000EMU_EINVAL, "%s: size is NULL", function));
    return leave(slot, py_store(index, what, buffer, size));
}

int e1000emu_state_save(e1000emu_nic *nic, void *buffer, size_t *size)
{
    return store(nic, __func__, STORE_STATE, buffer, size);
}

int e1000emu_state_load(e1000emu_nic *nic, const void *state, size_t size)
{
    ENTER(nic);
    NEED(slot, state);
    OUTERMOST(slot);
    return leave(slot, py_state_load(index, (void *)(uintptr_t)state, size));
}

int e1000emu_counter(e1000emu_nic *nic, const char *name, uint64_t *value)
{
    ENTER(nic);
    NEED(slot, name);
    NEED(slot, value);
    return leave(slot, py_counter(index, name, value));
}

int e1000emu_counters(e1000emu_nic *nic, void *buffer, size_t *size)
{
    return store(nic, __func__, STORE_COUNTERS, buffer, size);
}

int e1000emu_explain(e1000emu_nic *nic, void *buffer, size_t *size)
{
    return store(nic, __func__, STORE_EXPLAIN, buffer, size);
}

int e1000emu_misuse(e1000emu_nic *nic, void *buffer, size_t *size)
{
    return store(nic, __func__, STORE_MISUSE, buffer, size);
}
