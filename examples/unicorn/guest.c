/* SPDX-License-Identifier: Apache-2.0
 *
 * A network node on a bare x86-64 processor. It answers ARP, ping and UDP echo (port 7) at 10.0.0.2
 * with the driver of examples/baremetal. It sleeps in `hlt`, and the NIC's interrupt wakes it.
 */
#include "../baremetal/e1000_min.h"

#define BAR0 0xFEB80000u
#define LSC_AND_RXT0 (E1000_MIN_IRQ_LSC | E1000_MIN_IRQ_RXT0)

/* The image begins with its entry and, 8 bytes on, the address of the interrupt's; run.py knows.
 * The interrupted RIP and RFLAGS are on the stack when it is called. */
__asm__(".section .start, \"ax\"\n"
        "    jmp 1f\n"
        "    .balign 8\n"
        "    .quad 2f\n"
        "1:  mov $stack_top, %esp\n"
        "    call guest_main\n"
        "2:  push %rax; push %rcx; push %rdx; push %rsi; push %rdi\n"
        "    push %r8; push %r9; push %r10; push %r11\n"
        "    cld\n"
        "    call guest_interrupt\n"
        "    pop %r11; pop %r10; pop %r9; pop %r8\n"
        "    pop %rdi; pop %rsi; pop %rdx; pop %rcx; pop %rax\n"
        "    popfq\n"
        "    ret\n"
        ".text\n");

uint32_t e1000_min_read32(void *ctx, uint32_t off)
{
    return *(volatile uint32_t *)((uint8_t *)ctx + off);
}

void e1000_min_write32(void *ctx, uint32_t off, uint32_t value)
{
    *(volatile uint32_t *)((uint8_t *)ctx + off) = value;
}

static struct e1000_min nic;
static uint8_t nic_memory[E1000_MIN_MEM_BYTES] __attribute__((aligned(16)));
static uint8_t frame[2048];
static const uint8_t our_ip[4] = {10, 0, 0, 2};

/* Offsets in a frame: Ethernet, then ARP (RFC 826) or IPv4 without options, then ICMP or UDP. */
enum { DST = 0, SRC = 6, TYPE = 12, L3 = 14 };
enum { ARP_OP = L3 + 6, ARP_SHA = L3 + 8, ARP_SPA = L3 + 14, ARP_TPA = L3 + 24, ARP_END = L3 + 28 };
enum { IP_LEN = L3 + 2, IP_FRAG = L3 + 6, IP_PROTO = L3 + 9, IP_SRC = L3 + 12, IP_DST = L3 + 16 };
enum { L4 = L3 + 20, ICMP_SUM = L4 + 2, UDP_DPORT = L4 + 2, L4_HEADER = 8 };

static uint32_t get16(uint32_t at)
{
    return (uint32_t)frame[at] << 8 | frame[at + 1];
}

static void swap(uint32_t a, uint32_t b, uint32_t n)
{
    while (n--) {
        uint8_t byte = frame[a + n];
        frame[a + n] = frame[b + n];
        frame[b + n] = byte;
    }
}

static int is_ours(uint32_t at)
{
    uint32_t i;
    for (i = 0; i < 4; i++)
        if (frame[at + i] != our_ip[i])
            return 0;
    return 1;
}

/* Turn the request in `frame` into its answer; returns 0 when there is nothing to answer. */
static int answer(uint32_t len)
{
    uint32_t i;
    if (len >= ARP_END && get16(TYPE) == 0x0806 && get16(ARP_OP) == 1 && is_ours(ARP_TPA)) {
        frame[ARP_OP + 1] = 2;
        swap(ARP_SHA, ARP_SHA + 10, 10); /* hardware and protocol address of both */
        for (i = 0; i < 6; i++)
            frame[ARP_SHA + i] = nic.mac[i];
    } else if (len >= L4 + L4_HEADER && get16(TYPE) == 0x0800 && frame[L3] == 0x45 &&
               is_ours(IP_DST) && !(get16(IP_FRAG) & 0x3FFF) && L3 + get16(IP_LEN) <= len) {
        if (frame[IP_PROTO] == 1 && get16(L4) == 0x0800) { /* echo request becomes reply */
            uint32_t sum = get16(ICMP_SUM) + 0x0800; /* RFC 1624: the rest is as it was */
            sum = (sum & 0xFFFF) + (sum >> 16);
            frame[L4] = 0;
            frame[ICMP_SUM] = (uint8_t)(sum >> 8);
            frame[ICMP_SUM + 1] = (uint8_t)sum;
        } else if (frame[IP_PROTO] == 17 && get16(UDP_DPORT) == 7) {
            swap(L4, UDP_DPORT, 2); /* a sum of the same words: the checksum stays */
        } else {
            return 0;
        }
        swap(IP_SRC, IP_DST, 4);
    } else {
        return 0;
    }
    for (i = 0; i < 6; i++) {
        frame[DST + i] = frame[SRC + i];
        frame[SRC + i] = nic.mac[i];
    }
    return 1;
}

void guest_interrupt(void)
{
    (void)e1000_min_causes(&nic); /* reading ICR lowers the line; the loop below does the work */
}

void guest_main(void)
{
    if (e1000_min_init(&nic, (void *)(uintptr_t)BAR0, nic_memory, (uintptr_t)nic_memory,
                       sizeof nic_memory))
        for (;;)
            __asm__ volatile("cli; hlt");
    e1000_min_enable_irq(&nic, LSC_AND_RXT0);
    for (;;) {
        int len = e1000_min_recv(&nic, frame, sizeof frame);
        if (!len)
            __asm__ volatile("sti; hlt" ::: "memory");
        else if (len > 0 && answer((uint32_t)len))
            while (e1000_min_send(&nic, frame, (uint32_t)len) == E1000_MIN_EFULL)
                ;
    }
}
