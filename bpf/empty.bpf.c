// SPDX-License-Identifier: GPL-2.0-only
//! Programs that do nothing, on the hooks that fire most: what the sensor's cost is measured
//! against.

#include "kernel.h"

char LICENSE[] SEC("license")
= "GPL";

SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(read__empty)
{
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(map_pages__empty)
{
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(wait__empty)
{
	return 0;
}
