/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * LD_PRELOAD shim: hands the files that an unchanged program opens for reading to keepahead. Takes open(2) and its kin, gives what
 * they give; the agent learns of regular files of a size that pays, by a descriptor that is sent, never duplicated (closing a
 * duplicate would drop the program's fcntl locks).
 *
 * It may run anywhere open(2) may: in a signal handler, between fork and exec, in threads. So: no allocation, no stdio, no lock that
 * is waited for (a file that meets another thread here is left out), the program's errno kept, and the socket is looked at before
 * each use, because a program may have closed it and got the same number for a file of its own.
 *
 * Environment: KEEPAHEAD_PRELOAD_MATCH, _HINT, _MIN_KIB, _BUDGET_MIB (docs/clients.md), KEEPAHEAD_SOCKET, KEEPAHEAD_QUIET.
 */
#define _GNU_SOURCE
#include "line.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void opened(int fd, int flags)
{
    if (fd >= 0 && (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_PATH | O_DIRECT | O_DIRECTORY)))
        line_opened(fd);
}

static int takes_mode(int flags)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

#define REAL(type, name, arguments)                                                                                            \
    static type(*real_##name) arguments;                                                                                      \
    __attribute__((constructor(101))) static void find_##name(void)                                                           \
    {                                                                                                                          \
        if (!real_##name)                                                                                                      \
            *(void **)&real_##name = dlsym(RTLD_NEXT, #name);                                                                  \
    }

#define OPEN(name)                                                                                                             \
    REAL(int, name, (const char *, int, ...))                                                                                  \
    int name(const char *path, int flags, ...)                                                                                 \
    {                                                                                                                          \
        va_list more;                                                                                                          \
        va_start(more, flags);                                                                                                 \
        mode_t mode = takes_mode(flags) ? va_arg(more, mode_t) : 0;                                                            \
        va_end(more);                                                                                                          \
        find_##name();                                                                                                         \
        int fd = real_##name(path, flags, mode);                                                                               \
        opened(fd, flags);                                                                                                     \
        return fd;                                                                                                             \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                           \
    REAL(int, name, (int, const char *, int, ...))                                                                             \
    int name(int dir, const char *path, int flags, ...)                                                                        \
    {                                                                                                                          \
        va_list more;                                                                                                          \
        va_start(more, flags);                                                                                                 \
        mode_t mode = takes_mode(flags) ? va_arg(more, mode_t) : 0;                                                            \
        va_end(more);                                                                                                          \
        find_##name();                                                                                                         \
        int fd = real_##name(dir, path, flags, mode);                                                                          \
        opened(fd, flags);                                                                                                     \
        return fd;                                                                                                             \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                                                            \
    REAL(FILE *, name, (const char *, const char *))                                                                           \
    FILE *name(const char *path, const char *mode)                                                                             \
    {                                                                                                                          \
        find_##name();                                                                                                         \
        FILE *file = real_##name(path, mode);                                                                                  \
        if (file && mode[0] == 'r' && !strchr(mode, '+'))                                                                      \
            opened(fileno(file), O_RDONLY);                                                                                    \
        return file;                                                                                                           \
    }
FOPEN(fopen)
FOPEN(fopen64)

REAL(int, close, (int))
/* A program that closes all numbers, as daemons do, is told what it would have heard without us. */
int close(int fd)
{
    find_close();
    if (line_is(fd)) {
        errno = EBADF;
        return -1;
    }
    return real_close(fd);
}
