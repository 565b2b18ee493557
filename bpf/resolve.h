/* Which members a media frame is for. */
#pragma once

#include "protocol.h"
#include "stream.h"
#include "table.h"

#define MAX_DATAGRAM_KEEP 15 /* a half byte each in struct frame */

/* The members of a channel at present; ARRAYS: there are none, and the reason is counted. */
INLINE u32 channel_array(const struct work *work, u64 channel, u32 *index)
{
	u32 found = TABLE_FIND(CHANNELS, work->seed, channel, 1 + work->connection);
	struct track *track = MAP_AT(TRACKS, found);
	struct array *array;
	u64 version;

	if (!track || LOAD(track->state) != SWITCH_ON) {
		count(REASON_A_UNKNOWN_TRACK);
		return ARRAYS;
	}
	*index = found;
	version = LOAD(track->array);
	array = MAP_AT(ARRAYS, version);
	if (!array || !array->count || array->count > ARRAY_MEMBERS) {
		count(REASON_A_NO_MEMBERS);
		return ARRAYS;
	}
	return version;
}

INLINE bool resolve_head(struct work *work, const struct connection *connection,
			 struct media *media)
{
	struct cursor cursor = {.text = work->aead.text, .at = media->at};
	struct head head = {};
	bool understood;

	cursor.end = cursor.at + media->length;
	if (media->kind == FRAME_KIND_STREAM)
		understood = protocol_stream_head(connection, &cursor, &head);
	else
		understood = protocol_datagram_head(connection, &cursor, &head) &&
			     head.keep_at <= MAX_DATAGRAM_KEEP &&
			     head.keep_length <= MAX_DATAGRAM_KEEP;
	if (!understood)
		count(REASON_A_BAD_HEAD);
	media->head = head;
	return understood;
}

/*
 * Some publishers send the connection's prefix alone first. The stream may begin with the frame
 * that comes next then, in this packet or another, before which the prefix is written, over the
 * frame's own header.
 */
INLINE bool prefix_alone(const struct work *work, struct connection *connection,
			 const struct media *media)
{
	struct cursor cursor = {.text = work->aead.text, .at = media->at};
	u64 length = connection->prefix_length;

	return length && length == media->length && !media->fin &&
	       has_prefix(&cursor, connection->prefix, length);
}

INLINE u64 *prefixed_word(struct connection *connection, const struct media *media)
{
	u64 index = media->stream_id >> 2;

	BOUND(index, PREFIXED - 1);
	return &connection->rx_prefixed[index];
}

INLINE bool prefix_came(struct connection *connection, const struct media *media)
{
	u64 mark = 1 + (media->stream_id >> 2);

	return media->offset == connection->prefix_length &&
	       media->header >= connection->prefix_length &&
	       __sync_val_compare_and_swap(prefixed_word(connection, media), mark, 0) == mark;
}

INLINE void restore_prefix(struct work *work, struct connection *connection, struct media *media)
{
	u64 length = connection->prefix_length;

	media->at -= length;
	media->length += length;
	media->offset = 0;
#pragma unroll
	for (int i = 0; i < TEMPLATE_SIZE; i++) {
		u64 at = media->at + i;

		BOUND(at, AEAD_TEXT_MASK);
		if (i < length)
			work->aead.text[at] = connection->prefix[i];
	}
}

/* False: it does not begin here, or not yet. */
INLINE bool stream_begins(struct work *work, struct connection *connection, struct media *media)
{
	if (stream_first_sight(connection, media->stream_id)) {
		if (media->offset)
			return false;
		if (!prefix_alone(work, connection, media))
			return true;
		*prefixed_word(connection, media) = 1 + (media->stream_id >> 2);
		return false;
	}
	if (!prefix_came(connection, media))
		return false;
	restore_prefix(work, connection, media);
	return true;
}

/* The members that a new stream or a datagram is for, if any. */
INLINE u32 resolve_new(struct work *work, struct connection *connection, struct media *media)
{
	u32 array;

	if (media->kind == FRAME_KIND_STREAM && !stream_begins(work, connection, media)) {
		count(REASON_A_UNKNOWN_STREAM);
		return ARRAYS;
	}
	if (!resolve_head(work, connection, media))
		return ARRAYS;
	array = channel_array(work, media->head.channel, &media->track);
	if (array != ARRAYS && media->head.unranked) {
		struct track *track = MAP_AT(TRACKS, media->track);

		media->head.priority = track ? LOAD(track->priority) : 0;
	}
	return array;
}

/* Those of a stream under way. It is looked at again when it is ours. */
INLINE u32 resolve_known(const struct media *media)
{
	struct stream *stream = MAP_AT(STREAMS, media->stream % STREAMS);

	if (!stream || LOAD(stream->state) != STREAM_STATE_LENT) {
		count(REASON_A_STREAM_USER);
		return ARRAYS;
	}
	if (!stream_fits(stream, media)) {
		count(REASON_A_OUT_OF_ORDER);
		return ARRAYS;
	}
	return LOAD(stream->array);
}

/*
 * Of a media frame of the packet: media->array, ARRAYS if it is not for members that we know (the
 * reason is counted); media->stream; of what is new, media->head and media->track.
 */
INLINE void resolve(struct work *work, struct connection *connection, int i)
{
	struct media *media = &work->media[i];
	struct media *before = i ? &work->media[i - 1] : NULL;

	media->stream = 0;
	if (media->kind == FRAME_KIND_STREAM) {
		if (media->stream_id >> STREAM_ID_BITS) {
			media->array = ARRAYS;
			count(REASON_A_STREAM_ID);
			return;
		}
		media->stream = stream_sequence(work, media->stream_id);
		if (media->stream) {
			media->array = resolve_known(media);
			return;
		}
		/* The stream has not begun before the frame before this one is forwarded. */
		if (before && before->array != ARRAYS && before->kind == FRAME_KIND_STREAM &&
		    before->stream_id == media->stream_id) {
			media->array = before->array;
			/* It would begin a second time, with no head of its own. */
			if (!media->offset) {
				media->array = ARRAYS;
				count(REASON_A_OUT_OF_ORDER);
			}
			return;
		}
	}
	media->array = resolve_new(work, connection, media);
}
