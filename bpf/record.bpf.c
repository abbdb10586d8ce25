// SPDX-License-Identifier: GPL-2.0-only
//! Demand on one device, one record a request: what is read(2), and what is touched through
//! mappings. Filtered here by bdi and by file, so that what is not wanted costs no copy.
//!
//! Program names are HOOK__HOW, as in sensor.bpf.c.

#include "bdi.bpf.h"
#include "pagecache.bpf.h"
#include "record.h"

char LICENSE[] SEC("license")
= "GPL";

#define NAME_LEN    32
#define FILES_KNOWN 65536

/* Set before the load. */
const volatile char wanted[NAME_LEN];
/* Files whose hash is below are recorded; all ones: all. */
const volatile u32 sample_below = -1;
const volatile u64 seed;
const volatile u32 page_shift = 12;
const volatile u32 own_pid;

volatile struct ka_record_losses losses;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
} records SEC(".maps");

/* Ids of bdis met, and whether they are the wanted one. Ids never repeat. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, u64);
	__type(value, u32);
} verdicts SEC(".maps");

struct file_key {
	u64 ino;
	u64 dev;
};

/* Files that sampling left out, to count each once. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILES_KNOWN);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct file_key);
	__type(value, u32);
} sampled_out SEC(".maps");

struct task {
	u64 mapping; /* of the last read */
	u64 index;
	u64 last;
	u64 reads; /* syscalls finished by then */
	u64 touch; /* faults finished at the last touch recorded, and 1 more */
	bool faulted;
	u64 map;    /* of that touch */
	u64 beyond; /* the page after what was recorded of it */
	u64 since;  /* where what lies between it and the touch before begins; all ones: nothing */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

static __noinline u32 judge(struct backing_dev_info *bdi, u64 id)
{
	char name[NAME_LEN] = {};
	u32 verdict = 1;

	bpf_probe_read_kernel_str(name, sizeof(name),
				  __builtin_preserve_access_index(&bdi->dev_name));
	for (int i = 0; i < NAME_LEN; i++) {
		if (name[i] != wanted[i]) {
			verdict = 0;
			break;
		}
		if (!name[i])
			break;
	}
	bpf_map_update_elem(&verdicts, &id, &verdict, BPF_ANY);
	return verdict;
}

static __always_inline bool is_wanted(struct inode *inode)
{
	struct backing_dev_info *bdi = bdi_of_inode(inode);
	u32 *known;
	u64 id;

	if (!bdi)
		return false;
	id = BPF_CORE_READ(bdi, id);
	known = bpf_map_lookup_elem(&verdicts, &id);
	return known ? *known : judge(bdi, id);
}

static __always_inline void name_file(struct inode *inode, struct file_key *key)
{
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);

	key->ino = BPF_CORE_READ(inode, i_ino);
	key->dev = BPF_CORE_READ(sb, s_magic) == BDEVFS_MAGIC ? 0 : BPF_CORE_READ(sb, s_dev);
}

static __always_inline bool in_sample(struct file_key *key)
{
	u64 hash =
		(key->ino ^ seed) * 0x9e3779b97f4a7c15ULL ^ (key->dev + 1) * 0xc2b2ae3d27d4eb4fULL;
	u32 one = 1;

	if (sample_below == (u32)-1)
		return true;
	hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9ULL;
	if ((u32)(hash >> 32) < sample_below)
		return true;
	if (!bpf_map_lookup_elem(&sampled_out, key) &&
	    !bpf_map_update_elem(&sampled_out, key, &one, BPF_NOEXIST))
		__sync_fetch_and_add(&losses.files_sampled_out, 1);
	return false;
}

/* Whether demand on this inode is recorded; its name then. */
static __always_inline bool selected(struct inode *inode, struct file_key *key)
{
	if (!inode || bpf_get_current_pid_tgid() >> 32 == own_pid || !is_wanted(inode))
		return false;
	name_file(inode, key);
	return in_sample(key);
}

/* One record, cut at the end of the file. */
static __noinline void emit(struct inode *inode, struct file_key *key, u64 offset, u64 bytes,
			    u32 kind)
{
	u64 size, id = bpf_get_current_pid_tgid();
	struct ka_record *r;

	if (!key)
		return;
	size = BPF_CORE_READ(inode, i_size);
	r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);
	if (!r) {
		__sync_fetch_and_add(&losses.lost, 1);
		return;
	}
	r->at = bpf_ktime_get_ns();
	r->ino = key->ino;
	r->offset = offset;
	r->bytes = offset < size && bytes > size - offset ? size - offset : bytes;
	r->file_bytes = size;
	r->dev = key->dev;
	r->pid = id >> 32;
	r->tid = id;
	r->kind = kind;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP); /* the reader looks a hundred times a second */
}

