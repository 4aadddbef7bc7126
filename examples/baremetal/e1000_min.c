/* SPDX-License-Identifier: Apache-2.0 */
#include "e1000_min.h"

#if __STDC_HOSTED__
#include <string.h>
#endif

/* Registers (SDM table 13-2). */
#define CTRL 0x0000u
#define STATUS 0x0008u
#define EERD 0x0014u
#define FCAL 0x0028u
#define FCAH 0x002Cu
#define FCT 0x0030u
#define ICR 0x00C0u
#define IMS 0x00D0u
#define IMC 0x00D8u
#define RCTL 0x0100u
#define FCTTV 0x0170u
#define TCTL 0x0400u
#define TIPG 0x0410u
#define RDBAL 0x2800u
#define RDBAH 0x2804u
#define RDLEN 0x2808u
#define RDH 0x2810u
#define RDT 0x2818u
#define RDTR 0x2820u
#define TDBAL 0x3800u
#define TDBAH 0x3804u
#define TDLEN 0x3808u
#define TDH 0x3810u
#define TDT 0x3818u
#define MTA 0x5200u
#define RAL0 0x5400u
#define RAH0 0x5404u
#define MTA_WORDS 128u

#define CTRL_LRST (1u << 3)
#define CTRL_ASDE (1u << 5)
#define CTRL_SLU (1u << 6)
#define CTRL_ILOS (1u << 7)
#define CTRL_FRCSPD (1u << 11)
#define CTRL_FRCDPLX (1u << 12)
#define CTRL_RST (1u << 26)
#define CTRL_RFCE (1u << 27)
#define CTRL_TFCE (1u << 28)
#define CTRL_VME (1u << 30)
#define CTRL_PHY_RST (1u << 31)
#define STATUS_LU (1u << 1)
#define EERD_START (1u << 0)
#define EERD_DONE (1u << 4)
#define RAH_AV (1u << 31)
#define RCTL_EN (1u << 1)
#define RCTL_BAM (1u << 15)
#define RCTL_SECRC (1u << 26)
#define TCTL_EN (1u << 1)
#define TCTL_PSP (1u << 3)
#define TCTL_CT (0x0Fu << 4)
#define TCTL_COLD_FD (0x40u << 12)
#define TIPG_COPPER (10u | 8u << 10 | 6u << 20) /* SDM table 13-77 */

/* Bytes of a legacy descriptor (SDM 3.2.3, 3.3.3). */
#define DESC_LENGTH 8u
#define DESC_TX_CMD 11u
#define DESC_STATUS 12u
#define DESC_RX_ERRORS 13u
#define DESC_DD 0x01u
#define DESC_RX_EOP 0x02u
#define TX_CMD_EOP 0x01u
#define TX_CMD_IFCS 0x02u
#define TX_CMD_RS 0x08u

/* A reset takes a microsecond and an EEPROM word some hundred; a read of a register takes half a
 * microsecond on a real bus. After this many reads there is no device. */
#define POLLS 100000u

#if E1000_MIN_TX % 8 || E1000_MIN_TX < 8 || E1000_MIN_RX % 8 || E1000_MIN_RX < 8
#error "E1000_MIN_TX and E1000_MIN_RX: multiples of 8, at least 8"
#endif

/* The device looks at the descriptors as soon as the doorbell rings, and the driver
 * reads what it has written after its DD bit. Neither compiler nor processor may swap the two. */
#if defined(__GNUC__)
#define BARRIER() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#else
#define BARRIER() ((void)0)
#endif

static uint32_t rd(struct e1000_min *dev, uint32_t off)
{
    return e1000_min_read32(dev->ctx, off);
}

static void wr(struct e1000_min *dev, uint32_t off, uint32_t value)
{
    e1000_min_write32(dev->ctx, off, value);
}

static void copy(void *to, const void *from, uint32_t n)
{
#if __STDC_HOSTED__
    memcpy(to, from, n);
#else
    /* volatile, or the compiler makes a call of memcpy of it, which a bare machine may lack */
    volatile uint8_t *d = to;
    const uint8_t *s = from;
    while (n--)
        *d++ = *s++;
#endif
}

/* Memory: transmit ring, receive ring, transmit buffers, receive buffers. */
#define RINGS_BYTES ((E1000_MIN_TX + E1000_MIN_RX) * E1000_MIN_DESC_BYTES)

static uint32_t tx_ring(uint32_t i)
{
    return i * E1000_MIN_DESC_BYTES;
}

static uint32_t rx_ring(uint32_t i)
{
    return (E1000_MIN_TX + i) * E1000_MIN_DESC_BYTES;
}

static uint32_t tx_buffer(uint32_t i)
{
    return RINGS_BYTES + i * E1000_MIN_BUF_BYTES;
}

static uint32_t rx_buffer(uint32_t i)
{
    return RINGS_BYTES + (E1000_MIN_TX + i) * E1000_MIN_BUF_BYTES;
}

