/* SPDX-License-Identifier: Apache-2.0
 *
 * Mistakes that first drivers make; test_driver.py shows what the device says to each.
 */
#include "broken.h"

/* Hands the device the address that the processor uses. */
int broken_init(struct e1000_min *dev, void *ctx, void *mem, uint32_t bytes)
{
    return e1000_min_init(dev, ctx, mem, (uint64_t)(uintptr_t)mem, bytes);
}

/* Rings the doorbell of a transmitter that is off. */
int broken_send(struct e1000_min *dev, const void *frame, uint32_t len)
{
    e1000_min_write32(dev->ctx, 0x0400 /* TCTL */, 0);
    return e1000_min_send(dev, frame, len);
}

/* Reads half a register. */
uint32_t broken_status(struct e1000_min *dev)
{
    return e1000_min_read32(dev->ctx, 0x0008 /* STATUS */ + 1);
}
