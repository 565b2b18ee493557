/* Variable-length integers and bytes, read one after the other from the text of a packet. */
#pragma once

#include "aead.h"

/*
 * Reading never stops: what lies beyond the end is taken from the bytes that are there, and
 * remembered. So there is no branch per field, and one question at the end.
 */
struct cursor {
	const u8 *text; /* struct aead's */
	u64 at;
	u64 end;     /* at most AEAD_MAX_LENGTH */
	u64 overrun; /* highest bit: something did not fit */
};

INLINE bool overran(const struct cursor *cursor)
{
	return (s64)cursor->overrun < 0;
}

/* length: below 2^62 */
INLINE void skip_bytes(struct cursor *cursor, u64 length)
{
	cursor->at += length;
	cursor->overrun |= cursor->end - cursor->at;
}

/* 8 bytes, the first one highest. */
INLINE u64 peek_word(const struct cursor *cursor, u64 ahead)
{
	u64 at = cursor->at;

	BOUND(at, AEAD_TEXT_MASK);
	return __builtin_bswap64(*(const u64 *)(cursor->text + at + ahead));
}

INLINE u8 read_byte(struct cursor *cursor)
{
	u64 at = cursor->at;

	BOUND(at, AEAD_TEXT_MASK);
	skip_bytes(cursor, 1);
	return cursor->text[at];
}

/* RFC 9000 section 16. */
INLINE u64 read_varint(struct cursor *cursor)
{
	u64 word = peek_word(cursor, 0);
	u64 length = 1ull << (word >> 62);

	skip_bytes(cursor, length);
	return word << 2 >> (66 - 8 * length);
}

/* draft-ietf-moq-transport-18 section 1.4.1: a one for each byte that follows, a zero, the value.
 */
INLINE u64 read_moqt_varint(struct cursor *cursor)
{
	u64 word = peek_word(cursor, 0), next = peek_word(cursor, 1);
	u64 first = word >> 56, ones = 0;

#pragma unroll
	for (int i = 0; i < 8; i++)
		ones += (first + (128 >> i)) >> 8;
	skip_bytes(cursor, 1 + ones);
	if (ones == 8)
		return next;
	return word << (1 + ones) >> (57 - 7 * ones);
}

/* prefix: 16 bytes, of which so many have to come first. */
INLINE bool has_prefix(struct cursor *cursor, const u8 *prefix, u64 length)
{
	const u64 *words = (const u64 *)prefix;
	u64 low = (peek_word(cursor, 0) ^ __builtin_bswap64(words[0]));
	u64 high = (peek_word(cursor, 8) ^ __builtin_bswap64(words[1]));

	if (length > 16)
		return false;
	skip_bytes(cursor, length);
	if (length < 8)
		return !(low & ~(~0ull >> (8 * length)));
	if (length < 16)
		return !low && !(high & ~(~0ull >> (8 * (length - 8))));
	return !low && !high;
}
