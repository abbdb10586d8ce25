/* SPDX-License-Identifier: GPL-2.0-only */
//! The contract between `record.bpf.c` and user space (`tuner/record/`): one record a demand.
#ifndef KEEPAHEAD_RECORD_H
#define KEEPAHEAD_RECORD_H

#define KA_RECORD_READ	    0
/* A page that was touched. */
#define KA_RECORD_FAULT	    1
/* As above, and the last KA_RECORD_MAP_PAGES of this thread was the same touch. */
#define KA_RECORD_FAULT_TOO 2
/* Pages of which one was touched, the others were mapped along with it. */
#define KA_RECORD_MAP_PAGES 3

/* Read word by word in tuner/record/touch.rs. */
struct ka_record {
	u64 at; /* CLOCK_MONOTONIC, ns */
	u64 ino;
	u64 offset;	/* bytes */
	u64 bytes;	/* within the file */
	u64 file_bytes; /* the file's size now */
	u32 dev; /* kernel's dev_t of the superblock; 0: `ino` is the dev_t of a block device */
	u32 pid;
	u32 tid;
	u32 kind;
};

/* What was not recorded, since the start. Added to atomically: it is written into the trace. */
struct ka_record_losses {
	u64 lost;	       /* no room in the ring buffer */
	u64 files_sampled_out; /* no further than the map of them reaches */
};

#endif