static __always_inline struct task *task_state(void)
{
	return bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline u64 reads_finished(struct task_struct *current)
{
	return bpf_core_field_exists(current->ioac.syscr) ? BPF_CORE_READ(current, ioac.syscr) : 0;
}

/* A kernel pointer is no number to the verifier until it was read from memory. */
static __always_inline u64 address_of(const void *argument)
{
	u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), argument);
	return address;
}

#include "syscall.bpf.h"

/* Fires once a batch of folios, each time to the end of the whole request: the first is recorded.
 */
SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(read__tp_btf, struct address_space *mapping, unsigned long index, unsigned long last)
{
	struct inode *inode = mapping->host;
	u64 reads, address, offset, bytes;
	struct file_key key = {};
	struct task *t;
	bool again;

	if (!selected(inode, &key))
		return 0;
	t = task_state();
	if (!t)
		return 0;
	reads = reads_finished(bpf_get_current_task_btf());
	address = address_of(&ctx[0]);
	again = t->mapping == address && t->last == last && t->reads == reads && index > t->index;
	t->mapping = address;
	t->index = index;
	t->last = last;
	t->reads = reads;
	if (again)
		return 0;
	offset = (u64)index << page_shift;
	bytes = ((u64)last - index + 1) << page_shift;
	syscall_range(address, index, last, &offset, &bytes);
	emit(inode, &key, offset, bytes, KA_RECORD_READ);
	return 0;
}

/* A read is over, ki_pos has moved past what was copied (before 6.12). `before` was copied by
 * direct I/O ahead of this call. */
static __always_inline int read_returned(struct kiocb *iocb, s64 before, s64 copied)
{
	struct inode *inode = BPF_CORE_READ(iocb, ki_filp, f_mapping, host);
	struct file_key key = {};

	if (copied > before && selected(inode, &key))
		emit(inode, &key, BPF_CORE_READ(iocb, ki_pos) - (copied - before), copied - before,
		     KA_RECORD_READ);
	return 0;
}

SEC("fexit/filemap_read")
int read__fexit(u64 *ctx)
{
	return read_returned((void *)ctx[0], (s64)ctx[2], (s64)ctx[3]);
}

/* Where a touch at `first` has a run begin that went on behind the last touch: a fault on a large
 * folio maps all of it (6.18: a scan at 128 KiB of readahead faults on every 32nd page), so the
 * next fault right beyond is taken to mean that the pages between were touched too. All ones where
 * it is not. */
static __always_inline u64 run_since(struct task *t, u64 mapping, u64 first)
{
	u64 start, pages, beyond = t->beyond;

	if (t->map != mapping || first <= beyond || first - beyond >= LARGE_FOLIO_PAGES ||
	    !folio_at(mapping, beyond - 1, &start, &pages) || first > start + pages)
		return -1;
	return beyond;
}

/* One touch may come here several times: fault-around maps what is near, the page itself may be
 * missing, and after the wait for it the whole is done again. A touch that is over is counted in
 * the task, which tells the next one. */
static __always_inline void touched(struct inode *inode, u64 mapping, u64 first, u64 last,
				    bool fault)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct file_key key = {};
	struct task *t;
	bool again;
	u64 touch;

	if (!selected(inode, &key))
		return;
	t = task_state();
	if (!t)
		return;
	touch = BPF_CORE_READ(current, min_flt) + BPF_CORE_READ(current, maj_flt) + 1;
	again = t->touch == touch;
	if (again && (t->faulted || !fault))
		return;
	if (!again)
		t->since = run_since(t, mapping, first);
	t->touch = touch;
	t->faulted = fault;
	t->map = mapping;
	t->beyond = last + 1;
	if (t->since < first)
		first = t->since;
	emit(inode, &key, first << page_shift, (last - first + 1) << page_shift,
	     !fault  ? KA_RECORD_MAP_PAGES
	     : again ? KA_RECORD_FAULT_TOO
		     : KA_RECORD_FAULT);
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(fault__tp_btf, struct address_space *mapping, unsigned long index)
{
	touched(mapping->host, address_of(&ctx[0]), index, index, true);
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(map_pages__tp_btf, struct address_space *mapping, unsigned long start,
	     unsigned long end)
{
	touched(mapping->host, address_of(&ctx[0]), start, end, false);
	return 0;
}

static __always_inline void fault_touched(struct vm_fault *vmf, u64 first, u64 last, bool fault)
{
	struct address_space *mapping = BPF_CORE_READ(vmf, vma, vm_file, f_mapping);

	touched(BPF_CORE_READ(mapping, host), (u64)mapping, first, last, fault);
}

SEC("fentry/filemap_fault")
int fault__fentry(u64 *ctx)
{
	struct vm_fault *vmf = (void *)ctx[0];
	u64 index = BPF_CORE_READ(vmf, pgoff);

	fault_touched(vmf, index, index, true);
	return 0;
}

/* Fires whether or not anything was there to map; the fault that follows then takes its place. */
SEC("fentry/filemap_map_pages")
int map_pages__fentry(u64 *ctx)
{
	fault_touched((void *)ctx[0], ctx[1], ctx[2], false);
	return 0;
}