/* Descriptors are little-endian on every machine; the device writes them behind our back. */
static volatile uint8_t *descriptor(struct e1000_min *dev, uint32_t off)
{
    return (volatile uint8_t *)dev->mem + off;
}

static void fill_descriptor(volatile uint8_t *d, uint64_t bus, uint32_t len, uint8_t cmd)
{
    uint32_t i;
    for (i = 0; i < 8; i++)
        d[i] = (uint8_t)(bus >> 8 * i);
    d[DESC_LENGTH] = (uint8_t)len;
    d[DESC_LENGTH + 1] = (uint8_t)(len >> 8);
    d[10] = 0; /* CSO; receive: checksum */
    d[DESC_TX_CMD] = cmd;
    d[DESC_STATUS] = 0;
    d[13] = d[14] = d[15] = 0;
}

/* Read an EEPROM word (SDM 13.4.4); returns -1 when the EEPROM does not answer. */
static int32_t eeprom_word(struct e1000_min *dev, uint32_t index)
{
    uint32_t i, value;
    wr(dev, EERD, index << 8 | EERD_START);
    for (i = 0; i < POLLS; i++) {
        value = rd(dev, EERD);
        if (value & EERD_DONE)
            return (int32_t)(value >> 16);
    }
    return -1;
}

static void read_mac(struct e1000_min *dev)
{
    uint32_t i, low, high;
    for (i = 0; i < 3; i++) {
        int32_t word = eeprom_word(dev, i);
        if (word < 0)
            break;
        dev->mac[2 * i] = (uint8_t)word;
        dev->mac[2 * i + 1] = (uint8_t)(word >> 8);
    }
    if (i == 3)
        return;
    /* The reset has loaded the same address into receive entry 0. */
    low = rd(dev, RAL0);
    high = rd(dev, RAH0);
    for (i = 0; i < 4; i++)
        dev->mac[i] = (uint8_t)(low >> 8 * i);
    dev->mac[4] = (uint8_t)high;
    dev->mac[5] = (uint8_t)(high >> 8);
}

/* SDM 14.3, 13.4.1: everything but PCI configuration and the PHY as after power-on. */
static int reset(struct e1000_min *dev)
{
    uint32_t i;
    wr(dev, IMC, 0xFFFFFFFFu);
    wr(dev, RCTL, 0);
    wr(dev, TCTL, 0);
    (void)rd(dev, STATUS); /* the writes have arrived when a read returns */
    wr(dev, CTRL, rd(dev, CTRL) | CTRL_RST);
    for (i = 0; rd(dev, CTRL) & CTRL_RST; i++)
        if (i == POLLS)
            return E1000_MIN_ERESET;
    wr(dev, IMC, 0xFFFFFFFFu);
    (void)rd(dev, ICR);
    return 0;
}

/* SDM 14.3: let the PHY negotiate, flow control off, only our address and broadcasts. */
static void start_mac(struct e1000_min *dev)
{
    uint32_t i, ctrl = rd(dev, CTRL);
    ctrl &= ~(CTRL_LRST | CTRL_ILOS | CTRL_FRCSPD | CTRL_FRCDPLX | CTRL_RFCE | CTRL_TFCE |
              CTRL_VME | CTRL_PHY_RST);
    wr(dev, CTRL, ctrl | CTRL_ASDE | CTRL_SLU);
    wr(dev, FCAL, 0);
    wr(dev, FCAH, 0);
    wr(dev, FCT, 0);
    wr(dev, FCTTV, 0);
    for (i = 0; i < MTA_WORDS; i++)
        wr(dev, MTA + 4 * i, 0);
    wr(dev, RAL0, (uint32_t)dev->mac[0] | (uint32_t)dev->mac[1] << 8 |
                      (uint32_t)dev->mac[2] << 16 | (uint32_t)dev->mac[3] << 24);
    wr(dev, RAH0, (uint32_t)dev->mac[4] | (uint32_t)dev->mac[5] << 8 | RAH_AV);
}

