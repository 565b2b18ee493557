/* Upstream streams: which may begin, who is at work on one, what of it the members get. */
#pragma once

#include "atomic.h"
#include "count.h"
#include "work.h"

/* Of a stream under way; 0: of none. */
INLINE u64 stream_sequence(u32 connection, u64 stream_id)
{
	struct stream_key key = {.stream_id = stream_id, .connection = connection};
	u64 *sequence = MAP_LOOKUP(STREAM_INDEX, &key);

	return sequence ? LOAD(*sequence) : 0;
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

/* Our own from here on, with nothing taken of it; or NULL, and the reason is counted. */
INLINE struct stream *stream_begin(struct work *work, const struct media *media, u64 *sequence)
{
	struct stream_key key = {.stream_id = media->stream_id, .connection = work->connection};
	struct shared *shared = MAP_AT(SHARED, 0);
	struct stream *stream;

	if (!shared)
		return NULL;
	*sequence = __sync_fetch_and_add(&shared->stream_next, 1);
	stream = MAP_AT(STREAMS, *sequence % STREAMS);
	if (!stream || !stream_take(stream)) {
		count(REASON_A_BUSY);
		return NULL;
	}
	if (__sync_val_compare_and_swap(&stream->state, STREAM_STATE_FREE, STREAM_STATE_LENT) !=
	    STREAM_STATE_FREE) {
		stream_release(stream);
		count(REASON_A_NO_STREAM_SLOT);
		return NULL;
	}
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
	if (MAP_UPDATE(STREAM_INDEX, &key, sequence, BPF_NOEXIST)) {
		__sync_val_compare_and_swap(&stream->state, STREAM_STATE_LENT, STREAM_STATE_FREE);
		stream_release(stream);
		count(REASON_A_NO_STREAM_SLOT);
		return NULL;
	}
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
