/*
 * Keystreams that the relay's process has made ahead, for the packet numbers that come next: it
 * has instructions for many blocks of ChaCha20 at once, which BPF lacks.
 */
#pragma once

#include "aead.h"
#include "atomic.h"

/* A few parts: for each that there can be, the verifier goes through all that follows. */
#define KEYSTREAM_PART (KEYSTREAM_TEXT / 4)

/* Where a test lets somebody change what is being read. */
#ifndef KEYSTREAM_MEANWHILE
#define KEYSTREAM_MEANWHILE(stream)
#endif

_Static_assert(KEYSTREAM_TEXT == AEAD_MAX_LENGTH, "a keystream is for any text");

/* 0 if it is this packet's, which user space leaves alone until it has read the report of that. */
INLINE u64 keystream_differs(const struct keystream *stream, const struct connection *connection,
			     u64 packet_number)
{
	return (LOAD(stream->number) ^ (packet_number + 1)) |
	       (LOAD(stream->version) ^ connection->tx_version);
}

/* That of the packet, or NULL. */
INLINE const struct keystream *keystream_of(const struct connection *connection, u32 index,
					    u64 packet_number)
{
	u32 at = index * KEYSTREAMS_AHEAD + (packet_number & (KEYSTREAMS_AHEAD - 1));
	const struct keystream *found = MAP_AT(KEYSTREAMS, at);
	u64 differs;

	if (!found)
		return NULL;
	differs = keystream_differs(found, connection, packet_number);
	if (differs)
		return NULL;
	/* 0; but as the place depends on it, no processor reads anything there before. */
	OPAQUE(differs);
	return MAP_AT(KEYSTREAMS, at + differs);
}

/* As aead_encrypt. False: somebody has changed it meanwhile; the packet must not be sent. */
INLINE bool keystream_encrypt(struct aead *aead, const struct keystream *stream,
			      const struct connection *connection, u64 packet_number)
{
	/* Read again each time: the verifier shall not tell the ways out of the loop apart. */
	const volatile u32 *length = &aead->length;

	for (u32 at = 0; at < KEYSTREAM_TEXT; at += KEYSTREAM_PART) {
		const u64 *from = (const u64 *)((const u8 *)stream->text + at);
		u64 *to = (u64 *)(aead->text + at);

		if (at >= *length)
			break;
#pragma unroll
		for (int i = 0; i < KEYSTREAM_PART / 8; i++)
			to[i] ^= from[i];
	}
	poly1305_begin(&aead->mac, stream->mac);
	KEYSTREAM_MEANWHILE(stream);
	return !keystream_differs(stream, connection, packet_number);
}
