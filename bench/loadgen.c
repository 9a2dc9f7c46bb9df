/*
 * The load generator: sends one request over and over, checks every reply, and says how many came and how fast.
 *
 *     loadgen MODE ADDRESS CONNECTIONS DEPTH MILLISECONDS REQUEST_FILE EXPECTED_FILE FIRST
 *
 * ADDRESS is the path of a Unix socket, or a port of 127.0.0.1. Each connection sends DEPTH requests in one write and
 * waits for all their replies; the time of that turn is one sample. MODE says what a reply is:
 *   exact    the bytes of EXPECTED_FILE, each compared (our lines, and RESP)
 *   counted  a line that begins with EXPECTED_FILE; each '#' of the request is a number counted up from FIRST
 *   http     an HTTP reply of status 200 with a Content-Length, of EXPECTED_FILE as a decimal number if that is not
 *            empty; connected again whenever the server closes
 * A tenth of the time more is spent before the clock starts. At the end what was asked is waited for, and not counted.
 * Prints one line: replies all elapsed_ns p50_ns p99_ns cpu_ns next ("all" counts warm-up and end too; cpu_ns is the
 * generator's own over the whole run). Exits with 1 and a message if a reply is wrong or none comes for ten seconds.
 */
#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum mode { EXACT, COUNTED, HTTP };

struct connection {
    int fd;
    int awaited;        /* replies still to come in this turn */
    int64_t since;      /* when this turn began */
    size_t position;    /* exact: bytes of the present reply that came; http: bytes of the body still to come */
    size_t held;        /* bytes kept of a line or header that is not whole yet */
    int in_body;
    int closes;
    char *kept;
};

#define KEPT 65536

static enum mode mode;
static const char *address;
static int connections, depth, poller;
static char *request, *expected;
static size_t request_size, expected_size;
static long next_number, content_length = -1;
static struct connection *table;
static char *outgoing;
static size_t outgoing_size, outgoing_room;
static char incoming[262144];

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static char *whole_file(const char *path, size_t *size)
{
    struct stat info;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &info) < 0)
        err(1, "%s", path);
    char *data = malloc((size_t)info.st_size + 1);
    if (!data || read(fd, data, (size_t)info.st_size) != info.st_size)
        err(1, "%s", path);
    data[info.st_size] = 0;
    *size = (size_t)info.st_size;
    close(fd);
    return data;
}

static void connect_again(struct connection *one)
{
    char *end;
    long port = strtol(address, &end, 10);
    int fd;
    if (!*end) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
            err(1, "connect to port %ld", port);
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    } else {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        if (strlen(address) >= sizeof to.sun_path)
            errx(2, "the path of the socket is too long");
        strcpy(to.sun_path, address);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
            err(1, "connect to %s", address);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        err(1, "epoll_ctl");
    one->fd = fd;
    one->position = one->held = 0;
    one->in_body = one->closes = 0;
}

static void put(const char *data, size_t size)
{
    if (outgoing_size + size > outgoing_room) {
        outgoing_room = 2 * (outgoing_size + size);
        outgoing = realloc(outgoing, outgoing_room);
        if (!outgoing)
            err(1, "realloc");
    }
    memcpy(outgoing + outgoing_size, data, size);
    outgoing_size += size;
}

