/* SPDX-License-Identifier: Apache-2.0
 *
 * Two hosts under a scheduler of this program: it decides what runs next, a timer of its own or what
 * the library has due. A client on one host sends a file to a server on the other. Their link has a
 * delay of 20 ms and loses a frame of fifty. The program looks at the transfer every 100 ms.
 *
 *     e1000emu capi --stack --out build/cstack
 *     cc two_hosts.c $(e1000emu capi --stack --out build/cstack --cflags --libs) -o two_hosts
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <e1000stack.h>

#define MS 1000000ull
#define FILE_BYTES 300000u
#define LOOK_EVERY (100 * MS)

static int check(int value, const char *what)
{
    if (value < 0) {
        fprintf(stderr, "%s: %s (%s)\n", what, strerror(errno), e1000stack_last_error());
        exit(1);
    }
    return value;
}
#define CHECK(call) check((call), #call)

/* One side of the transfer: it does what it can without waiting, and comes back. */
struct side {
    int host, fd;
    unsigned done;
};

static void run_client(struct side *me)
{
    static char data[8192];
    while (me->done < FILE_BYTES) {
        size_t left = FILE_BYTES - me->done;
        ssize_t n = e1000stack_write(me->host, me->fd, data, left < sizeof data ? left : sizeof data);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINPROGRESS)
                CHECK((int)n);
            return;
        }
        me->done += (unsigned)n;
        if (me->done == FILE_BYTES)
            CHECK(e1000stack_shutdown(me->host, me->fd, SHUT_WR));
    }
}

/* Returns 1 at the end of the file. */
static int run_server(struct side *me, int *listener)
{
    char data[8192];
    ssize_t n;
    if (me->fd < 0) {
        me->fd = e1000stack_accept4(me->host, *listener, NULL, NULL, SOCK_NONBLOCK);
        if (me->fd < 0)
            return 0;
    }
    while ((n = e1000stack_read(me->host, me->fd, data, sizeof data)) > 0)
        me->done += (unsigned)n;
    if (n < 0 && errno != EAGAIN)
        CHECK((int)n);
    return n == 0;
}

int main(void)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(5000)};
    struct e1000stack_link wire = {.delay_ns = 20 * MS, .loss = 0.02, .seed = 7};
    int clock = CHECK(e1000stack_clock(0));
    int a = CHECK(e1000stack_host(clock, "a")), b = CHECK(e1000stack_host(clock, "b"));
    struct side client = {.host = a}, server = {.host = b, .fd = -1};
    uint64_t look = LOOK_EVERY, now = 0, when;
    int listener, ended = 0;

    CHECK(e1000stack_link(a, "eth0", b, "eth0", &wire));
    CHECK(e1000stack_addr(a, "eth0", "10.0.0.1/24"));
    CHECK(e1000stack_addr(b, "eth0", "10.0.0.2/24"));
    inet_pton(AF_INET, "10.0.0.2", &there.sin_addr);
    listener = CHECK(e1000stack_socket(b, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    CHECK(e1000stack_bind(b, listener, (struct sockaddr *)&there, sizeof there));
    CHECK(e1000stack_listen(b, listener, 1));
    client.fd = CHECK(e1000stack_socket(a, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (e1000stack_connect(a, client.fd, (struct sockaddr *)&there, sizeof there) < 0 &&
        errno != EINPROGRESS)
        CHECK(-1);

    while (!ended) {
        run_client(&client);
        ended = run_server(&server, &listener);
        if (e1000stack_next(clock, &when) < 0)
            when = UINT64_MAX; /* only this program has something to do */
        if (look <= when) {
            CHECK(e1000stack_run_until(clock, look));
            printf("%4llu ms: %u bytes\n", (unsigned long long)(look / MS), server.done);
            look += LOOK_EVERY;
        } else {
            CHECK(e1000stack_run_until(clock, when));
        }
        CHECK(e1000stack_now(clock, &now));
    }
    printf("%u bytes in %llu ms\n", server.done, (unsigned long long)(now / MS));
    CHECK(e1000stack_clock_close(clock));
    return server.done == FILE_BYTES ? 0 : 1;
}
