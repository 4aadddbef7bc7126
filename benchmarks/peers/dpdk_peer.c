/* What DPDK's own primitives take for frames between two ports: mbufs, bursts, checksums in software.
 *
 * The ports are net_ring's: two software rings, no descriptors, no registers, no MAC filter. A frame is written into a
 * fresh mbuf with IP and UDP checksums, sent by rte_eth_tx_burst, received by rte_eth_rx_burst, verified and freed.
 * Compiled as a shared object against the packaged libdpdk and called by rows/packaged.py. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_memcpy.h>
#include <rte_ring.h>
#include <rte_udp.h>

#define MOST 256u

static struct rte_mempool *pool;
static int ports[2] = {-1, -1};
static uint8_t frame[2048];

static int started(int port)
{
    struct rte_eth_conf conf = {0};
    uint16_t id = (uint16_t)port;
    return rte_eth_dev_configure(id, 1, 1, &conf) || rte_eth_rx_queue_setup(id, 0, 512, 0, NULL, pool) ||
           rte_eth_tx_queue_setup(id, 0, 512, 0, NULL) || rte_eth_dev_start(id);
}

/* Start the environment, once in a process, without huge pages and PCI: 0, or -1. */
int dpdk_peer_start(void)
{
    char *words[] = {"bench", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-l",
                     NULL,    "-m",        "64",          "--log-level=1", NULL};
    static char core[16];
    struct rte_ring *there, *back;
    cpu_set_t before;

    sched_getaffinity(0, sizeof(before), &before);
    snprintf(core, sizeof(core), "%d", sched_getcpu());
    words[6] = core;
    if (rte_eal_init(10, words) < 0)
        return -1;
    sched_setaffinity(0, sizeof(before), &before);      /* the environment pins the thread */
    pool = rte_pktmbuf_pool_create("frames", 2047, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    there = rte_ring_create("there", 512, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    back = rte_ring_create("back", 512, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (!pool || !there || !back)
        return -1;
    ports[0] = rte_eth_from_rings("net_ring_a", &back, 1, &there, 1, 0);
    ports[1] = rte_eth_from_rings("net_ring_b", &there, 1, &back, 1, 0);
    if (ports[0] < 0 || ports[1] < 0 || started(ports[0]) || started(ports[1]))
        return -1;
    return 0;
}

static void make(uint32_t size)
{
    struct rte_ipv4_hdr *ip = (void *)(frame + 14);
    struct rte_udp_hdr *udp = (void *)(frame + 34);
    uint32_t i;

    for (i = 0; i < size; i++)
        frame[i] = (uint8_t)(i * 7);
    memcpy(frame, "\x52\x54\x00\x12\x34\x56\x02\x00\x00\x00\x00\x01\x08\x00", 14);
    memset(ip, 0, sizeof(*ip));
    ip->version_ihl = 0x45;
    ip->total_length = rte_cpu_to_be_16((uint16_t)(size - 14));
    ip->time_to_live = 64;
    ip->next_proto_id = IPPROTO_UDP;
    ip->src_addr = rte_cpu_to_be_32(0x0A000001);
    ip->dst_addr = rte_cpu_to_be_32(0x0A000002);
    udp->src_port = rte_cpu_to_be_16(7);
    udp->dst_port = rte_cpu_to_be_16(9);
    udp->dgram_len = rte_cpu_to_be_16((uint16_t)(size - 34));
    udp->dgram_cksum = 0;
}

/* Move `packets` frames of `size` bytes; the number that arrived and was verified. */
int64_t dpdk_peer_run(uint32_t size, uint32_t batch, int64_t packets)
{
    struct rte_mbuf *out[MOST], *in[MOST];
    int64_t done, good = 0;
    uint32_t i, n;

    if (size < 60 || size > 1514 || batch > MOST)
        return -1;
    make(size);
    for (done = 0; done < packets; done += batch) {
        if (rte_pktmbuf_alloc_bulk(pool, out, batch))
            return -1;
        for (i = 0; i < batch; i++) {
            uint8_t *p = (uint8_t *)rte_pktmbuf_append(out[i], (uint16_t)size);
            struct rte_ipv4_hdr *ip = (void *)(p + 14);
            struct rte_udp_hdr *udp = (void *)(p + 34);
            rte_memcpy(p, frame, size);
            ip->hdr_checksum = rte_ipv4_cksum(ip);
            udp->dgram_cksum = rte_ipv4_udptcp_cksum(ip, udp);
        }
        if (rte_eth_tx_burst((uint16_t)ports[0], 0, out, (uint16_t)batch) != batch)
            return -1;
        n = rte_eth_rx_burst((uint16_t)ports[1], 0, in, (uint16_t)batch);
        for (i = 0; i < n; i++) {
            const uint8_t *p = rte_pktmbuf_mtod(in[i], uint8_t *);
            const struct rte_ipv4_hdr *ip = (const void *)(p + 14);
            if (rte_raw_cksum(ip, 20) == 0xFFFF && rte_ipv4_udptcp_cksum(ip, p + 34) == 0xFFFF)
                good++;
        }
        rte_pktmbuf_free_bulk(in, n);
    }
    return good;
}
