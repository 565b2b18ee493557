/* Header protection with ChaCha20 (RFC 9001 section 5.4.4). */
#pragma once

#include "chacha20.h"

#define HEADER_PROTECTION_SAMPLE_SIZE   16
#define HEADER_PROTECTION_SAMPLE_OFFSET 4 /* from the packet number's first byte */

/* key: 8 words. sample: 16 bytes. The mask is the low 5 bytes of the result, first byte lowest. */
INLINE u64 header_protection_mask(const u32 *key, const u32 *sample)
{
	struct chacha20 cipher;
	u32 block[16];

#pragma unroll
	for (int i = 0; i < 8; i++)
		cipher.key[i] = key[i];
	cipher.counter = sample[0];
#pragma unroll
	for (int i = 0; i < 3; i++)
		cipher.nonce[i] = sample[1 + i];
	chacha20_block(&cipher, block);
	return (u64)block[1] << 32 | block[0];
}
