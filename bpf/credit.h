/* What a copy may use of its connection: taken in order, given back when the copy fails. */
#pragma once

#include "bands.h"
#include "claim.h"
#include "copy.h"

#ifndef CREDIT_TRIES
#define CREDIT_TRIES 8
#endif

/*
 * Adds n to a counter that may not go beyond its limit. *before: what it was. Returns
 * OUTCOME_SENT, none if there is not so much left, or OUTCOME_BUSY.
 */
INLINE u32 take(u64 *counter, u64 n, u64 limit, u32 none, u64 *before)
{
	for (int i = 0; i < CREDIT_TRIES; i++) {
		u64 old = LOAD(*counter);

		if (old > limit || n > limit - old)
			return none;
		if (__sync_val_compare_and_swap(counter, old, old + n) == old) {
			*before = old;
			return OUTCOME_SENT;
		}
	}
	return OUTCOME_BUSY;
}

INLINE void give_back(u64 *counter, u64 n)
{
	ADD(*counter, -n);
}

/*
 * The leg of a frame, which is not over; first: it begins the stream, and so the leg. sequence:
 * the stream's.
 */
INLINE u32 take_leg(struct connection *connection, struct member *member, struct leg *leg,
		    u64 sequence, bool first)
{
	u64 word = LOAD(leg->word), number, begun;
	u32 outcome;

	if (word >> 8 == sequence)
		return OUTCOME_SENT;
	if (!first)
		return OUTCOME_NO_LEG;
	outcome = take(&connection->stream_number, 1, LOAD(connection->stream_number_limit),
		       OUTCOME_NO_STREAM, &number);
	if (outcome)
		return outcome;
	leg->stream_id = number << 2 | (connection->stream_bits & 3);
	leg->highest = 0;
	leg->limit = connection->stream_data_limit;
	/* An exchange orders on every machine: who sees the word sees the fields. */
	begun = __sync_lock_test_and_set(&leg->word, sequence << 8 | LEG_STATE_KERNEL);
	OPAQUE(begun);
	ADD(member->streams, 1);
	return OUTCOME_SENT;
}

/*
 * What the stream's highest offset grows by to end, of MAX_STREAM_DATA and MAX_DATA. The sum
 * of all highest offsets is data_used at any time, whatever other CPUs do with the leg.
 */
INLINE u32 take_data(struct connection *connection, struct leg *leg, u64 end, struct piece *piece)
{
	u64 highest, growth, unused;
	u32 outcome;

	piece->before = piece->after = 0;
	if (end > LOAD(leg->limit))
		return OUTCOME_NO_STREAM_DATA;
	for (int i = 0; i < CREDIT_TRIES; i++) {
		highest = LOAD(leg->highest);
		if (end <= highest)
			return OUTCOME_SENT;
		growth = end - highest;
		outcome = take(&connection->data_used, growth, LOAD(connection->data_limit),
			       OUTCOME_NO_DATA, &unused);
		if (outcome)
			return outcome;
		if (__sync_val_compare_and_swap(&leg->highest, highest, end) == highest) {
			piece->before = highest;
			piece->after = end;
			return OUTCOME_SENT;
		}
		give_back(&connection->data_used, growth);
	}
	return OUTCOME_BUSY;
}

/* Congestion window. The limit may fall, so the sum is what counts. */
INLINE u32 take_window(struct connection *connection, struct copy *copy)
{
	u64 limit = band_limit(&connection->bands, copy->band, LOAD(connection->bytes_limit));
	u64 unused;
	u32 outcome = take(&connection->bytes_sent, copy->size, limit, OUTCOME_NO_WINDOW, &unused);

	if (!outcome)
		copy->window = copy->size;
	return outcome;
}

INLINE u32 take_packet_number(struct connection *connection, struct copy *copy)
{
	return take(&connection->packet_number, 1, LOAD(connection->packet_number_limit),
		    OUTCOME_NO_NUMBER, &copy->packet_number);
}

/* The copy is not sent: all it took but stream numbers and the packet number. */
INLINE void give_back_all(struct connection *connection, struct copy *copy)
{
	if (copy->window)
		give_back(&connection->bytes_sent, copy->window);
	for (int i = FRAMES - 1; i >= 0; i--) {
		struct piece *piece = &copy->pieces[i];
		struct leg *leg;

		if (i >= copy->pieces_count || piece->after == piece->before)
			continue;
		leg = MAP_AT(LEGS, piece->leg);
		/* Another CPU may have gone on from here: then it stays used. */
		if (leg && __sync_val_compare_and_swap(&leg->highest, piece->after,
						       piece->before) == piece->after)
			give_back(&connection->data_used, piece->after - piece->before);
	}
}
