/* SPDX-License-Identifier: GPL-2.0-only */
//! What is in the page cache at an index.
#ifndef KEEPAHEAD_PAGECACHE_H
#define KEEPAHEAD_PAGECACHE_H

#include "folio.bpf.h"

/* Pages of the largest folio of the page cache: 2 MiB. */
#define LARGE_FOLIO_PAGES 512

#define XA_LEVELS   6
#define XA_INTERNAL 2

/* The folio at an index of the page cache, by the xarray's layout (unchanged since 4.20): first
 * page and number of pages. */
static __noinline bool folio_at(u64 mapping, u64 index, u64 *first, u64 *pages)
{
	u64 entry = (u64)BPF_CORE_READ((struct address_space *)mapping, i_pages.xa_head);
	struct folio *folio;
	u32 level;

	for (level = 0; level < XA_LEVELS; level++) {
		struct xa_node *node = (void *)(entry - XA_INTERNAL);
		u64 at;

		if ((entry & 3) != XA_INTERNAL || entry < 4096)
			break;
		at = index >> (BPF_CORE_READ(node, shift) & 63) & 63;
		bpf_probe_read_kernel(&entry, sizeof(entry), &node->slots[at]);
		if ((entry & 3) == XA_INTERNAL &&
		    entry < 64 << 2) /* a sibling: the folio's entry is at that place */
			bpf_probe_read_kernel(&entry, sizeof(entry), &node->slots[entry >> 2 & 63]);
	}
	if (!entry || entry & 3 || !first || !pages) /* absent, or the shadow of an evicted folio */
		return false;
	folio = (void *)entry;
	*first = folio_index(folio);
	*pages = 1ULL << folio_order(folio);
	return true;
}

#endif
