/* SPDX-License-Identifier: Apache-2.0
 *
 * Between shim.c and host.py; both the C compiler and cffi read it, so it has no directives. `slot` is
 * the index of a NIC. Hooks return 0 or a code of enum e1000emu_error, whose text they have left with
 * shim_error.
 */
int py_create(uint32_t slot, const char *model, const uint8_t *mac, uint32_t flags,
              uint64_t autoneg_ns, uint64_t start_ns, const uint8_t *eeprom,
              size_t eeprom_bytes);
int py_destroy(uint32_t slot);
int py_reset(uint32_t slot);
int py_pause(uint32_t slot, int on);
int py_connect(uint32_t slot, int what, void *fn, void *second, void *opaque);
int py_irq_level(uint32_t slot, int *level);
int py_dma_add(uint32_t slot, uint64_t base, void *memory, uint64_t size, uint32_t flags);
int py_dma_remove(uint32_t slot, uint64_t base, uint64_t size);
int py_set_link(uint32_t slot, int up, uint32_t speed_mbps);
int py_store(uint32_t slot, int what, void *buffer, size_t *size);
int py_state_load(uint32_t slot, void *state, size_t size);
int py_counter(uint32_t slot, const char *name, uint64_t *value);
