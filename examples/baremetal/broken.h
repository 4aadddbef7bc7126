/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BROKEN_H
#define BROKEN_H

#include "e1000_min.h"

int broken_init(struct e1000_min *dev, void *ctx, void *mem, uint32_t bytes);
int broken_send(struct e1000_min *dev, const void *frame, uint32_t len);
uint32_t broken_status(struct e1000_min *dev);

#endif
