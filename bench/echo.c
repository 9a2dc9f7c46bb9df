/*
 * The floor of a request and its reply: a C epoll server on a Unix socket that answers every line with the same bytes.
 *
 *     echo SOCKET REPLY_FILE
 *
 * One recv and one send per turn of a connection, however many lines came: nothing that reads lines and answers them
 * over the same socket calls can be faster. Ends with its parent, or at SIGTERM.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BATCH 64

static void send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            return; /* the peer is gone; the next recv says so */
        }
        data += sent;
        size -= (size_t)sent;
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "want SOCKET REPLY_FILE");
    prctl(PR_SET_PDEATHSIG, SIGKILL);

    int file = open(argv[2], O_RDONLY);
    struct stat info;
    if (file < 0 || fstat(file, &info) < 0 || info.st_size == 0)
        err(1, "%s", argv[2]);
    size_t size = (size_t)info.st_size;
    char *replies = malloc(size * BATCH);
    if (!replies || read(file, replies, size) != info.st_size)
        err(1, "%s", argv[2]);
    close(file);
    for (int i = 1; i < BATCH; i++)
        memcpy(replies + (size_t)i * size, replies, size);

    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(argv[1]) >= sizeof address.sun_path)
        errx(2, "the path of the socket is too long");
    strcpy(address.sun_path, argv[1]);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 128) < 0)
        err(1, "%s", argv[1]);

    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
        err(1, "epoll");

    static char buffer[65536];
    struct epoll_event events[64];
    for (;;) {
        int ready = epoll_wait(poller, events, 64, -1);
        if (ready < 0) {
            if (errno == EINTR)
                continue;
            err(1, "epoll_wait");
        }
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (peer < 0)
                    continue;
                event.events = EPOLLIN;
                event.data.fd = peer;
                if (epoll_ctl(poller, EPOLL_CTL_ADD, peer, &event) < 0)
                    close(peer);
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            if (got <= 0) {
                close(fd);
                continue;
            }
            size_t lines = 0;
            char *at = buffer, *end = buffer + got;
            while ((at = memchr(at, '\n', (size_t)(end - at)))) {
                lines++;
                at++;
            }
            while (lines > 0) {
                size_t some = lines < BATCH ? lines : BATCH;
                send_all(fd, replies, some * size);
                lines -= some;
            }
        }
    }
}
