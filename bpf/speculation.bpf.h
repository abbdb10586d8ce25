/* SPDX-License-Identifier: GPL-2.0-only */
//! The fate of pages that readahead brought in unasked: a bit a page, from insertion until
//! demanded, evicted or dropped.
//!
//! Only chunks in the sample have bits, and each of their pages counts 2^shift. Bits change by
//! plain read-modify-write: kernels before 5.12 have no atomic fetch, and a race between two CPUs
//! on one 64-page chunk miscounts a page or two among millions.
#ifndef KEEPAHEAD_SPECULATION_H
#define KEEPAHEAD_SPECULATION_H

#include "maps.bpf.h"
#include "pagecache.bpf.h"

/* Chunks looked at in one call: 8 MiB and an unaligned one. Longer requests come back with later
 * events. */
#define MAX_CHUNKS 33

static __always_inline u64 bits_between(u64 from, u64 to) /* bits from..=to of a chunk */
{
	return (~0ULL << (from & 63)) & (~0ULL >> (63 - (to & 63)));
}

static __always_inline u32 popcount(u64 v)
{
	v = v - (v >> 1 & 0x5555555555555555ULL);
	v = (v & 0x3333333333333333ULL) + (v >> 2 & 0x3333333333333333ULL);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return v * 0x0101010101010101ULL >> 56;
}

/* Takes pages first..=last of one sampled chunk out of speculation; returns how many there were. */
static __always_inline u32 take_chunk(u64 sample, struct ka_chunk_key *key, u64 bits)
{
	struct ka_chunk *chunk = bpf_map_lookup_elem(&pending, key);
	u32 taken = 0;
	u64 left;

	if (!chunk)
		return 0;
	if (chunk->sample !=
	    sample) { /* made under another rate: its weight is not known any more */
		left = 0;
	} else {
		taken = popcount(chunk->bits & bits);
		left = chunk->bits & ~bits;
		chunk->bits = left;
	}
	if (!left && !bpf_map_delete_elem(&pending, key))
		health.pending_gone++;
	return taken;
}

/* Takes pages first..=last out of speculation; returns their weighted number. Global, as its opposite
 * is: the verifier looks at the loop once a program, and not again for each state that a caller is
 * in (6.18: the probe of reads takes it 0.24 s instead of 0.70). */
__noinline u64 take_pages(u64 mapping, u64 first, u64 last)
{
	struct ka_chunk_key key = {.mapping = mapping};
	u64 sample = sample_word, taken = 0, chunk = first >> 6;
	u32 i;

	for (i = 0; i < MAX_CHUNKS; i++, chunk++) {
		u64 from = chunk == first >> 6 ? first & 63 : 0;

		if (chunk > last >> 6)
			break;
		if (!in_sample(sample, mapping, chunk))
			continue;
		key.chunk = chunk;
		taken += take_chunk(sample, &key,
				    bits_between(from, chunk == last >> 6 ? last & 63 : 63));
	}
	return taken << shift_of(sample);
}

static __always_inline u32 put_chunk(u64 sample, struct ka_chunk_key *key, u64 bits)
{
	struct ka_chunk *chunk = bpf_map_lookup_elem(&pending, key);

	if (chunk && chunk->sample == sample) {
		chunk->bits |= bits;
	} else {
		struct ka_chunk fresh = {.bits = bits, .sample = sample};

		if (bpf_map_update_elem(&pending, key, &fresh, BPF_ANY)) {
			health.pending++;
			return 0;
		}
		if (!chunk)
			health.pending_made++;
	}
	return popcount(bits);
}

/* Puts pages first..=last into speculation; returns their weighted number. */
__noinline u64 put_pages(u64 mapping, u64 first, u64 last)
{
	struct ka_chunk_key key = {.mapping = mapping};
	u64 sample = sample_word, put = 0, chunk = first >> 6;
	u32 i;

	for (i = 0; i < MAX_CHUNKS; i++, chunk++) {
		u64 from = chunk == first >> 6 ? first & 63 : 0;

		if (chunk > last >> 6)
			break;
		if (!in_sample(sample, mapping, chunk))
			continue;
		key.chunk = chunk;
		put += put_chunk(sample, &key,
				 bits_between(from, chunk == last >> 6 ? last & 63 : 63));
	}
	return put << shift_of(sample);
}

#endif
