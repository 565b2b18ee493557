/* STREAM and DATAGRAM frames (RFC 9000 section 19.8, RFC 9221 section 4) of a member. */
#pragma once

#include "copy.h"

#define FRAME_TYPE_STREAM   0x08
#define FRAME_STREAM_OFFSET 0x04
#define FRAME_STREAM_LENGTH 0x02
#define FRAME_STREAM_FIN    0x01
#define FRAME_TYPE_DATAGRAM 0x31 /* with a length */
#define VARINT_TWO_BYTES    0x4000

/* Writes a variable-length integer, shortest form, in a word of 8 bytes. Returns its length. */
INLINE u64 write_varint(u8 *at, u64 value)
{
	u64 log = value < 1 << 6 ? 0 : value < 1 << 14 ? 1 : value < 1 << 30 ? 2 : 3;
	u64 bits = 8ull << log;

	*(u64 *)at = __builtin_bswap64((value | log << (bits - 2)) << (64 - bits));
	return 1ull << log;
}

/* The frame's last field before its data. Two bytes for any length: they can be had at once. */
INLINE void write_length(struct piece *piece, u64 at, u32 length)
{
	BOUND(at, FRAME_HEAD_SIZE - 1);
	*(u16 *)(piece->head + at) = __builtin_bswap16(VARINT_TWO_BYTES | length);
	piece->head_length = at + 2;
}

INLINE void write_stream_head(struct piece *piece, u64 stream_id, u64 offset, u32 length, bool fin)
{
	u64 at = 1;

	piece->head[0] = FRAME_TYPE_STREAM | FRAME_STREAM_LENGTH |
			 (offset ? FRAME_STREAM_OFFSET : 0) | (fin ? FRAME_STREAM_FIN : 0);
	at += write_varint(piece->head + at, stream_id);
	BOUND(at, 15);
	if (offset)
		at += write_varint(piece->head + at, offset);
	write_length(piece, at, length);
}

INLINE void write_datagram_head(struct piece *piece, u32 length)
{
	piece->head[0] = FRAME_TYPE_DATAGRAM;
	write_length(piece, 1, length);
}
