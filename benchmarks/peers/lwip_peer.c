/* Two Ethernet interfaces of the packaged lwIP (liblwip), joined by a wire that copies each frame once.
 *
 * The raw API, callbacks and no sockets; checksums are made and verified in software. The library has one stack
 * and a thread of its own for timers: every function holds its lock. Both ends are interfaces of that one stack,
 * which a PCB bound to its interface does not notice. Compiled as a shared object and called by rows/packaged.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/tcp.h>
#include <lwip/tcpip.h>
#include <lwip/timeouts.h>
#include <lwip/udp.h>
#include <netif/ethernet.h>

#define WIRE 4096u
#define PORT 9001
#define IDLE_ROUNDS 20000000

struct frame {
    struct pbuf *p;
    struct netif *to;
};
static struct frame wire[WIRE];
static uint32_t head, tail;
static struct netif ends[2];
static struct udp_pcb *sender;
static struct tcp_pcb *client, *server;
static uint64_t arrived;        /* datagrams, or bytes at the server */
static uint64_t answered;       /* bytes at the client */
static int echo;
static uint8_t data[1 << 16], room[1 << 16];

static err_t transmit(struct netif *from, struct pbuf *p)
{
    struct pbuf *copy;
    if (tail - head == WIRE)
        return ERR_MEM;
    copy = pbuf_alloc(PBUF_RAW, p->tot_len, PBUF_RAM);
    if (!copy)
        return ERR_MEM;
    pbuf_copy(copy, p);
    wire[tail++ % WIRE] = (struct frame){copy, from == &ends[0] ? &ends[1] : &ends[0]};
    return ERR_OK;
}

static void deliver(void)
{
    while (head != tail) {
        struct frame f = wire[head++ % WIRE];
        if (f.to->input(f.p, f.to) != ERR_OK)
            pbuf_free(f.p);
    }
}

static err_t started(struct netif *n)
{
    n->name[0] = 'e';
    n->name[1] = 'n';
    n->output = etharp_output;
    n->linkoutput = transmit;
    n->mtu = 1500;
    n->hwaddr_len = 6;
    memcpy(n->hwaddr, "\x52\x54\x00\x12\x34\x00", 6);
    n->hwaddr[5] = (uint8_t)(n == &ends[1]);
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static void got_datagram(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from, u16_t port)
{
    (void)arg, (void)pcb, (void)from, (void)port;
    pbuf_copy_partial(p, room, p->tot_len, 0);
    arrived++;
    pbuf_free(p);
}

static err_t got_stream(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)arg, (void)err;
    if (!p)
        return ERR_OK;
    pbuf_copy_partial(p, room, p->tot_len, 0);
    tcp_recved(pcb, p->tot_len);
    if (pcb == client)
        answered += p->tot_len;
    else
        arrived += p->tot_len;
    if (echo && pcb == server) {
        tcp_write(pcb, room, p->tot_len, TCP_WRITE_FLAG_COPY);
        tcp_output(pcb);
    }
    pbuf_free(p);
    return ERR_OK;
}

static err_t accepted(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg, (void)err;
    server = pcb;
    tcp_nagle_disable(pcb);
    tcp_recv(pcb, got_stream);
    return ERR_OK;
}

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg, (void)pcb;
    return err;
}

/* Start the stack, once in a process: 0, or -1. */
int lwip_peer_start(void)
{
    ip4_addr_t address[2], mask, none;
    ip_addr_t to;
    struct udp_pcb *receiver;
    struct tcp_pcb *listener;
    int i;

    IP4_ADDR(&address[0], 10, 0, 0, 1);
    IP4_ADDR(&address[1], 10, 0, 0, 2);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&none, 0, 0, 0, 0);
    tcpip_init(NULL, NULL);
    LOCK_TCPIP_CORE();
    for (i = 0; i < 2; i++) {
        if (!netif_add(&ends[i], &address[i], &mask, &none, NULL, started, ethernet_input))
            goto failed;
        netif_set_up(&ends[i]);
    }
    receiver = udp_new();
    sender = udp_new();
    udp_bind(receiver, IP_ADDR_ANY, PORT);
    udp_bind_netif(receiver, &ends[1]);
    udp_recv(receiver, got_datagram, NULL);
    udp_bind_netif(sender, &ends[0]);
    ip_addr_copy_from_ip4(to, address[1]);
    udp_connect(sender, &to, PORT);
    listener = tcp_new();
    tcp_bind(listener, IP_ADDR_ANY, PORT);
    tcp_bind_netif(listener, &ends[1]);
    listener = tcp_listen(listener);
    tcp_accept(listener, accepted);
    client = tcp_new();
    tcp_bind_netif(client, &ends[0]);
    tcp_nagle_disable(client);
    tcp_recv(client, got_stream);
    if (tcp_connect(client, &to, PORT, connected) != ERR_OK)
        goto failed;
    deliver();
    if (!server)
        goto failed;
    UNLOCK_TCPIP_CORE();
    return 0;
failed:
    UNLOCK_TCPIP_CORE();
    return -1;
}

/* Datagrams of `size` bytes, so many sent before the receiver has its turn: how many arrived. */
int64_t lwip_peer_udp(uint32_t size, uint32_t batch, int64_t count)
{
    int64_t done;
    uint32_t i;

    LOCK_TCPIP_CORE();
    arrived = 0;
    for (done = 0; done < count; done += batch) {
        for (i = 0; i < batch; i++) {
            struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)size, PBUF_RAM);
            memcpy(p->payload, data, size);
            udp_send(sender, p);
            pbuf_free(p);
        }
        deliver();
    }
    UNLOCK_TCPIP_CORE();
    return (int64_t)arrived;
}

/* A stream in writes of up to `write` bytes: the bytes that arrived. */
int64_t lwip_peer_bulk(uint32_t write, int64_t volume)
{
    int64_t sent = 0;
    long idle = 0;

    LOCK_TCPIP_CORE();
    arrived = 0;
    echo = 0;
    while ((int64_t)arrived < volume && idle < IDLE_ROUNDS) {
        uint64_t before = arrived;
        while (sent < volume) {
            uint32_t n = tcp_sndbuf(client), left = volume - sent < write ? (uint32_t)(volume - sent) : write;
            if (n > left)
                n = left;
            if (n > sizeof(data))
                n = sizeof(data);
            if (!n || tcp_write(client, data, (u16_t)(n > 0xffff ? 0xffff : n), TCP_WRITE_FLAG_COPY) != ERR_OK)
                break;
            sent += n > 0xffff ? 0xffff : n;
        }
        tcp_output(client);
        deliver();
        if (arrived == before) {        /* an ACK is delayed, say: the timers are due */
            idle++;
            sys_check_timeouts();
            deliver();
        }
    }
    UNLOCK_TCPIP_CORE();
    return (int64_t)arrived;
}

/* Requests and answers of `size` bytes: how many came back. */
int64_t lwip_peer_trips(uint32_t size, int64_t count)
{
    int64_t done;

    LOCK_TCPIP_CORE();
    echo = 1;
    for (done = 0; done < count; done++) {
        long idle = 0;
        answered = 0;
        if (tcp_write(client, data, (u16_t)size, TCP_WRITE_FLAG_COPY) != ERR_OK)
            break;
        tcp_output(client);
        for (deliver(); answered < size && idle < IDLE_ROUNDS; idle++) {
            sys_check_timeouts();
            deliver();
        }
        if (answered < size)
            break;
    }
    UNLOCK_TCPIP_CORE();
    return done;
}
