/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Takes an open file, gives whether anything can be read ahead for it. */
#ifndef KEEPAHEAD_DISK_H
#define KEEPAHEAD_DISK_H

#include <linux/magic.h>
#include <stddef.h>
#include <sys/vfs.h>

/* File systems that have no disk behind their page cache: the agent refuses them, and what it refuses makes the numbers of the
 * files that are opened in the next moment wrong. */
static int has_a_disk(int fd)
{
    static const unsigned long without[] = {TMPFS_MAGIC, RAMFS_MAGIC, HUGETLBFS_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC};
    struct statfs system;
    int has = fstatfs(fd, &system) == 0;
    for (size_t n = 0; has && n < sizeof without / sizeof *without; n++)
        has = (unsigned long)system.f_type != without[n];
    return has;
}

#endif
