/*
 * The frames of a packet (RFC 9000 section 19, RFC 9221, draft-ietf-quic-ack-frequency): finds the
 * media, steps over the rest.
 */
#pragma once

#include "count.h"
#include "varint.h"
#include "work.h"

#define FRAME_STEPS          96 /* a run of padding or a few ranges of an ACK take one each */
#define PADDING_RUN          32
#define ACK_INTEGERS_AT_ONCE 8
#define MAX_STREAM_SIZE      ((1ull << 62) - 1)
#define MAX_PEER_CID_LENGTH  20
#define RESET_TOKEN_SIZE     16

enum frame_type {
	FRAME_PADDING = 0x00,
	FRAME_PING = 0x01,
	FRAME_ACK = 0x02,
	FRAME_ACK_ECN = 0x03,
	FRAME_RESET_STREAM = 0x04,
	FRAME_STOP_SENDING = 0x05,
	FRAME_CRYPTO = 0x06,
	FRAME_NEW_TOKEN = 0x07,
	FRAME_STREAM = 0x08,
	FRAME_MAX_DATA = 0x10,
	FRAME_MAX_STREAM_DATA = 0x11,
	FRAME_MAX_STREAMS_BIDI = 0x12,
	FRAME_MAX_STREAMS_UNI = 0x13,
	FRAME_DATA_BLOCKED = 0x14,
	FRAME_STREAM_DATA_BLOCKED = 0x15,
	FRAME_STREAMS_BLOCKED_BIDI = 0x16,
	FRAME_STREAMS_BLOCKED_UNI = 0x17,
	FRAME_NEW_CONNECTION_ID = 0x18,
	FRAME_RETIRE_CONNECTION_ID = 0x19,
	FRAME_PATH_CHALLENGE = 0x1a,
	FRAME_PATH_RESPONSE = 0x1b,
	FRAME_HANDSHAKE_DONE = 0x1e,
	FRAME_IMMEDIATE_ACK = 0x1f,
	FRAME_DATAGRAM = 0x30,
	FRAME_DATAGRAM_LENGTH = 0x31,
	FRAME_TWO_BYTES = 0x40,            /* of the type, which is below 0x100; the second one: */
	FRAME_IMMEDIATE_ACK_BEFORE = 0xac, /* in earlier versions of the draft */
	FRAME_ACK_FREQUENCY = 0xaf,
};

#define STREAM_FIN    0x01
#define STREAM_LENGTH 0x02
#define STREAM_OFFSET 0x04
#define STREAM_BITS   0x07

enum walk {
	WALK_ON,
	WALK_END, /* a frame that is not known: the rest is left to user space */
	WALK_MALFORMED,
};

/* Room for one more media frame, or NULL. */
INLINE struct media *media_add(struct work *work)
{
	u64 index = work->media_count;

	if (index >= FRAMES) {
		count(REASON_A_TOO_MANY_FRAMES);
		return NULL;
	}
	BOUND(index, FRAMES - 1);
	work->media_count++;
	return &work->media[index];
}

INLINE void media_fill(struct media *media, const struct cursor *cursor, u64 length)
{
	media->at = cursor->at;
	media->length = length;
}

/* ours: low two bits of our own unidirectional streams' ids; the peer's differ in the lowest. */
INLINE enum walk walk_stream(struct work *work, struct cursor *cursor, u64 type, u64 ours)
{
	u64 begin = cursor->at - 1;
	u64 stream_id = read_varint(cursor);
	u64 offset = type & STREAM_OFFSET ? read_varint(cursor) : 0;
	u64 length = type & STREAM_LENGTH ? read_varint(cursor) : cursor->end - cursor->at;
	struct cursor data = *cursor;
	struct media *media;

	if (overran(cursor))
		return WALK_MALFORMED;
	skip_bytes(cursor, length);
	if (overran(cursor) || offset + length > MAX_STREAM_SIZE)
		return WALK_MALFORMED;
	if ((stream_id & 3) != (ours ^ 1) || (!length && !(type & STREAM_FIN)))
		return WALK_ON;
	media = media_add(work);
	if (!media)
		return WALK_END;
	media->kind = FRAME_KIND_STREAM;
	media->stream_id = stream_id;
	media->offset = offset;
	media->fin = type & STREAM_FIN;
	media->header = data.at - begin;
	media_fill(media, &data, length);
	return WALK_ON;
}

INLINE enum walk walk_datagram(struct work *work, struct cursor *cursor, u64 type)
{
	u64 length = type & 1 ? read_varint(cursor) : cursor->end - cursor->at;
	struct cursor data = *cursor;
	struct media *media;

	if (overran(cursor))
		return WALK_MALFORMED;
	skip_bytes(cursor, length);
	if (overran(cursor))
		return WALK_MALFORMED;
	media = media_add(work);
	if (!media)
		return WALK_END;
	media->kind = FRAME_KIND_DATAGRAM;
	media->stream_id = 0;
	media->offset = 0;
	media->fin = 0;
	media->index = work->datagrams++;
	media_fill(media, &data, length);
	return WALK_ON;
}

