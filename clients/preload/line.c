/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The shim's line to the agent: takes the files that the program opened, hands over those that pay, without waiting for answers. */
#define _GNU_SOURCE
#include "line.h"
#include "disk.h"
#include "glob.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The agent holds a file open until its workload ends, so that a deleted one keeps its space: a new workload now and then. */
#define FILES_PER_WORKLOAD 1024
/* An agent that makes the program wait longer than this is given up for good. */
#define ANSWER_MS 200
/* Out of the way of programs that count on low numbers. */
#define LEAST_FD 600

/* Numbers that the agent gives in order: those it told of, and calls whose answer has not come. */
struct numbers {
    uint64_t told, awaited;
};

static struct {
    atomic_flag busy;
    int off;
    int fd;
    struct stat socket;
    pid_t pid;
    uint64_t workload;
    struct numbers files, ranges;
    /* Answers come in the order of the calls: whether the next is that to a Plan. */
    int plan_next;
    char reply[2048];
    size_t length;
} line = {.busy = ATOMIC_FLAG_INIT, .fd = -1};

static struct {
    const char *match, *hint, *socket;
    uint64_t least, budget;
    int plans;
    char name[49];
} config;

static uint64_t number_of(const char *name, uint64_t otherwise, unsigned shift)
{
    const char *text = getenv(name);
    char *end = NULL;
    unsigned long long n = text ? strtoull(text, &end, 10) : 0;
    return (text && *text && !*end && n <= UINT64_MAX >> shift ? n : otherwise) << shift;
}

/* Whether the number is still that of the line: a program may have closed it and got the same for a file of its own. */
static int is_ours(void)
{
    struct stat now, *then = &line.socket;
    return line.fd >= 0 && fstat(line.fd, &now) == 0 && now.st_ino == then->st_ino && now.st_dev == then->st_dev;
}

static void hang_up(void)
{
    int fd = line.fd;
    /* First, because the shim's close(2) keeps what is still the line's. */
    line.fd = -1;
    if (fd >= 0)
        close(fd);
}

static void after_fork(void)
{
    /* Another thread may have been here at the fork; the socket is the parent's. */
    if (is_ours())
        hang_up();
    line.fd = -1;
    line.pid = getpid();
    atomic_flag_clear(&line.busy);
}

static const char *copy_of(const char *text)
{
    return text && *text ? strdup(text) : NULL;
}

__attribute__((constructor)) static void start(void)
{
    /* Copies: programs that set their title write over the environment. */
    config.match = copy_of(getenv("KEEPAHEAD_PRELOAD_MATCH"));
    config.hint = copy_of(getenv("KEEPAHEAD_PRELOAD_HINT"));
    config.socket = copy_of(wire_socket_path());
    config.least = number_of("KEEPAHEAD_PRELOAD_MIN_KIB", 64, 10);
    config.budget = number_of("KEEPAHEAD_PRELOAD_BUDGET_MIB", 32, 20);
    /* A file that is read from its beginning can be read ahead as soon as it is opened. */
    config.plans = config.hint && strcmp(config.hint, "random") != 0 && strcmp(config.hint, "strided") != 0;
    const char *name = program_invocation_short_name;
    for (size_t n = 0; n + 1 < sizeof config.name && name[n]; n++)
        config.name[n] = name[n] >= ' ' && name[n] <= '~' ? name[n] : '?';
    line.pid = getpid();
    line.off = !config.socket || pthread_atfork(NULL, NULL, after_fork) != 0;
}

static void give_up(const char *reason)
{
    wire_say(config.socket, reason);
    line.off = 1;
}

/* One whole answer. */
static void answered(const char *reply)
{
    struct numbers *of = line.plan_next ? &line.ranges : &line.files;
    int64_t told = json_number(reply, line.plan_next ? "ranges_total" : "first");
    if (of->awaited > 0)
        of->awaited--;
    if (told >= 0)
        of->told = (uint64_t)told + (line.plan_next ? 0 : 1);
    line.plan_next = config.plans && !line.plan_next;
}

/* Takes what answers have come. 0, or -1 where the agent is gone. */
static int drain(void)
{
    for (;;) {
        if (line.length == sizeof line.reply)
            line.length = 0; /* The middle of an error's long text: of no use. */
        ptrdiff_t got = wire_receive(line.fd, line.reply + line.length, sizeof line.reply - line.length, 0);
        if (got <= 0)
            return got < 0 && errno == ETIMEDOUT ? 0 : -1;
        line.length += (size_t)got;
        char *end;
        while ((end = memchr(line.reply, '\0', line.length))) {
            answered(line.reply);
            size_t used = (size_t)(end - line.reply) + 1;
            line.length -= used;
            memmove(line.reply, end + 1, line.length);
        }
    }
}

static void of_workload(struct text *t, char *memory, size_t room, const char *method)
{
    text_begin(t, memory, room);
    text_call(t, method);
    text_add(t, "{\"workload\":");
    text_number(t, line.workload);
}

/* The text at a field, which ends the reply there; NULL where there is none. */
static char *text_of(char *reply, const char *name)
{
    char *at = (char *)json_field(reply, name);
    char *end = at && *at == '"' ? strchr(at + 1, '"') : NULL;
    if (!end)
        return NULL;
    *end = '\0';
    return at + 1;
}

