/* SPDX-License-Identifier: GPL-2.0-only */
//! The few kernel types that the programs read, by CO-RE: only the fields used, relocated at load
//! by the running kernel's BTF.
//!
//! A name with `___x` is the same type in another kernel's shape. Written by hand instead of a
//! generated vmlinux.h, so that a build needs no kernel of its own and a reader sees what is relied
//! upon.
#ifndef KEEPAHEAD_KERNEL_H
#define KEEPAHEAD_KERNEL_H

#include "keepahead.h"
#include <stdbool.h>

typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef short __s16;
typedef int __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1
};
enum {
	BPF_F_NO_PREALLOC = 1
};
enum {
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct device;
struct inode;
struct request_queue;

struct backing_dev_info {
	u64 id;
	unsigned long ra_pages;
	char dev_name[64];
};

struct super_block {
	unsigned int s_dev;
	unsigned long s_magic;
	struct backing_dev_info *s_bdi;
};

struct inode {
	unsigned long i_ino;
	long long i_size;
	struct super_block *i_sb;
};

struct xarray {
	void *xa_head;
};
struct xa_node {
	unsigned char shift;
	void *slots[64];
};

struct address_space {
	struct inode *host;
	struct xarray i_pages;
};

struct gendisk {
	struct request_queue *queue;
	struct backing_dev_info *bdi; /* since 5.15 */
};

struct request_queue {
	struct gendisk *disk; /* since 5.15 */
};
struct request_queue___before_5_15 {
	struct backing_dev_info *backing_dev_info;
};

struct block_device {
	struct gendisk *bd_disk;
};

struct bdev_inode {
	struct block_device bdev;
	struct inode vfs_inode;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 start_time_ns;
};

struct file_ra_state {
	unsigned long start;
	unsigned int size;
	unsigned int async_size;
	unsigned int ra_pages;
	unsigned short order;     /* since 6.16 */
	unsigned short mmap_miss; /* an unsigned int until 6.12 */
	long long prev_pos;
};

/* `flags` became a struct in 6.18. */
struct memdesc_flags_t {
	unsigned long f;
};
struct folio {
	struct memdesc_flags_t flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned long _flags_1; /* the low byte is the order, since 6.6 */
};
struct folio___before_6_18 {
	unsigned long flags;
};
struct folio___before_6_6 {
	unsigned char _folio_order;
};
struct page___before_5_17 {
	unsigned long flags;
	unsigned char compound_order; /* of the second page: the head's own place holds others */
	struct address_space *mapping;
	unsigned long index;
};

struct reclaim_state;
struct task_struct {
	unsigned int __state;
	int pid;
	int tgid;
	unsigned in_iowait : 1;
	struct reclaim_state *reclaim_state;
};
struct task_struct___before_5_14 {
	long state;
};

struct file {
	struct address_space *f_mapping;
};
struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
};
struct readahead_control {
	struct address_space *mapping;
	struct file_ra_state *ra; /* since 5.13 */
	unsigned long _index;
};
struct vm_area_struct {
	struct file *vm_file;
};
struct vm_fault {
	struct vm_area_struct *vma;
	unsigned long pgoff;
};

#pragma clang attribute pop

/* Registers at a kprobe, in the kernel's layout: a program's context is not relocated. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	unsigned long orig_rax, rip, cs, eflags, rsp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs;
struct user_pt_regs {
	u64 regs[31], sp, pc, pstate;
};
#endif

enum pageflags {
	PG_head = 6,
};

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#endif
