/* Which members a media frame is for. */
#pragma once

#include "protocol.h"
#include "stream.h"

#define MAX_DATAGRAM_KEEP 15 /* a half byte each in struct frame */

/* The members of a channel at present; ARRAYS: there are none, and the reason is counted. */
INLINE u32 channel_array(u32 connection, u64 channel, u32 *index)
{
	struct channel_key key = {.channel = channel, .connection = connection};
	u32 *found = MAP_LOOKUP(CHANNELS, &key);
	struct track *track = found ? MAP_AT(TRACKS, *found) : NULL;
	struct array *array;
	u64 version;

	if (!track || LOAD(track->state) != SWITCH_ON) {
		count(REASON_A_UNKNOWN_TRACK);
		return ARRAYS;
	}
	*index = *found;
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

/* False: the frame is none for members that we know, and the reason is counted. */
INLINE bool resolve_begin(struct work *work, struct connection *connection, struct media *media)
{
	if (media->kind == FRAME_KIND_STREAM &&
	    (!stream_first_sight(connection, media->stream_id) || media->offset)) {
		count(REASON_A_UNKNOWN_STREAM);
		return false;
	}
	if (!resolve_head(work, connection, media))
		return false;
	media->array = channel_array(work->connection, media->head.channel, &media->track);
	return true;
}

/* Sets media->array and media->stream; of what begins here, media->head and media->track. */
INLINE void resolve(struct work *work, struct connection *connection, int i)
{
	struct media *media = &work->media[i];
	struct media *before = i ? &work->media[i - 1] : NULL;
	struct stream *stream;

	media->array = ARRAYS;
	media->stream = 0;
	if (media->kind == FRAME_KIND_STREAM) {
		media->stream = stream_sequence(work->connection, media->stream_id);
		if (media->stream) {
			stream = MAP_AT(STREAMS, media->stream % STREAMS);
			if (stream)
				media->array = LOAD(stream->array);
			return;
		}
		if (before && before->kind == FRAME_KIND_STREAM &&
		    before->stream_id == media->stream_id) {
			media->array = before->array;
			return;
		}
	}
	resolve_begin(work, connection, media);
}
