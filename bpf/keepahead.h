/* SPDX-License-Identifier: GPL-2.0-only */
//! The contract between the BPF programs and user space (`tuner/sensor/`): layouts of map values,
//! sizes and hook-independent words.
//!
//! `struct ka_counters` mirrors `keepahead_core::sample::Counters` word for word; a test in user
//! space compares the sizes.
#ifndef KEEPAHEAD_H
#define KEEPAHEAD_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define KA_HIST_SLOTS 24
/* Most slots user space may ask for; the map is sized at load to the devices found and some
 * headroom. */
#define KA_MAX_SLOTS  256
/* Files that may count for themselves, see own_slots. */
#define KA_OWN_FILES  16384
/* Regions of one such file that are counted apart from the rest of it. */
#define KA_FILE_PARTS 8
#define KA_NAME_LEN   32

struct ka_counters {
	u64 read_requests;
	u64 read_pages;
	u64 read_miss;
	u64 read_late;
	u64 read_stall_ns;
	u64 faults;
	u64 mmap_pages;
	u64 mmap_miss;
	u64 mmap_late;
	u64 mmap_stall_ns;
	u64 mmap_think_ns;
	u64 spec_added;
	u64 spec_used;
	u64 spec_used_late;
	u64 spec_evicted;
	u64 spec_dropped;
	u64 sync_ra;
	u64 async_ra;
	u64 windows;
	u64 window_pages;
	u64 stale_windows;
	u64 seq_requests;
	u64 read_cuts;
	u64 read_cut_pages;
	u64 seq_faults;
	u64 mmap_cuts;
	u64 mmap_cut_pages;
	u64 read_turns;
	u64 mmap_turns;
	u64 dev_reads;
	u64 dev_read_bytes;
	u64 dev_read_ns;
	u64 events;
	u64 window_hist[KA_HIST_SLOTS];
	u64 read_run_hist[KA_HIST_SLOTS];
	u64 mmap_run_hist[KA_HIST_SLOTS];
	u64 jump_hist[KA_HIST_SLOTS];
	u64 request_hist[KA_HIST_SLOTS];
	u64 stall_hist[KA_HIST_SLOTS];
	u64 dev_latency_hist[KA_HIST_SLOTS];
	u64 dev_size_hist[KA_HIST_SLOTS];
	/* Later additions come last: journals hold counters by their position. */
	u64 read_fill_ns;
	u64 mmap_fill_ns;
};

/* Who owns a slot of `counters`. `id` never repeats while the kernel runs; `name` may. */
struct ka_bdi {
	u64 id;
	u64 ra_pages;
	char name[KA_NAME_LEN];
};

struct ka_file_key {
	u64 ino;
	u32 dev;
	u32 slot;
};

/* A file that counts for itself, apart from its device. */
struct ka_inode {
	u64 ino;
	u64 dev;
};

/* Regions of it whose faults are counted under slots of their own; `count` of them, pages. */
struct ka_parts {
	u64 count;
	u64 first[KA_FILE_PARTS];
	u64 last[KA_FILE_PARTS];
	u64 slot[KA_FILE_PARTS];
};

struct ka_file {
	u64 read_pages;
	u64 mmap_pages;
	u64 miss;
	u64 late;
	u64 stall_ns;
	u64 spec_added;
	u64 spec_used;
	u64 spec_evicted;
	u32 pid;
	u32 pad;
	char comm[16];
};

/* `slots`, `pending`: devices and chunks that found no room. `sampled`: events of the costly kind.
 */
struct ka_health {
	u64 slots;
	u64 pending;
	u64 sampled;
	u64 pending_made;
	u64 pending_gone;
};

/* Speculative pages of one 64-page chunk of a mapping that nobody demanded yet. */
struct ka_chunk_key {
	u64 mapping;
	u64 chunk;
};

struct ka_chunk {
	u64 bits;
	/* The value of `sample_word` that the entry was made under. */
	u64 sample;
};

#endif
