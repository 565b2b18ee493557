/* ChaCha20 (RFC 8439 section 2.3). */
#pragma once

#include "maps.h"

/* Words 4 to 15 of the initial state. */
struct chacha20 {
	u32 key[8];
	u32 counter;
	u32 nonce[3];
};

#define CHACHA20_BLOCK_SIZE 64

#define ROTATE_LEFT(v, n) (((v) << (n)) | ((v) >> (32 - (n))))

#define CHACHA20_QUARTER_ROUND(a, b, c, d)                                                         \
	do {                                                                                       \
		a += b;                                                                            \
		d = ROTATE_LEFT(d ^ a, 16);                                                        \
		c += d;                                                                            \
		b = ROTATE_LEFT(b ^ c, 12);                                                        \
		a += b;                                                                            \
		d = ROTATE_LEFT(d ^ a, 8);                                                         \
		c += d;                                                                            \
		b = ROTATE_LEFT(b ^ c, 7);                                                         \
	} while (0)

/* x: 16 words, only ever used with constant indices, so that they are variables. */
INLINE void chacha20_initial(const struct chacha20 *cipher, u32 *x)
{
	x[0] = 0x61707865;
	x[1] = 0x3320646e;
	x[2] = 0x79622d32;
	x[3] = 0x6b206574;
#pragma unroll
	for (int i = 0; i < 8; i++)
		x[4 + i] = cipher->key[i];
	x[12] = cipher->counter;
#pragma unroll
	for (int i = 0; i < 3; i++)
		x[13 + i] = cipher->nonce[i];
}

INLINE void chacha20_rounds(u32 *x)
{
#pragma nounroll
	for (int i = 0; i < 10; i++) {
		CHACHA20_QUARTER_ROUND(x[0], x[4], x[8], x[12]);
		CHACHA20_QUARTER_ROUND(x[1], x[5], x[9], x[13]);
		CHACHA20_QUARTER_ROUND(x[2], x[6], x[10], x[14]);
		CHACHA20_QUARTER_ROUND(x[3], x[7], x[11], x[15]);
		CHACHA20_QUARTER_ROUND(x[0], x[5], x[10], x[15]);
		CHACHA20_QUARTER_ROUND(x[1], x[6], x[11], x[12]);
		CHACHA20_QUARTER_ROUND(x[2], x[7], x[8], x[13]);
		CHACHA20_QUARTER_ROUND(x[3], x[4], x[9], x[14]);
	}
}

/* x: 16 words, becomes the keystream of block cipher->counter. */
INLINE void chacha20_block(const struct chacha20 *cipher, u32 *x)
{
	u32 initial[16];

	chacha20_initial(cipher, x);
	chacha20_rounds(x);
	chacha20_initial(cipher, initial);
#pragma unroll
	for (int i = 0; i < 16; i++)
		x[i] += initial[i];
}

/* data: 64 bytes, encrypted or decrypted with block cipher->counter. */
INLINE void chacha20_xor(const struct chacha20 *cipher, u32 *data)
{
	u32 x[16];

	chacha20_block(cipher, x);
#pragma unroll
	for (int i = 0; i < 16; i++)
		data[i] ^= x[i];
}
