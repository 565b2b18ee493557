/*
 * Poly1305 (RFC 8439 section 2.5), in limbs of 32 bits in 64-bit words.
 *
 * The clamped r is below 2^28 in each limb, and a multiple of 4 in r[1] to r[3]; so what goes
 * beyond 2^128 comes back as r + r / 4 (2^130 is 5, modulo p). Every limb gives its carry to the
 * next at once, none waits for another's: from block to block h[0] stays below 2.6 * 2^32, h[1] to
 * h[3] below 2^33, h[4] below 4. With a block added to them, no sum of products reaches 2^64:
 * d0 is the largest, (3.6 + 3 * 3 * 5 / 4) * 2^60.
 */
#pragma once

#include "bounds.h"
#include "maps.h"

struct poly1305 {
	u64 r[4];
	u64 s[4];   /* r + r / 4; s[0] is not used */
	u32 pad[4]; /* added at the end */
};

/* key: 8 words, of use once */
INLINE void poly1305_begin(struct poly1305 *mac, const u32 *key)
{
	mac->r[0] = key[0] & 0x0fffffff;
#pragma unroll
	for (int i = 1; i < 4; i++) {
		mac->r[i] = key[i] & 0x0ffffffc;
		mac->s[i] = mac->r[i] + (mac->r[i] >> 2);
	}
#pragma unroll
	for (int i = 0; i < 4; i++)
		mac->pad[i] = key[4 + i];
}

/* h: 5 limbs, 0 at first; in registers. m: a whole block of 16 bytes, little endian */
INLINE void poly1305_block(const struct poly1305 *mac, u64 *h, const u32 *m)
{
	const u64 *r = mac->r, *s = mac->s;
	u64 h0 = h[0] + m[0], h1 = h[1] + m[1], h2 = h[2] + m[2], h3 = h[3] + m[3], h4 = h[4] + 1;
	u64 d0 = (h1 * s[3] + h2 * s[2]) + (h3 * s[1] + h0 * r[0]);
	u64 d1 = (h1 * r[0] + h2 * s[3]) + (h3 * s[2] + h4 * s[1]) + h0 * r[1];
	u64 d2 = (h1 * r[1] + h2 * r[0]) + (h3 * s[3] + h4 * s[2]) + h0 * r[2];
	u64 d3 = (h1 * r[2] + h2 * r[1]) + (h3 * r[0] + h4 * s[3]) + h0 * r[3];
	u64 top = h4 * r[0] + (d3 >> 32), low = 0xffffffff;

	/* For u32, the compiler would shift up and down, where the multiplications have to go. */
	OPAQUE(low);
	h[0] = (d0 & low) + (top >> 2) + (top & ~3ull);
	h[1] = (d1 & low) + (d0 >> 32);
	h[2] = (d2 & low) + (d1 >> 32);
	h[3] = (d3 & low) + (d2 >> 32);
	h[4] = top & 3;
}

/* h: of all blocks. tag: 4 words */
INLINE void poly1305_finish(const struct poly1305 *mac, u64 *h, u32 *tag)
{
	u64 g[4], carry = 0, reduce, sum;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		carry += h[i];
		h[i] = (u32)carry;
		carry >>= 32;
	}
	/* Below 2p: h - p is h + 5 - 2^130, if that is not negative. */
	sum = 5;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum += h[i];
		g[i] = (u32)sum;
		sum >>= 32;
	}
	reduce = -((h[4] + carry + sum) >> 2 != 0);
	sum = 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum += (h[i] ^ ((h[i] ^ g[i]) & reduce)) + mac->pad[i];
		tag[i] = sum;
		sum >>= 32;
	}
}
