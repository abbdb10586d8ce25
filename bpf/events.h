/* SPDX-License-Identifier: GPL-2.0-only */
//! The contract between `events.bpf.c` and user space (`tuner/validate/recorder.rs`): one record an
//! event, 64 bytes.
#ifndef KEEPAHEAD_EVENTS_H
#define KEEPAHEAD_EVENTS_H

#include "kernel.h"

enum ka_event_kind {
	KA_SYNC_RA,
	KA_ASYNC_RA,
	KA_RA_ORDER,
	KA_RA_UNBOUNDED,
	KA_ADD,
	KA_DELETE,
	KA_FAULT,
	KA_MAP_PAGES
};

struct ka_event {
	u32 kind;
	u32 tgid; /* who caused it: reclaim and readers from elsewhere are noise */
	u64 ino;
	u64 index;
	u64 count; /* sync, async: req_count; unbounded: nr_to_read; map_pages: last page */
	u64 start; /* sync, async: file_ra_state.start; unbounded: lookahead */
	s64 prev_pos;
	u32 size;
	u32 async_size;
	u32 ra_pages;
	u16 order;
	u16 mmap_miss;
};

#endif
