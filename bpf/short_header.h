/* The header of 1-RTT packets (RFC 9000 section 17.3.1) and its protection (RFC 9001 section 5.4).
 */
#pragma once

#include "aead.h"
#include "header_protection.h"

#define SHORT_HEADER_FIXED     0x40 /* spin bit and reserved bits are 0 */
#define SHORT_HEADER_PHASE     0x04
#define SHORT_HEADER_PROTECTED 0x1f
#define PACKET_NUMBER_SIZE     2
#define MIN_PAYLOAD            4 /* what the sample of header protection needs, and more */

INLINE u32 short_header_size(struct connection *connection)
{
	return 1 + connection->dcid_length + PACKET_NUMBER_SIZE;
}

/* The header, unprotected, as AAD. */
INLINE void short_header_write(struct aead *aead, struct connection *connection, u64 packet_number)
{
	u64 at = 1 + connection->dcid_length;
	u64 *words = (u64 *)aead->aad;

	words[0] = words[1] = words[2] = words[3] = 0;
	aead->aad[0] = SHORT_HEADER_FIXED | (PACKET_NUMBER_SIZE - 1) |
		       (connection->tx_phase ? SHORT_HEADER_PHASE : 0);
#pragma unroll
	for (int i = 0; i < MAX_PEER_CONNECTION_ID; i++)
		if (i < connection->dcid_length)
			aead->aad[1 + i] = connection->dcid[i];
	BOUND(at, 31);
	*(u16 *)(aead->aad + at) = __builtin_bswap16(packet_number);
	aead->aad_length = at + PACKET_NUMBER_SIZE;
}

/* After the payload is sealed. */
INLINE void short_header_protect(struct aead *aead, struct connection *connection)
{
	const u32 *sample =
		(u32 *)(aead->text + HEADER_PROTECTION_SAMPLE_OFFSET - PACKET_NUMBER_SIZE);
	u64 mask = header_protection_mask(connection->tx_hp, sample);
	u64 at = aead->aad_length - PACKET_NUMBER_SIZE;

	BOUND(at, 31);
	aead->aad[0] ^= mask & SHORT_HEADER_PROTECTED;
	*(u16 *)(aead->aad + at) ^= mask >> 8;
}
