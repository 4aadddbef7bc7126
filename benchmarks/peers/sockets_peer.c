/* The kernel's sockets from C: what UDP and TCP cost without Python, over whatever the two ends are connected by.
 *
 * Both ends are worked by the calling thread. Compiled as a shared object and called by rows/kernel.py; a function
 * returns what arrived, or -1 with the error in errno. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static uint8_t data[1 << 20], room[1 << 20];

/* One send() and one recv() for each datagram. */
int64_t udp_each(int tx, int rx, uint32_t size, int64_t count)
{
    int64_t done;
    for (done = 0; done < count; done++)
        if (send(tx, data, size, 0) != (ssize_t)size || recv(rx, room, sizeof(room), 0) != (ssize_t)size)
            return -1;
    return done;
}

/* `batch` datagrams for each sendmmsg() and recvmmsg(). */
int64_t udp_mmsg(int tx, int rx, uint32_t size, uint32_t batch, int64_t count)
{
    struct mmsghdr *out = calloc(batch, sizeof(*out)), *in = calloc(batch, sizeof(*in));
    struct iovec from = {data, size}, *to = calloc(batch, sizeof(*to));
    uint8_t *rooms = malloc((size_t)batch * size);
    int64_t done = 0;
    uint32_t i;

    for (i = 0; i < batch; i++) {
        to[i] = (struct iovec){rooms + (size_t)i * size, size};
        out[i].msg_hdr.msg_iov = &from;
        in[i].msg_hdr.msg_iov = &to[i];
        out[i].msg_hdr.msg_iovlen = in[i].msg_hdr.msg_iovlen = 1;
    }
    while (done < count) {
        int sent, got;
        for (sent = 0; sent < (int)batch;) {
            int n = sendmmsg(tx, out + sent, batch - sent, 0);
            if (n <= 0)
                goto failed;
            sent += n;
        }
        for (got = 0; got < (int)batch;) {
            int n = recvmmsg(rx, in + got, batch - got, MSG_WAITFORONE, NULL);
            if (n <= 0)
                goto failed;
            got += n;
        }
        done += batch;
    }
    goto out;
failed:
    done = -1;
out:
    free(out);
    free(in);
    free(to);
    free(rooms);
    return done;
}

/* `segments` datagrams for each send(), by UDP_SEGMENT; the receiver takes what UDP_GRO merged. */
int64_t udp_gso(int tx, int rx, uint32_t size, uint32_t segments, int64_t count)
{
    int cut = (int)size, on = 1;
    int64_t done = 0;
    size_t whole = (size_t)size * segments;

    if (setsockopt(tx, IPPROTO_UDP, UDP_SEGMENT, &cut, sizeof(cut)) ||
        setsockopt(rx, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)))
        return -1;
    while (done < count) {
        size_t got = 0;
        if (send(tx, data, whole, 0) != (ssize_t)whole)
            return -1;
        while (got < whole) {
            ssize_t n = recv(rx, room, sizeof(room), 0);
            if (n <= 0)
                return -1;
            got += (size_t)n;
        }
        done += segments;
    }
    return done;
}

/* A stream in writes of `write` bytes: the sender, which does not block, goes first. */
int64_t tcp_bulk(int tx, int rx, uint32_t write, int64_t volume)
{
    int64_t sent = 0, got = 0;

    while (got < volume) {
        ssize_t n;
        while (sent < volume) {
            size_t rest = (size_t)(volume - sent);
            n = send(tx, data, rest < write ? rest : write, MSG_DONTWAIT);
            if (n < 0 && errno != EAGAIN)
                return -1;
            if (n < 0)
                break;
            sent += n;
        }
        n = recv(rx, room, sizeof(room), 0);
        if (n <= 0)
            return -1;
        got += n;
    }
    return got;
}

static int all(int fd, uint32_t size)
{
    uint32_t got;
    ssize_t n;
    for (got = 0; got < size; got += (uint32_t)n)
        if ((n = recv(fd, room, size - got, 0)) <= 0)
            return -1;
    return 0;
}

/* Requests and answers of `size` bytes, one after the other. */
int64_t tcp_trips(int a, int b, uint32_t size, int64_t count)
{
    int64_t done;
    for (done = 0; done < count; done++)
        if (send(a, data, size, 0) != (ssize_t)size || all(b, size) || send(b, data, size, 0) != (ssize_t)size ||
            all(a, size))
            return -1;
    return done;
}

/* Connections opened, accepted and closed at both ends. `address` is what getsockname() of the listener said. */
int64_t tcp_connects(int listener, int64_t count)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    int64_t done;

    if (getsockname(listener, (struct sockaddr *)&address, &length))
        return -1;
    for (done = 0; done < count; done++) {
        int client = socket(address.ss_family, SOCK_STREAM, 0), server;
        if (client < 0 || connect(client, (struct sockaddr *)&address, length))
            return -1;
        server = accept(listener, NULL, NULL);
        if (server < 0)
            return -1;
        close(client);
        close(server);
    }
    return done;
}
