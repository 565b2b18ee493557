/* Packet numbers of packets received (RFC 9000 section 17.1, appendix A.3), and replays. */
#pragma once

#include "maps.h"

#ifndef REPLAY_TRIES
#define REPLAY_TRIES 4
#endif

/* truncated: of so many bits. The result is near largest + 1. */
INLINE u64 packet_number_decode(u64 largest, u64 truncated, u64 bits)
{
	u64 expected = largest + 1;
	u64 window = 1ull << bits, half = window >> 1;
	u64 candidate = (expected & ~(window - 1)) | truncated;

	if (candidate + half <= expected && candidate < (1ull << 62) - window)
		return candidate + window;
	if (candidate > expected + half && candidate >= window)
		return candidate - window;
	return candidate;
}

/*
 * Remembers the number of an authentic packet; 0, or the reason why it is not to be looked at.
 * A word of the window holds 32 numbers; it is used for newer ones when such a one comes.
 */
INLINE u32 replay_check(struct connection *connection, u64 number)
{
	u64 bit = 1ull << (number & 31);
	u32 block = number >> 5;
	u64 *word = &connection->rx_window[block % REPLAY_WORDS];

	for (int i = 0; i < REPLAY_TRIES; i++) {
		u64 old = *(volatile u64 *)word;
		s32 newer = block - (u32)(old >> 32);
		u64 new = newer ? (u64)block << 32 | bit : old | bit;

		if (newer < 0)
			return REASON_A_OLD_NUMBER;
		if (new == old)
			return REASON_A_REPLAY;
		if (__sync_val_compare_and_swap(word, old, new) == old)
			return 0;
	}
	return REASON_A_BUSY;
}
