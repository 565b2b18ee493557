/* Who sends a copy: a bit in the slot's claim words, set by exactly one of B and the relay. */
#pragma once

#include "atomic.h"
#include "maps.h"

#ifndef CLAIM_TRIES
#define CLAIM_TRIES 32 /* all members of a word at once */
#endif

enum claim {
	CLAIM_TAKEN,
	CLAIM_STALE, /* the slot is in use for another packet */
	CLAIM_LOST,  /* somebody else sends it */
	CLAIM_BUSY,  /* nothing was changed */
};

/* sequence: the slot's, low half. position: below ARRAY_MEMBERS. */
INLINE enum claim claim(struct slot *slot, u32 sequence, u64 position)
{
	u64 bit = 1ull << (position & 31);
	u64 index = position >> 5;
	u64 *word;

	BOUND(index, CLAIM_WORDS - 1);
	word = &slot->claims[index];
	for (int i = 0; i < CLAIM_TRIES; i++) {
		u64 old = LOAD(*word);

		if (old >> 32 != sequence)
			return CLAIM_STALE;
		if (old & bit)
			return CLAIM_LOST;
		if (__sync_val_compare_and_swap(word, old, old | bit) == old)
			return CLAIM_TAKEN;
	}
	return CLAIM_BUSY;
}

/* The claimed copy is sent, or reported. The slot may be another packet's from here on. */
INLINE void settle(struct slot *slot)
{
	ADD_ORDERED(slot->done, 1);
}