/* Steps over a frame that is no media; type: its first byte. ack_left: integers of ACKs to come. */
INLINE enum walk walk_other(struct cursor *cursor, u64 type, u64 *ack_left)
{
	u64 length, integers = 0;

	switch (type) {
	case FRAME_PING:
	case FRAME_HANDSHAKE_DONE:
	case FRAME_IMMEDIATE_ACK:
		break;
	case FRAME_ACK:
	case FRAME_ACK_ECN:
		read_varint(cursor);
		read_varint(cursor);
		length = read_varint(cursor);
		if (length > AEAD_MAX_LENGTH)
			return WALK_MALFORMED;
		*ack_left = 1 + 2 * length + (type == FRAME_ACK_ECN ? 3 : 0);
		break;
	case FRAME_CRYPTO:
		read_varint(cursor);
		/* fallthrough */
	case FRAME_NEW_TOKEN:
		length = read_varint(cursor);
		skip_bytes(cursor, length);
		break;
	case FRAME_RESET_STREAM:
		integers = 3;
		break;
	case FRAME_STOP_SENDING:
	case FRAME_MAX_STREAM_DATA:
	case FRAME_STREAM_DATA_BLOCKED:
		integers = 2;
		break;
	case FRAME_MAX_DATA:
	case FRAME_MAX_STREAMS_BIDI:
	case FRAME_MAX_STREAMS_UNI:
	case FRAME_DATA_BLOCKED:
	case FRAME_STREAMS_BLOCKED_BIDI:
	case FRAME_STREAMS_BLOCKED_UNI:
	case FRAME_RETIRE_CONNECTION_ID:
		integers = 1;
		break;
	case FRAME_NEW_CONNECTION_ID:
		read_varint(cursor);
		read_varint(cursor);
		length = read_byte(cursor);
		if (length < 1 || length > MAX_PEER_CID_LENGTH)
			return WALK_MALFORMED;
		skip_bytes(cursor, length + RESET_TOKEN_SIZE);
		break;
	case FRAME_PATH_CHALLENGE:
	case FRAME_PATH_RESPONSE:
		skip_bytes(cursor, 8);
		break;
	case FRAME_TWO_BYTES:
		type = read_byte(cursor);
		if (overran(cursor))
			return WALK_MALFORMED;
		if (type == FRAME_ACK_FREQUENCY)
			integers = 4;
		else if (type != FRAME_IMMEDIATE_ACK_BEFORE)
			return WALK_END;
		break;
	default:
		return WALK_END;
	}
	if (integers > 3)
		read_varint(cursor);
	if (integers > 2)
		read_varint(cursor);
	if (integers > 1)
		read_varint(cursor);
	if (integers > 0)
		read_varint(cursor);
	return overran(cursor) ? WALK_MALFORMED : WALK_ON;
}

/* Some of the integers at the end of an ACK. */
INLINE void walk_ack(struct cursor *cursor, u64 *left)
{
#pragma unroll
	for (int i = 0; i < ACK_INTEGERS_AT_ONCE; i++) {
		if (!*left)
			break;
		read_varint(cursor);
		--*left;
	}
}

/* One frame; or some padding, or some of an ACK. */
INLINE enum walk walk_step(struct work *work, struct cursor *cursor, u64 ours, u64 *ack_left)
{
	u64 type;

	if (*ack_left) {
		walk_ack(cursor, ack_left);
		return overran(cursor) ? WALK_MALFORMED : WALK_ON;
	}
	if (!peek_word(cursor, 0)) {
		bool run = !(peek_word(cursor, 8) | peek_word(cursor, 16) | peek_word(cursor, 24));

		cursor->at += run ? PADDING_RUN : 8;
		return WALK_ON;
	}
	type = read_byte(cursor);
	if (type == FRAME_PADDING)
		return WALK_ON;
	if ((type & ~STREAM_BITS) == FRAME_STREAM)
		return walk_stream(work, cursor, type, ours);
	if (type == FRAME_DATAGRAM || type == FRAME_DATAGRAM_LENGTH)
		return walk_datagram(work, cursor, type);
	return walk_other(cursor, type, ack_left);
}

/*
 * Fills work->media from the text. ours: see walk_stream. False: something in the packet is
 * malformed, and nothing of it may be used.
 */
INLINE bool walk_frames(struct work *work, u64 ours)
{
	/* In memory from step to step: the verifier shall not tell the steps' results apart. */
	volatile u64 *at = &work->walk_at, *ack_left = &work->walk_ack_left;

	work->media_count = 0;
	work->datagrams = 0;
	*at = 0;
	*ack_left = 0;
#pragma nounroll
	for (int i = 0; i < FRAME_STEPS; i++) {
		struct cursor cursor = {
			.text = work->aead.text, .at = *at, .end = work->aead.length};
		u64 left = *ack_left;

		if (cursor.at >= cursor.end)
			return !left;
		switch (walk_step(work, &cursor, ours, &left)) {
		case WALK_ON:
			break;
		case WALK_END:
			return true;
		case WALK_MALFORMED:
			return false;
		}
		*at = cursor.at;
		*ack_left = left;
	}
	count(REASON_A_TOO_MANY_FRAMES);
	return true;
}
