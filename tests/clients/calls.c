/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* calls SOCKET FILE: every call of libkeepahead with an agent and without, and the shim's patterns. FILE has 1 MiB. */
#include "glob.h"
#include "keepahead.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(is)                                                                                                              \
    do {                                                                                                                       \
        if (!(is)) {                                                                                                           \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #is);                                                           \
            exit(1);                                                                                                           \
        }                                                                                                                      \
    } while (0)

#define MANY 300

static void with_agent(const char *socket, const char *path)
{
    static struct keepahead_range ranges[MANY * 10];
    int fds[MANY], fd = open(path, O_RDONLY);
    for (int n = 0; n < MANY; n++)
        fds[n] = fd;
    for (int n = 0; n < MANY * 10; n++)
        ranges[n] = (struct keepahead_range){.file = (uint64_t)n % MANY, .length = 4096};
    keepahead *k = keepahead_open(socket);
    CHECK(keepahead_connected(k));
    int64_t work = keepahead_register(k, "quote \" backslash \\", 4 << 20, "sequential", fds, MANY);
    CHECK(work > 0);
    CHECK(keepahead_plan(k, work, ranges, MANY * 10) == 0);
    keepahead_position(k, work, 7, 0);
    const char *stats = keepahead_stats(k, work);
    CHECK(stats && stats[0] == '{' && stats[strlen(stats) - 1] == '}');
    CHECK(strstr(stats, "\"ranges_total\":3000") && strstr(stats, "\"position\":7") && strstr(stats, "\"files\":300"));
    struct keepahead_range all = {0};
    CHECK(keepahead_discard(k, work, &all, 1) >= 0);
    CHECK(keepahead_prefetch(k, work, &all, 1) == 1 << 20);
    CHECK(keepahead_add_files(k, work, &fd, 1) == MANY);
    all.file = 9999;
    CHECK(keepahead_plan(k, work, &all, 1) == -1 && strstr(keepahead_error(k), "NoSuchFile"));
    CHECK(keepahead_unregister(k, work) == 0);
    CHECK(keepahead_unregister(k, work) == -1);
    CHECK(keepahead_register(k, "x", 1, "often", NULL, 0) == -1 && strstr(keepahead_error(k), "often"));
    int null = open("/dev/null", O_RDONLY), none = 999;
    CHECK(keepahead_register(k, "x", 4096, NULL, &null, 1) == -1 && strstr(keepahead_error(k), "BadDescriptor"));
    CHECK(keepahead_register(k, "x", 4096, NULL, &none, 1) == -1 && keepahead_connected(k));
    pid_t child = fork();
    if (child == 0)
        _exit(keepahead_connected(k) || keepahead_register(k, "x", 4096, NULL, NULL, 0) != 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(keepahead_register(k, "x", 4096, NULL, NULL, 0) > 0);
    keepahead_close(k);
    close(fd);
}

static void without_agent(void)
{
    struct keepahead_range all = {0};
    keepahead *k = keepahead_open("/nonexistent");
    int fd = 0;
    CHECK(!keepahead_connected(k));
    CHECK(keepahead_register(k, "x", 1, NULL, &fd, 1) == 0 && keepahead_add_files(k, 0, &fd, 1) == 0);
    CHECK(keepahead_plan(k, 0, &all, 1) == 0 && keepahead_prefetch(k, 0, &all, 1) == 0 && keepahead_discard(k, 0, &all, 1) == 0);
    keepahead_position(k, 0, 0, 0);
    CHECK(!keepahead_stats(k, 0) && keepahead_unregister(k, 0) == 0 && keepahead_error(k)[0] == '\0');
    keepahead_close(k);
    keepahead_close(NULL);
}

static void patterns(void)
{
    CHECK(glob_any("*.safetensors", "/data/m.safetensors") && !glob_any("*.safetensors", "/data/m.safetensors.tmp"));
    CHECK(glob_any("/a/*:/b/*", "/b/c/d") && !glob_any("/a/*:/b/*", "/c/b/d"));
    CHECK(glob_any("/a?c", "/abc") && !glob_any("/a?c", "/ac"));
    CHECK(glob_any("/a\\*\\:\\\\", "/a*:\\") && !glob_any("/a\\*", "/ab"));
    CHECK(glob_any("*a*b*c", "xxaxxbxbxc") && !glob_any("*a*b*c", "xxaxxcxb"));
    CHECK(!glob_any("", "/a") && !glob_any(":", "/a") && glob_any(":*", "/a") && glob_any("*", ""));
}

int main(int count, char **arguments)
{
    CHECK(count == 3);
    patterns();
    without_agent();
    with_agent(arguments[1], arguments[2]);
    puts("all calls are right");
}
