/*
 * Packets of a peer's with an acknowledgement and nothing else (RFC 9000 section 19.3): of those
 * that user space has nothing to answer to, what they say goes into a ring, and they end here.
 */
#pragma once

#include "count.h"
#include "frames.h"

#define ACK_RANGES  32 /* further ones of a frame; who names more is user space's */
#define ACK_PADDING 16 /* bytes behind the frame: what an empty packet may need for a sample */

/* Whether nothing but a little PADDING follows. */
INLINE bool only_padding(struct cursor *cursor)
{
	u64 sum = 0;

	if (cursor->end - cursor->at > ACK_PADDING)
		return false;
#pragma unroll
	for (int i = 0; i < ACK_PADDING; i++) {
		if (cursor->at < cursor->end)
			sum |= read_byte(cursor);
	}
	return !sum;
}

/* Steps over the ranges below the first one. False: there are too many, or they are wrong. */
INLINE bool walk_ranges(struct work *work, struct cursor *begin, u64 smallest)
{
	/* In memory from step to step, as in walk_frames. */
	volatile u64 *at = &work->walk_at, *low = &work->ack_low;
	const volatile u64 *count = &work->walk_ack_left;

	*at = begin->at;
	*low = smallest;
#pragma nounroll
	for (int i = 0; i < ACK_RANGES; i++) {
		struct cursor cursor = {
			.text = work->aead.text, .at = *at, .end = work->aead.length};
		u64 gap, length, below = *low;

		if (i >= *count)
			return true;
		gap = read_varint(&cursor) + 2;
		length = read_varint(&cursor);
		if (overran(&cursor) || gap + length > below)
			return false;
		*low = below - gap - length;
		*at = cursor.at;
	}
	return ACK_RANGES == *count;
}

/* Whether the text is one ACK frame that is well formed; its first range is in the work then. */
INLINE bool read_acknowledgement(struct work *work)
{
	struct cursor cursor = {.text = work->aead.text, .at = 1, .end = work->aead.length};
	u64 largest = read_varint(&cursor), delay = read_varint(&cursor);
	u64 count = read_varint(&cursor), length = read_varint(&cursor);

	if (overran(&cursor) || length > largest || count > ACK_RANGES)
		return false;
	work->ack_largest = largest;
	work->ack_first = largest - length;
	work->ack_delay = delay;
	work->walk_ack_left = count;
	if (!walk_ranges(work, &cursor, largest - length))
		return false;
	cursor.at = *(const volatile u64 *)&work->walk_at;
	return only_padding(&cursor);
}

/* Whether such packets to the id that the one at hand was for are to end here. */
INLINE bool acknowledgements_wanted(const struct work *work, const struct connection *connection)
{
	return work->aead.text[0] == FRAME_ACK &&
	       *(const u64 *)(work->start + 1) == LOAD(connection->ack_cid);
}

/*
 * 0: the record of what was read is in the ring. Otherwise why user space has to see it.
 * in_phase: the packet was not of an earlier or later key phase than user space is in.
 */
INLINE u32 take_acknowledgement(struct work *work, struct connection *connection, bool in_phase)
{
	u64 next = LOAD(connection->packet_number);
	struct ack *ack;

	if (!in_phase || work->ack_largest >= next ||
	    work->ack_first > LOAD(connection->ack_floor) ||
	    LOAD(connection->generation) != work->connection_generation)
		return REASON_A_ACK_UNUSUAL;
	if (LOAD(connection->bytes_sent) > LOAD(connection->ack_bytes) ||
	    next + ACK_NUMBERS > LOAD(connection->packet_number_limit))
		return REASON_A_ACK_CREDIT;
	if (bpf_ringbuf_query(MAP(ACKS), BPF_RB_AVAIL_DATA) > ACKS_BYTES / 2)
		return REASON_A_ACK_RING_FULL;
	ack = bpf_ringbuf_reserve(MAP(ACKS), sizeof(*ack), 0);
	if (!ack)
		return REASON_A_ACK_RING_FULL;
	ack->time = bpf_ktime_get_ns();
	ack->packet_number = work->packet_number;
	ack->first = work->ack_first;
	ack->largest = work->ack_largest;
	ack->delay = work->ack_delay;
	ack->connection = work->connection;
	ack->generation = work->connection_generation;
	bpf_ringbuf_submit(ack, RING_QUIETLY);
	ADD(connection->acks, 1);
	/* On two CPUs at once the lower one may stay: then the relay reads the ring in vain. */
	if (work->ack_largest >= LOAD(connection->acked))
		connection->acked = work->ack_largest + 1;
	return 0;
}
