/* SPDX-License-Identifier: GPL-2.0-only */
//! Maps, settings and the small operations on them that every hook shares: counters of a bdi,
//! sampling, state of a task.
#ifndef KEEPAHEAD_MAPS_H
#define KEEPAHEAD_MAPS_H

#include "bdi.bpf.h"

/* Which chunks are in the sample for speculation: low byte the shift (one chunk in 2^shift), the
 * rest counts changes of the rate. One word, so that a program sees both or neither. Written by
 * user space. */
volatile u64 sample_word SEC(".data.sample")
= 0;
/* The same for the demand of each slot's reads, so that a device with a million cached reads a
 * second does not coarsen the counts of another: shifts only, since nothing is remembered under
 * them. Written by user space. */
volatile u8 demand_shifts[KA_MAX_SLOTS] SEC(".data.demand");
/* A random number for each run: whether a chunk is in the sample says nothing about what it holds.
 */
const volatile u64 seed;
const volatile u32 slots = 32;

/* What did not fit, and work done, since the start. Plain adds: a race loses a count of something
 * that is already an alarm. */
volatile struct ka_health health;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 32);
	__type(key, u32);
	__type(value, struct ka_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KA_MAX_SLOTS);
	__type(key, u64);
	__type(value, u32);
} bdi_slots SEC(".maps");

/* Slot to owner. A hash, because BPF_NOEXIST makes claiming a slot atomic on kernels without atomic
 * fetch (before 5.12). */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, KA_MAX_SLOTS);
	__type(key, u32);
	__type(value, struct ka_bdi);
} bdis SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ka_chunk_key);
	__type(value, struct ka_chunk);
} pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct ka_file_key);
	__type(value, struct ka_file);
} files SEC(".maps");

/* For `hist_add` alone, which knows the last slot. Global: the verifier looks at its branches once a
 * program, and not at all paths through three histograms for each state that a caller is in (0.14 s
 * instead of 0.24). */
__noinline u32 log2_slot(u64 v)
{
	u32 slot = 0;

	if (v >> 32)
		return 31;
	if (v >= 1 << 16) {
		slot += 16;
		v >>= 16;
	}
	if (v >= 1 << 8) {
		slot += 8;
		v >>= 8;
	}
	if (v >= 1 << 4) {
		slot += 4;
		v >>= 4;
	}
	if (v >= 1 << 2) {
		slot += 2;
		v >>= 2;
	}
	if (v >= 2)
		slot += 1;
	return slot;
}

static __always_inline void hist_add(u64 *hist, u64 value, u64 weight)
{
	u64 slot = log2_slot(value);

	/* The verifier knows nothing of what a global function returns, the compiler may. */
	barrier_var(slot);
	slot &= 31;
	hist[slot < KA_HIST_SLOTS ? slot : KA_HIST_SLOTS - 1] += weight;
}

static __always_inline u64 shift_of(u64 sample)
{
	return sample & 63;
}

/* Multiply-xorshift over (mapping, chunk, seed): three multiplications, no helper call, because
 * every cached read pays it. */
static __always_inline u64 sample_hash(u64 mapping, u64 chunk)
{
	u64 h = (mapping ^ seed) * 0x9e3779b97f4a7c15ULL ^ (chunk + 1) * 0xc2b2ae3d27d4eb4fULL;

	return (h ^ h >> 29) * 0xbf58476d1ce4e5b9ULL >> 40;
}

static __always_inline bool hash_in_sample(u64 hash, u64 shift)
{
	return (hash & ((1ULL << shift) - 1)) == 0;
}

static __always_inline bool in_sample(u64 sample, u64 mapping, u64 chunk)
{
	return hash_in_sample(sample_hash(mapping, chunk), shift_of(sample));
}

#define NO_SLOT ((u32)-1)

static __noinline u32 claim_slot(struct backing_dev_info *bdi)
{
	struct ka_bdi owner = {};
	u32 i, slot, *known;

	if (!bdi)
		return NO_SLOT;
	owner.id = BPF_CORE_READ(bdi, id);
	owner.ra_pages = BPF_CORE_READ(bdi, ra_pages);
	bpf_probe_read_kernel_str(owner.name, sizeof(owner.name),
				  __builtin_preserve_access_index(&bdi->dev_name));
	for (i = 0; i < KA_MAX_SLOTS; i++) { /* not by `slot`: its address is taken, so the verifier
						of 6.1 loses its value */
		if (i >= slots)
			break;
		slot = i;
		if (bpf_map_update_elem(&bdis, &slot, &owner, BPF_NOEXIST))
			continue;
		if (!bpf_map_update_elem(&bdi_slots, &owner.id, &slot, BPF_NOEXIST))
			return slot;
		/* Another CPU was first for this bdi. */
		bpf_map_delete_elem(&bdis, &slot);
		known = bpf_map_lookup_elem(&bdi_slots, &owner.id);
		return known ? *known : NO_SLOT;
	}
	health.slots++;
	return NO_SLOT;
}

