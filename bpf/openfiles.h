/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What openfiles.bpf.c needs of the kernel's types, and the row it hands to user space.
 *
 * Only the fields that are read are declared: CO-RE finds them by name in the running kernel's BTF,
 * so order, padding and whatever stands between them do not matter here.
 */
#ifndef KEEPAHEAD_OPENFILES_H
#define KEEPAHEAD_OPENFILES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __le16;
typedef __u32 __le32;
typedef __u64 __le64;
typedef __u16 __sum16;
typedef __u32 __wsum;
typedef _Bool bool;

#define KA_BDI_NAME 32
#define KA_COMM	    16

/* One open file of a wanted bdi. The layout is read word by word in tuner/actuator/scan.rs. */
struct ka_open_file {
	__u64 file; /* address of struct file: equal for dup'ed, inherited and passed descriptors */
	__u64 inode; /* address of the inode behind the page cache */
	__u64 ino;   /* inode number as fstat(2) gives it */
	__u32 dev;   /* kernel's dev_t of the superblock (minor in the low 20 bits) */
	__u32 tgid;
	__u32 fd;
	__u32 ra_pages;	    /* what this file carries */
	__u32 bdi_ra_pages; /* what its bdi holds now */
	__u32 f_mode;
	__u32 uid;
	__u32 reserved;
	char comm[KA_COMM];
	char bdi[KA_BDI_NAME];
};

enum {
	BPF_MAP_TYPE_HASH = 1
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t euid;
};

struct task_struct {
	__s32 pid;
	__s32 tgid;
	const struct cred *cred;
	char comm[16];
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct file_ra_state {
	__u32 ra_pages;
};

struct backing_dev_info {
	unsigned long ra_pages;
	char dev_name[64];
};

/* Older kernels (5.10 among them) have the bdi on the request queue, newer ones on the disk. */
struct request_queue___old {
	struct backing_dev_info *backing_dev_info;
};

struct gendisk {
	struct backing_dev_info *bdi;
};

struct gendisk___old {
	struct request_queue___old *queue;
};

struct super_block {
	unsigned long s_magic;
	__u32 s_dev;
	struct backing_dev_info *s_bdi;
};

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct block_device {
	struct gendisk *bd_disk;
};

struct bdev_inode {
	struct block_device bdev;
	struct inode vfs_inode;
};

struct address_space {
	struct inode *host;
};

struct file {
	__u32 f_mode;
	struct address_space *f_mapping;
	struct inode *f_inode;
	struct file_ra_state f_ra;
};

#pragma clang attribute pop

#endif