static void send_turn(struct connection *one, int64_t at)
{
    if (mode == COUNTED) {
        outgoing_size = 0;
        for (int i = 0; i < depth; i++) {
            char number[24];
            int digits = snprintf(number, sizeof number, "%ld", next_number++);
            const char *from = request, *mark;
            while ((mark = strchr(from, '#'))) {
                put(from, (size_t)(mark - from));
                put(number, (size_t)digits);
                from = mark + 1;
            }
            put(from, strlen(from));
        }
    }
    one->awaited = depth;
    one->since = at;
    const char *data = outgoing;
    size_t size = outgoing_size;
    while (size > 0) {
        ssize_t sent = send(one->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            err(1, "send");
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void wrong(const char *what, const char *data, size_t size)
{
    fprintf(stderr, "loadgen: %s: %.*s\n", what, (int)(size < 300 ? size : 300), data);
    exit(1);
}

static int take_exact(struct connection *one, const char *data, size_t size)
{
    int replies = 0;
    while (size > 0) {
        size_t some = expected_size - one->position;
        if (some > size)
            some = size;
        if (memcmp(data, expected + one->position, some) != 0)
            wrong("not the reply that was expected", data, size);
        data += some;
        size -= some;
        one->position += some;
        if (one->position == expected_size) {
            one->position = 0;
            replies++;
        }
    }
    return replies;
}

static int take_lines(struct connection *one, const char *data, size_t size)
{
    int replies = 0;
    while (size > 0) {
        const char *end = memchr(data, '\n', size);
        size_t some = end ? (size_t)(end - data) + 1 : size;
        if (one->held < expected_size) { /* only the beginning is kept and compared */
            size_t room = expected_size - one->held, first = some < room ? some : room;
            if (memcmp(data, expected + one->held, first) != 0)
                wrong("not the reply that was expected", data, size);
        }
        one->held += some;
        if (end) {
            if (one->held < expected_size)
                wrong("a reply is too short", data, some);
            one->held = 0;
            replies++;
        }
        data += some;
        size -= some;
    }
    return replies;
}

static const char *field(const char *header, const char *name)
{
    const char *at = strcasestr(header, name);
    if (!at)
        return NULL;
    at += strlen(name);
    while (*at == ' ')
        at++;
    return at;
}

static int take_http(struct connection *one, const char *data, size_t size)
{
    int replies = 0;
    while (size > 0) {
        if (!one->in_body) {
            size_t room = KEPT - 1 - one->held, some = size < room ? size : room;
            memcpy(one->kept + one->held, data, some);
            one->kept[one->held + some] = 0;
            char *end = strstr(one->kept, "\r\n\r\n");
            if (!end) {
                if (one->held + some == KEPT - 1)
                    wrong("a header without end", one->kept, KEPT - 1);
                one->held += some;
                return replies;
            }
            size_t used = (size_t)(end + 4 - one->kept) - one->held;
            end[2] = 0;
            if (strncmp(one->kept, "HTTP/1.", 7) != 0 || strncmp(one->kept + 8, " 200 ", 5) != 0)
                wrong("not a reply of status 200", one->kept, strlen(one->kept));
            const char *length = field(one->kept, "\r\nContent-Length:");
            const char *connection = field(one->kept, "\r\nConnection:");
            if (!length || !isdigit((unsigned char)*length))
                wrong("a reply without Content-Length", one->kept, strlen(one->kept));
            one->position = strtoul(length, NULL, 10);
            if (content_length < 0)
                content_length = (long)one->position;
            if ((long)one->position != content_length || content_length == 0)
                wrong("a reply of another length", one->kept, strlen(one->kept));
            one->closes = connection ? !strncasecmp(connection, "close", 5) : one->kept[7] == '0';
            one->in_body = 1;
            one->held = 0;
            data += used;
            size -= used;
            continue;
        }
        size_t some = size < one->position ? size : one->position;
        data += some;
        size -= some;
        one->position -= some;
        if (one->position == 0) {
            one->in_body = 0;
            replies++;
        }
    }
    return replies;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 9)
        errx(2, "want MODE ADDRESS CONNECTIONS DEPTH MILLISECONDS REQUEST_FILE EXPECTED_FILE FIRST");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!strcmp(argv[1], "exact"))
        mode = EXACT;
    else if (!strcmp(argv[1], "counted"))
        mode = COUNTED;
    else if (!strcmp(argv[1], "http"))
        mode = HTTP;
    else
        errx(2, "want exact, counted or http, got %s", argv[1]);
    address = argv[2];
    connections = atoi(argv[3]);
    depth = atoi(argv[4]);
    long milliseconds = atol(argv[5]);
    request = whole_file(argv[6], &request_size);
    expected = whole_file(argv[7], &expected_size);
    next_number = atol(argv[8]);
    if (connections < 1 || depth < 1 || milliseconds < 1 || request_size == 0 || (mode == EXACT && expected_size == 0))
        errx(2, "want counts of at least 1, a request and, for exact, a reply");
    if (mode == HTTP && expected_size > 0)
        content_length = atol(expected);
    alarm((unsigned)(milliseconds / 1000) + 60);

    poller = epoll_create1(EPOLL_CLOEXEC);
    table = calloc((size_t)connections, sizeof *table);
    size_t samples_room = 65536, samples = 0;
    uint32_t *sample = malloc(samples_room * sizeof *sample);
    struct epoll_event *events = calloc((size_t)connections, sizeof *events);
    if (poller < 0 || !table || !sample || !events)
        err(1, "start");
    for (int i = 0; i < depth && mode != COUNTED; i++)
        put(request, request_size);
    for (int i = 0; i < connections; i++) {
        if (mode == HTTP && !(table[i].kept = malloc(KEPT)))
            err(1, "malloc");
        connect_again(&table[i]);
    }

    int64_t begun = now(), length = (int64_t)milliseconds * 1000000, counting = begun + length / 10;
    int64_t deadline = counting + length, limit = deadline + 10000000000;
    int64_t at = begun, first = 0, last = 0;
    uint64_t replies = 0, all = 0;
    int open = connections;
    for (int i = 0; i < connections; i++)
        send_turn(&table[i], at);
    while (open > 0) {
        int ready = epoll_wait(poller, events, connections, 10000);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            errx(1, "no reply for ten seconds");
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            ssize_t got = recv(one->fd, incoming, sizeof incoming, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            if (got < 0)
                err(1, "recv");
            if (got == 0)
                errx(1, "the server closed the connection with %d replies to come", one->awaited);
            int came = mode == EXACT ? take_exact(one, incoming, (size_t)got)
                     : mode == COUNTED ? take_lines(one, incoming, (size_t)got)
                                       : take_http(one, incoming, (size_t)got);
            if (came > one->awaited)
                errx(1, "more replies than requests");
            one->awaited -= came;
            at = now();
            all += (uint64_t)came;
            if (at >= deadline && samples < 2 && at < limit)
                deadline = at + length; /* a slow server: stay until there is something to tell */
            if (at >= counting && at < deadline) {
                if (!first)
                    first = at; /* what came with this turn was begun before: the clock starts here */
                else {
                    replies += (uint64_t)came;
                    last = at;
                    if (came && one->awaited == 0) {
                        if (samples == samples_room) {
                            samples_room *= 2;
                            sample = realloc(sample, samples_room * sizeof *sample);
                            if (!sample)
                                err(1, "realloc");
                        }
                        int64_t took = at - one->since;
                        sample[samples++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
                    }
                }
            }
            if (one->awaited == 0) {
                if (one->closes) {
                    close(one->fd);
                    if (at < deadline)
                        connect_again(one);
                }
                if (at < deadline)
                    send_turn(one, at);
                else
                    open--;
            } else if (one->closes && came)
                errx(1, "the server closes with %d replies to come", one->awaited);
        }
    }
    if (samples == 0 || last <= first)
        errx(1, "too few replies in %ld ms", milliseconds);
    qsort(sample, samples, sizeof *sample, ascending);
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    printf("replies=%llu all=%llu elapsed_ns=%lld p50_ns=%u p99_ns=%u cpu_ns=%lld next=%ld\n",
           (unsigned long long)replies, (unsigned long long)all, (long long)(last - first), sample[samples / 2],
           sample[(size_t)((double)samples * 0.99)], (long long)cpu.tv_sec * 1000000000 + cpu.tv_nsec, next_number);
    return 0;
}
