/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Takes patterns and a path, gives whether one fits. fnmatch(3) may allocate, which is not allowed inside open(2). */
#ifndef KEEPAHEAD_GLOB_H
#define KEEPAHEAD_GLOB_H

/* Whether the pattern that ends at ':' or NUL fits all of the text. `*` is any run, slashes too; `?` one byte; `\` makes the next
 * one plain. */
static int glob_one(const char *pattern, const char *text)
{
    const char *star = 0, *resume = 0;
    for (;;) {
        int end = *pattern == '\0' || *pattern == ':';
        if (*pattern == '*') {
            star = ++pattern;
            resume = text;
            continue;
        }
        if (end && !*text)
            return 1;
        const char *plain = pattern + (*pattern == '\\' && pattern[1]);
        if (!end && *text && (*pattern == '?' || *plain == *text)) {
            pattern = plain + 1;
            text++;
        } else if (star && *resume) {
            /* The last star takes one byte more. */
            pattern = star;
            text = ++resume;
        } else {
            return 0;
        }
    }
}

/* Whether one of the patterns, with colons between, fits. */
static int glob_any(const char *patterns, const char *text)
{
    for (;;) {
        if (*patterns && *patterns != ':' && glob_one(patterns, text))
            return 1;
        for (; *patterns && *patterns != ':'; patterns++)
            if (*patterns == '\\' && patterns[1])
                patterns++;
        if (!*patterns)
            return 0;
        patterns++;
    }
}

#endif
