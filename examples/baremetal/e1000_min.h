/* SPDX-License-Identifier: Apache-2.0
 *
 * e1000_min: the least that drives an Intel 8254x. Polling, legacy descriptors, one buffer for each
 * frame, no libc: C99 for a bare machine. Interrupts only for whoever turns them on.
 *
 * It asks two things of whoever includes it:
 *
 *   - register access, as the two functions declared first below. On hardware they are a volatile
 *     load and store at BAR 0 + off; in a test they are whatever stands in for BAR 0.
 *   - E1000_MIN_MEM_BYTES of memory that the device can reach, aligned to 16 bytes, together with
 *     its *bus* address, which need not be the address the processor uses.
 *
 * PCI is the includer's too: memory decoding and bus mastering (bits 1 and 2 of the command
 * register) are on before e1000_min_init is called. "SDM" below is Intel's manual 317453.
 */
#ifndef E1000_MIN_H
#define E1000_MIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Supplied by the includer: the register at byte offset `off` of BAR 0. */
uint32_t e1000_min_read32(void *ctx, uint32_t off);
void e1000_min_write32(void *ctx, uint32_t off, uint32_t value);

/* Descriptors of each ring: a multiple of 8 (TDLEN and RDLEN count 128 bytes), at least 8. */
#ifndef E1000_MIN_TX
#define E1000_MIN_TX 32
#endif
#ifndef E1000_MIN_RX
#define E1000_MIN_RX 32
#endif

#define E1000_MIN_DESC_BYTES 16u
#define E1000_MIN_BUF_BYTES 2048u /* RCTL.BSIZE = 0 */
#define E1000_MIN_MEM_BYTES \
    ((E1000_MIN_TX + E1000_MIN_RX) * (E1000_MIN_DESC_BYTES + E1000_MIN_BUF_BYTES))

#define E1000_MIN_FRAME_MIN 14u   /* an Ethernet header; the device pads to 60 (TCTL.PSP) */
#define E1000_MIN_FRAME_MAX 1518u /* with one VLAN tag; the device adds the FCS */

/* What the functions return when it is negative. */
#define E1000_MIN_EARG (-1)   /* an argument is wrong: memory too small, misaligned, frame length */
#define E1000_MIN_ERESET (-2) /* CTRL.RST does not end: no device, or memory decoding is off */
#define E1000_MIN_EFULL (-3)  /* no free transmit descriptor: call again later */
#define E1000_MIN_EFRAME (-4) /* a frame came with errors, or over several buffers; it is dropped */
#define E1000_MIN_ESPACE (-5) /* a frame came that does not fit into the buffer; it is dropped */

struct e1000_min {
    void *ctx;      /* handed to the register functions */
    uint8_t *mem;   /* rings and buffers, as the processor sees them */
    uint64_t bus;   /* the same, as the device sees them */
    uint8_t mac[6]; /* from the EEPROM */
    uint32_t tx_next;  /* descriptor that the next frame takes */
    uint32_t tx_clean; /* oldest descriptor that the device has not finished */
    uint32_t rx_next;  /* descriptor that the next frame comes in */
};

/* Reset the device and start both rings. `mem` holds `bytes` (at least E1000_MIN_MEM_BYTES) and is
 * used until e1000_min_stop. Returns 0 or a negative error. The link comes up later. */
int e1000_min_init(struct e1000_min *dev, void *ctx, void *mem, uint64_t bus, uint32_t bytes);

/* 1 when the link is up (STATUS.LU), else 0. */
int e1000_min_link_up(struct e1000_min *dev);

/* Copy a frame (without FCS) into the transmit ring, without telling the device.
 * Returns 0, E1000_MIN_EARG for its length or E1000_MIN_EFULL. */
int e1000_min_queue(struct e1000_min *dev, const void *frame, uint32_t len);

/* Ring the doorbell: the device sends all that is queued. */
void e1000_min_kick(struct e1000_min *dev);

/* Queue one frame and ring the doorbell; returns as e1000_min_queue does. */
int e1000_min_send(struct e1000_min *dev, const void *frame, uint32_t len);

/* Number of frames handed to the device that it has not finished. */
uint32_t e1000_min_pending(struct e1000_min *dev);

/* Take one received frame (without FCS) into `buf` of `room` bytes.
 * Returns its length, 0 when none is there, or E1000_MIN_EFRAME, E1000_MIN_ESPACE. */
int e1000_min_recv(struct e1000_min *dev, void *buf, uint32_t room);

/* Interrupt causes (SDM 13.4.17), as e1000_min_enable_irq takes and e1000_min_causes returns them. */
#define E1000_MIN_IRQ_TXDW 0x01u /* a frame was sent */
#define E1000_MIN_IRQ_LSC 0x04u  /* the link came up or went down */
#define E1000_MIN_IRQ_RXO 0x40u  /* a frame came and no buffer was free */
#define E1000_MIN_IRQ_RXT0 0x80u /* a frame was received */

/* Let the device raise its interrupt for these causes, too (IMS); none is on after init. */
void e1000_min_enable_irq(struct e1000_min *dev, uint32_t causes);

/* Return what has happened since the last call (ICR); reading it lowers the interrupt. */
uint32_t e1000_min_causes(struct e1000_min *dev);

/* Turn both rings off; afterwards the memory is the caller's again. */
void e1000_min_stop(struct e1000_min *dev);

#ifdef __cplusplus
}
#endif

#endif