/* Of a budget its limit, of anything else the answer as it came. */
static void refused(char *reply)
{
    char memory[320];
    struct text t;
    const char *parameter = json_field(reply, "parameter");
    int budget = parameter && strncmp(parameter, "\"budget_bytes\"", 14) == 0;
    const char *allowed = budget ? text_of(reply, "allowed") : NULL;
    text_begin(&t, memory, sizeof memory - 1);
    text_add(&t, "a budget of ");
    text_number(&t, config.budget >> 20);
    text_add(&t, " MiB (--budget-mib) is refused; allowed are, in bytes, ");
    text_add(&t, allowed ? allowed : "");
    memory[t.length] = '\0';
    give_up(allowed ? memory : reply);
}

/* Registers a workload. 0, or -1. */
static int begin(void)
{
    char memory[512];
    struct text t;
    text_begin(&t, memory, sizeof memory);
    text_call(&t, "Register");
    text_add(&t, "{\"name\":");
    text_string(&t, config.name);
    text_add(&t, ",\"budget_bytes\":");
    text_number(&t, config.budget);
    if (config.hint) {
        text_add(&t, ",\"hint\":");
        text_string(&t, config.hint);
    }
    text_add(&t, "}");
    text_end(&t, 0);
    if (t.cut || wire_send(line.fd, t.at, t.length, NULL, 0, ANSWER_MS) != 0)
        return -1;
    for (size_t length = 0, most = sizeof line.reply - 1; length < most;) {
        ptrdiff_t got = wire_receive(line.fd, line.reply + length, most - length, ANSWER_MS);
        if (got <= 0)
            return -1;
        length += (size_t)got;
        line.reply[length] = '\0';
        if (line.reply[length - 1] == '\0')
            break;
    }
    int64_t workload = json_number(line.reply, "workload");
    if (workload < 0) {
        refused(line.reply);
        return -1;
    }
    line.workload = (uint64_t)workload;
    line.files = line.ranges = (struct numbers){0, 0};
    line.plan_next = 0;
    line.length = 0;
    return 0;
}

/* A connection with a workload that has room. 0, or -1. */
static int ready(void)
{
    if (!is_ours())
        line.fd = -1;
    /* The old connection takes its workload and the files that the agent holds with it. */
    if (line.fd >= 0 && line.files.told + line.files.awaited >= FILES_PER_WORKLOAD)
        hang_up();
    if (line.fd >= 0)
        return 0;
    int low = wire_connect(config.socket, ANSWER_MS);
    if (low < 0) {
        give_up(strerror(errno));
        return -1;
    }
    int high = fcntl(low, F_DUPFD_CLOEXEC, LEAST_FD);
    line.fd = high >= 0 ? high : low;
    if (high >= 0)
        close(low);
    if (fstat(line.fd, &line.socket) == 0 && begin() == 0)
        return 0;
    if (!line.off)
        give_up("no answer");
    hang_up();
    return -1;
}

/* The file, and what of it is read first. */
static void tell(int fd, uint64_t size)
{
    if (ready() != 0)
        return;
    char memory[512];
    struct text t;
    errno = 0;
    of_workload(&t, memory, sizeof memory, "AddFiles");
    text_add(&t, "}");
    text_end(&t, 0);
    int told = wire_send(line.fd, t.at, t.length, &fd, 1, ANSWER_MS);
    uint64_t file = line.files.told + line.files.awaited++;
    if (told == 0 && config.plans) {
        of_workload(&t, memory, sizeof memory, "Plan");
        text_add(&t, ",\"ranges\":[{\"file\":");
        text_number(&t, file);
        text_add(&t, ",\"offset\":0,\"length\":");
        text_number(&t, size < config.budget ? size : config.budget);
        text_add(&t, "}]}");
        text_end(&t, 0);
        text_call(&t, "Position");
        text_add(&t, "{\"workload\":");
        text_number(&t, line.workload);
        text_add(&t, ",\"range\":");
        text_number(&t, line.ranges.told + line.ranges.awaited++);
        text_add(&t, "}");
        text_end(&t, 1);
        told = wire_send(line.fd, t.at, t.length, NULL, 0, ANSWER_MS);
    }
    if (told != 0 || drain() != 0) {
        give_up(errno ? strerror(errno) : "the agent has gone");
        hang_up();
    }
}

static int wanted(int fd, struct stat *file)
{
    if (fstat(fd, file) != 0 || !S_ISREG(file->st_mode) || file->st_size < (off_t)config.least || !has_a_disk(fd))
        return 0;
    if (!config.match)
        return 1;
    char link[40], path[4096];
    struct text t;
    text_begin(&t, link, sizeof link - 1);
    text_add(&t, "/proc/self/fd/");
    text_number(&t, (uint64_t)fd);
    link[t.length] = '\0';
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = '\0';
    return glob_any(config.match, path);
}

void line_opened(int fd)
{
    if (line.off)
        return;
    int before = errno;
    struct stat file;
    /* Another process id without after_fork: a vfork child, whose memory is its parent's. */
    if (line.pid == getpid() && wanted(fd, &file) && !atomic_flag_test_and_set(&line.busy)) {
        tell(fd, (uint64_t)file.st_size);
        atomic_flag_clear(&line.busy);
    }
    errno = before;
}

int line_is(int fd)
{
    return fd >= 0 && fd == line.fd && line.pid == getpid() && is_ours();
}