/* Slot of a bdi; none for those without readahead (tmpfs, proc: the noop bdi). */
static __always_inline u32 slot_of_bdi(struct backing_dev_info *bdi)
{
	u64 id;
	u32 *slot;

	if (!bdi || !BPF_CORE_READ(bdi, ra_pages))
		return NO_SLOT;
	id = BPF_CORE_READ(bdi, id);
	slot = bpf_map_lookup_elem(&bdi_slots, &id);
	return slot ? *slot : claim_slot(bdi);
}

/* Files with a readahead window of their own are counted apart from their device, under slots that
 * user space gives out from `slots` upwards. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KA_OWN_FILES);
	__type(key, struct ka_inode);
	__type(value, u32);
} own_slots SEC(".maps");

/* Grows with each change of own_slots; 0: there never was one, and nobody pays for a lookup. */
volatile u64 own_epoch SEC(".data.own")
= 0;

static __noinline u32 own_slot_of_inode(struct inode *inode)
{
	struct ka_inode key = {};
	u32 *slot;

	if (!inode)
		return NO_SLOT;
	key.ino = BPF_CORE_READ(inode, i_ino);
	key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	slot = bpf_map_lookup_elem(&own_slots, &key);
	return slot ? *slot : NO_SLOT;
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, KA_OWN_FILES);
	__type(key, struct ka_inode);
	__type(value, struct ka_parts);
} own_parts SEC(".maps");

/* Slot of the region that holds a page of a file with slot `whole`; `whole` where none does. Only
 * for faults: advice for regions is for mappings. */
static __noinline u32 slot_of_part(u64 mapping, u64 index, u32 whole)
{
	struct inode *inode = BPF_CORE_READ((struct address_space *)mapping, host);
	struct ka_inode key = {};
	struct ka_parts *parts;
	u32 i;

	key.ino = BPF_CORE_READ(inode, i_ino);
	key.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	parts = bpf_map_lookup_elem(&own_parts, &key);
	if (!parts)
		return whole;
	for (i = 0; i < KA_FILE_PARTS; i++) {
		if (i >= parts->count)
			break;
		if (index >= parts->first[i] && index <= parts->last[i])
			return parts->slot[i];
	}
	return whole;
}

static __always_inline bool is_own(u32 slot)
{
	return slot != NO_SLOT && slot >= slots;
}

static __always_inline u32 slot_of_inode(struct inode *inode)
{
	u32 slot = own_epoch ? own_slot_of_inode(inode) : NO_SLOT;

	return slot == NO_SLOT ? slot_of_bdi(bdi_of_inode(inode)) : slot;
}

static __always_inline u32 slot_of_mapping(u64 mapping)
{
	struct inode *inode = BPF_CORE_READ((struct address_space *)mapping, host);

	return inode ? slot_of_inode(inode) : NO_SLOT;
}

static __always_inline struct ka_counters *counters_of(u32 slot)
{
	return slot == NO_SLOT ? 0 : bpf_map_lookup_elem(&counters, &slot);
}

/* The file's row among the heavy hitters. Made when missing; the map forgets the least recently
 * used. */
static __always_inline struct ka_file *file_of(u64 mapping, u32 slot)
{
	struct inode *inode = BPF_CORE_READ((struct address_space *)mapping, host);
	struct ka_file_key key = {.ino = BPF_CORE_READ(inode, i_ino),
				  .dev = BPF_CORE_READ(inode, i_sb, s_dev),
				  .slot = slot};
	struct ka_file *file = bpf_map_lookup_elem(&files, &key);

	if (!file) {
		struct ka_file fresh = {};

		bpf_map_update_elem(&files, &key, &fresh, BPF_NOEXIST);
		file = bpf_map_lookup_elem(&files, &key);
	}
	return file;
}

static __always_inline void file_user(struct ka_file *file)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;

	if (file->pid == pid)
		return;
	file->pid = pid;
	bpf_get_current_comm(file->comm, sizeof(file->comm));
}

#endif
