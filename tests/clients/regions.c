/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* regions SOCKET FILE: hands a map of it over and says what the kernel knows of it. FILE has 1 MiB. */
#include "keepahead.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (1 << 20)

/* Until the mapping has the flag of VmFlags (proc(5)), or no longer has it. */
static void wait_for(void *mapped, const char *flag, int there)
{
    for (;; usleep(5000)) {
        char begins[32], line[1024];
        int here = 0, found = 0;
        snprintf(begins, sizeof begins, "%08lx-", (unsigned long)mapped);
        FILE *smaps = fopen("/proc/self/smaps", "r");
        while (smaps && fgets(line, sizeof line, smaps)) {
            here |= strncmp(line, begins, strlen(begins)) == 0;
            if (here && strncmp(line, "VmFlags:", 8) == 0) {
                found = strstr(line, flag) != NULL;
                break;
            }
        }
        if (smaps)
            fclose(smaps);
        if (found == there)
            return;
    }
}

static void say(const char *what)
{
    puts(what);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    int fd = open(arguments[2], O_RDONLY);
    void *mapped = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
    keepahead *k = keepahead_open(arguments[1]);
    int64_t work = keepahead_register(k, "regions", BYTES, NULL, &fd, 1);
    if (mapped == MAP_FAILED || keepahead_add_region(k, work, mapped, BYTES, 0, 0) != 0)
        return 3;
    if (keepahead_add_region(k, work, mapped, BYTES, 7, 0) != -1 || !strstr(keepahead_error(k), "NoSuchFile"))
        return 4;
    say("ready");
    wait_for(mapped, " rr ", 1);
    say("advised");
    if (keepahead_remove_region(k, work, 0) != 0)
        return 5;
    wait_for(mapped, " rr ", 0);
    int64_t second = keepahead_add_region(k, work, mapped, BYTES, 0, 0);
    say("closed");
    wait_for(mapped, " sr ", 1);
    keepahead_close(k);
    wait_for(mapped, " sr ", 0);
    keepahead *nobody = keepahead_open("/nonexistent");
    if (second != 1 || keepahead_add_region(nobody, 0, mapped, BYTES, 0, 0) != 0 || keepahead_remove_region(nobody, 0, 0) != 0)
        return 6;
    keepahead_close(nobody);
    say("scanned");
}
