/* Join two TAP devices: what the kernel sends out of one is written into the other.
 *
 *     tap_pump [-p] NAME NAME
 *
 * Makes both, asks for virtio-net headers and every offload that the kernel grants, so that
 * super-packets cross whole (-p: plain frames), prints "ready" and pumps until it is killed. It stands where our own
 * process stands when a TAP is its link: one thread, one read and one write for each packet.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BATCH 256 /* as Tap's batch_frames */

static const unsigned offloads[] = {
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | 0x20 | 0x40, /* USO: Linux 6.2 */
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
    TUN_F_CSUM,
};

static int open_tap(const char *name, int plain)
{
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    size_t i;

    if (fd < 0)
        return -1;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | (plain ? 0 : IFF_VNET_HDR);
    if (ioctl(fd, TUNSETIFF, &request))
        return -1;
    for (i = 0; !plain && i < sizeof offloads / sizeof *offloads; i++)
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads[i]) == 0)
            break;
    return fd;
}

static void pump(int from, int to)
{
    static char packet[1 << 17];
    int i;

    for (i = 0; i < BATCH; i++) {
        ssize_t got = read(from, packet, sizeof packet);

        if (got <= 0)
            return;
        while (write(to, packet, got) < 0 && errno == EINTR)
            ;
    }
}

int main(int argc, char **argv)
{
    struct pollfd taps[2];
    int i, plain = argc > 1 && !strcmp(argv[1], "-p");

    argv += plain;
    if (argc - plain != 3)
        return 2;
    for (i = 0; i < 2; i++) {
        taps[i].fd = open_tap(argv[1 + i], plain);
        taps[i].events = POLLIN;
        if (taps[i].fd < 0) {
            perror(argv[1 + i]);
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        if (poll(taps, 2, -1) < 0 && errno != EINTR)
            return 1;
        for (i = 0; i < 2; i++)
            if (taps[i].revents & POLLIN)
                pump(taps[i].fd, taps[1 - i].fd);
            else if (taps[i].revents)
                usleep(1000); /* a device that is down */
    }
}
