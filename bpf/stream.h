/* Upstream streams: which may begin, who is at work on one, what of it the members get. */
#pragma once

#include "atomic.h"
#include "count.h"
#include "table.h"
#include "work.h"

INLINE u64 stream_key(u32 connection, u64 stream_id)
{
	return STREAM_KEY_SET | (u64)connection << STREAM_ID_BITS | stream_id;
}

/* Index of a bucket, one of the two that a key may be in. */
INLINE u32 stream_bucket(u32 hash, bool second)
{
	return (second ? hash >> 16 : hash) % STREAM_INDEX_BUCKETS;
}

INLINE void stream_look(struct work *work, u32 number, u64 key)
{
	struct stream_bucket *bucket = MAP_AT(STREAM_INDEX, number);

	if (!bucket)
		return;
#pragma unroll
	for (int i = 0; i < STREAM_BUCKET_KEYS; i++)
		if (LOAD(bucket->keys[i]) == key)
			work->place = number * STREAM_BUCKET_KEYS + i;
}

/*
 * Where a stream under way has its row; beyond the last: nowhere. By way of memory, so that the
 * verifier goes on with one unknown number instead of as many as there are places.
 */
INLINE u32 stream_place(struct work *work, u64 key)
{
	u32 hash = table_hash(work->seed, key, 0);

	work->place = STREAMS;
	stream_look(work, stream_bucket(hash, false), key);
	if (LOAD(work->place) == STREAMS)
		stream_look(work, stream_bucket(hash, true), key);
	return LOAD(work->place);
}

/* Of a stream under way; 0: of none. */
INLINE u64 stream_sequence(struct work *work, u64 stream_id)
{
	u32 place = stream_place(work, stream_key(work->connection, stream_id));
	struct stream *stream = MAP_AT(STREAMS, place);

	return stream ? LOAD(stream->sequence) : 0;
}

/*
 * A stream that is not in stream_index may begin when it is seen for the first time. It has been
 * seen then, whatever becomes of it.
 */
INLINE bool stream_first_sight(struct connection *connection, u64 stream_id)
{
	u64 number = stream_id >> 2;
	u64 next = LOAD(connection->rx_stream_next);

	return number >= next &&
	       __sync_val_compare_and_swap(&connection->rx_stream_next, next, number + 1) == next;
}

INLINE bool stream_take(struct stream *stream)
{
	return __sync_val_compare_and_swap(&stream->busy, 0, 1) == 0;
}

INLINE void stream_release(struct stream *stream)
{
	u64 before = __sync_val_compare_and_swap(&stream->busy, 1, 0);

	OPAQUE(before);
}

INLINE u32 stream_bucket_load(const struct stream_bucket *bucket)
{
	u32 load = 0;

#pragma unroll
	for (int i = 0; i < STREAM_BUCKET_KEYS; i++)
		load += LOAD(bucket->keys[i]) / STREAM_KEY_SET;
	return load;
}

/* Takes a row, in the emptier bucket. Beyond the last: there is none, or another CPU was faster. */
INLINE u32 stream_claim(struct work *work, u64 key)
{
	u32 hash = table_hash(work->seed, key, 0);
	u32 number = stream_bucket(hash, false), other = stream_bucket(hash, true);
	struct stream_bucket *bucket = MAP_AT(STREAM_INDEX, number);
	struct stream_bucket *second = MAP_AT(STREAM_INDEX, other);

	work->place = STREAMS;
	if (!bucket || !second)
		return STREAMS;
	if (stream_bucket_load(second) < stream_bucket_load(bucket)) {
		bucket = second;
		number = other;
	}
#pragma unroll
	for (int i = 0; i < STREAM_BUCKET_KEYS; i++) {
		if (LOAD(bucket->keys[i]) || __sync_val_compare_and_swap(&bucket->keys[i], 0, key))
			continue;
		work->place = number * STREAM_BUCKET_KEYS + i;
		break;
	}
	return LOAD(work->place);
}

/* Gives back what nobody has heard of. */
INLINE void stream_unclaim(u32 place, u64 key)
{
	struct stream_bucket *bucket = MAP_AT(STREAM_INDEX, place / STREAM_BUCKET_KEYS);
	u64 index = place, before;

	BOUND(index, STREAM_BUCKET_KEYS - 1);
	if (!bucket)
		return;
	before = __sync_val_compare_and_swap(&bucket->keys[index], key, 0);
	OPAQUE(before);
}

/* Our own from here on, with nothing taken of it; or NULL, and the reason is counted. */
INLINE struct stream *stream_begin(struct work *work, const struct media *media, u64 *sequence)
{
	u64 key = stream_key(work->connection, media->stream_id);
	u32 place = stream_claim(work, key);
	struct stream *stream = MAP_AT(STREAMS, place);

	if (!stream) {
		count(REASON_A_NO_STREAM_SLOT);
		return NULL;
	}
	/* Another CPU may just see that this is not the stream any more that it looks for. */
	if (!stream_take(stream)) {
		stream_unclaim(place, key);
		count(REASON_A_BUSY);
		return NULL;
	}
	*sequence = (LOAD(stream->sequence) | (STREAMS - 1)) + 1 + place;
	stream->state = STREAM_STATE_LENT;
	stream->stream_id = media->stream_id;
	stream->array = media->array;
	stream->ordinal = media->head.ordinal;
	stream->next = 0;
	stream->gap_start = 0;
	stream->gap_end = 0;
	stream->final = 0;
	stream->connection = work->connection;
	stream->track = media->track;
	stream->cut = media->head.cut;
	stream->keep_at = media->head.keep_at;
	stream->keep_length = media->head.keep_length;
	stream->priority = media->head.priority;
	/* Whoever reads this finds the rest written. */
	u64 before = __sync_lock_test_and_set(&stream->sequence, *sequence);
	OPAQUE(before);
	return stream;
}

/*
 * Whether a frame of a stream under way is for the members: at the end of what was forwarded,
 * beyond it if that leaves the only hole, or at an end of the hole.
 */
INLINE bool stream_fits(const struct stream *stream, const struct media *media)
{
	u64 start = media->offset, end = start + media->length;
	u64 next = LOAD(stream->next), final = LOAD(stream->final);
	u64 gap_start = LOAD(stream->gap_start), gap_end = LOAD(stream->gap_end);

	/* The end that is known was forwarded: only the hole is left. */
	if (final && (start >= next || end > final - 1 || (media->fin && end != final - 1)))
		return false;
	if (start == next)
		return true;
	if (start > next)
		return gap_start == gap_end;
	return !media->fin && start >= gap_start && end <= gap_end &&
	       (start == gap_start || end == gap_end);
}

/* Takes a frame that fits; the stream is ours. */
INLINE void stream_advance(struct stream *stream, const struct media *media)
{
	u64 start = media->offset, end = start + media->length;

	if (start >= stream->next) {
		if (start > stream->next) {
			stream->gap_start = stream->next;
			stream->gap_end = start;
		}
		stream->next = end;
	} else if (start == stream->gap_start) {
		stream->gap_start = end;
	} else {
		stream->gap_end = start;
	}
	if (media->fin)
		stream->final = 1 + end;
}