/* SDM 14.4: ring first, then the enable bit. */
static void start_rx(struct e1000_min *dev)
{
    uint64_t ring = dev->bus + rx_ring(0);
    uint32_t i;
    for (i = 0; i < E1000_MIN_RX; i++)
        fill_descriptor(descriptor(dev, rx_ring(i)), dev->bus + rx_buffer(i), 0, 0);
    BARRIER();
    wr(dev, RDBAL, (uint32_t)ring);
    wr(dev, RDBAH, (uint32_t)(ring >> 32));
    wr(dev, RDLEN, E1000_MIN_RX * E1000_MIN_DESC_BYTES);
    wr(dev, RDTR, 0);
    wr(dev, RDH, 0);
    wr(dev, RDT, E1000_MIN_RX - 1); /* RDT == RDH would mean none is free (SDM 3.2.6) */
    wr(dev, RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
}

/* SDM 14.5. */
static void start_tx(struct e1000_min *dev)
{
    uint64_t ring = dev->bus + tx_ring(0);
    uint32_t i;
    for (i = 0; i < E1000_MIN_TX; i++)
        fill_descriptor(descriptor(dev, tx_ring(i)), 0, 0, 0);
    BARRIER();
    wr(dev, TDBAL, (uint32_t)ring);
    wr(dev, TDBAH, (uint32_t)(ring >> 32));
    wr(dev, TDLEN, E1000_MIN_TX * E1000_MIN_DESC_BYTES);
    wr(dev, TDH, 0);
    wr(dev, TDT, 0);
    wr(dev, TIPG, TIPG_COPPER);
    wr(dev, TCTL, TCTL_EN | TCTL_PSP | TCTL_CT | TCTL_COLD_FD);
}

int e1000_min_init(struct e1000_min *dev, void *ctx, void *mem, uint64_t bus, uint32_t bytes)
{
    int error;
    /* The low four bits of TDBAL and RDBAL are ignored. */
    if (!dev || !mem || bytes < E1000_MIN_MEM_BYTES || bus & 15)
        return E1000_MIN_EARG;
    dev->ctx = ctx;
    dev->mem = mem;
    dev->bus = bus;
    dev->tx_next = dev->tx_clean = dev->rx_next = 0;
    error = reset(dev);
    if (error)
        return error;
    read_mac(dev);
    start_mac(dev);
    start_rx(dev);
    start_tx(dev);
    return 0;
}

int e1000_min_link_up(struct e1000_min *dev)
{
    return (rd(dev, STATUS) & STATUS_LU) != 0;
}

uint32_t e1000_min_pending(struct e1000_min *dev)
{
    while (dev->tx_clean != dev->tx_next &&
           descriptor(dev, tx_ring(dev->tx_clean))[DESC_STATUS] & DESC_DD)
        dev->tx_clean = (dev->tx_clean + 1) % E1000_MIN_TX;
    return (dev->tx_next + E1000_MIN_TX - dev->tx_clean) % E1000_MIN_TX;
}

int e1000_min_queue(struct e1000_min *dev, const void *frame, uint32_t len)
{
    uint32_t i = dev->tx_next;
    if (!frame || len < E1000_MIN_FRAME_MIN || len > E1000_MIN_FRAME_MAX)
        return E1000_MIN_EARG;
    /* One descriptor stays unused: TDH == TDT means that there is nothing to send. */
    if (e1000_min_pending(dev) == E1000_MIN_TX - 1)
        return E1000_MIN_EFULL;
    copy(dev->mem + tx_buffer(i), frame, len);
    fill_descriptor(descriptor(dev, tx_ring(i)), dev->bus + tx_buffer(i), len,
                    TX_CMD_EOP | TX_CMD_IFCS | TX_CMD_RS);
    dev->tx_next = (i + 1) % E1000_MIN_TX;
    return 0;
}

void e1000_min_kick(struct e1000_min *dev)
{
    BARRIER();
    wr(dev, TDT, dev->tx_next);
}

int e1000_min_send(struct e1000_min *dev, const void *frame, uint32_t len)
{
    int error = e1000_min_queue(dev, frame, len);
    if (!error)
        e1000_min_kick(dev);
    return error;
}

int e1000_min_recv(struct e1000_min *dev, void *buf, uint32_t room)
{
    uint32_t i = dev->rx_next, len;
    volatile uint8_t *d = descriptor(dev, rx_ring(i));
    int result;
    if (!(d[DESC_STATUS] & DESC_DD))
        return 0;
    BARRIER();
    len = (uint32_t)d[DESC_LENGTH] | (uint32_t)d[DESC_LENGTH + 1] << 8;
    if (!(d[DESC_STATUS] & DESC_RX_EOP) || d[DESC_RX_ERRORS] || !len || len > E1000_MIN_BUF_BYTES) {
        result = E1000_MIN_EFRAME;
    } else if (!buf || len > room) {
        result = E1000_MIN_ESPACE;
    } else {
        copy(buf, dev->mem + rx_buffer(i), len);
        result = (int)len;
    }
    /* The buffer goes back to the device. */
    fill_descriptor(d, dev->bus + rx_buffer(i), 0, 0);
    dev->rx_next = (i + 1) % E1000_MIN_RX;
    BARRIER();
    wr(dev, RDT, i);
    return result;
}

void e1000_min_enable_irq(struct e1000_min *dev, uint32_t causes)
{
    wr(dev, IMS, causes);
}

uint32_t e1000_min_causes(struct e1000_min *dev)
{
    return rd(dev, ICR);
}

void e1000_min_stop(struct e1000_min *dev)
{
    wr(dev, IMC, 0xFFFFFFFFu);
    wr(dev, RCTL, 0);
    wr(dev, TCTL, 0);
    (void)rd(dev, STATUS);
}
