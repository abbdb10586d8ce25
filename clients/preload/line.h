/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The shim's line to the agent, and what of it the intercepted calls need. */
#ifndef KEEPAHEAD_LINE_H
#define KEEPAHEAD_LINE_H

/* The program has opened a file for reading. errno is kept. */
void line_opened(int fd);

/* Whether a descriptor is the line's own. */
int line_is(int fd);

#endif
