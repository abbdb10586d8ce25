/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Adds up the bytes of its files, each read ahead of its turn: cc example.c $(pkg-config --cflags --libs keepahead) */
#include <fcntl.h>
#include <keepahead.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **paths) {
    keepahead *k = keepahead_open(NULL);
    int64_t work = keepahead_register(k, "example", 16 << 20, "shuffled", NULL, 0);
    int fd[count];
    for (int n = 1; n < count; n++) {
        fd[n] = open(paths[n], O_RDONLY);
        struct keepahead_range all = {.file = (uint64_t)keepahead_add_files(k, work, &fd[n], 1)};
        if (keepahead_plan(k, work, &all, 1) != 0)
            fprintf(stderr, "%s: %s\n", paths[n], keepahead_error(k));
    }
    static char data[1 << 16];
    for (int n = 1; n < count; n++) {
        unsigned sum = 0;
        keepahead_position(k, work, (uint64_t)n - 1, 0);
        for (ssize_t got; (got = read(fd[n], data, sizeof data)) > 0;)
            for (ssize_t i = 0; i < got; i++)
                sum += (unsigned char)data[i];
        printf("%u %s\n", sum, paths[n]);
    }
    keepahead_close(k);
}
