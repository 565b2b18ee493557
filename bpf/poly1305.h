/*
 * Poly1305 (RFC 8439 section 2.5), in limbs of 32 bits in 64-bit words.
 *
 * The clamped r is below 2^28 in each limb, and a multiple of 4 in r[1] to r[3]; so what goes
 * beyond 2^128 comes back as r + r / 4 (2^130 is 5, modulo p). From block to block h[0] stays
 * below 2.25 * 2^32, h[1] and h[2] below 2^32, h[3] below 2^34. With a block added to them, no sum
 * of products reaches 2^64: the first is the largest, (3.25 + (2 + 2 + 6) * 5 / 4) * 2^60.
 */
#pragma once

#include "bounds.h"
#include "maps.h"

#define POLY1305_BLOCK_SIZE 16
#define POLY1305_MAX_BLOCKS 128 /* at once */

struct poly1305 {
	u64 h[4];
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
	for (int i = 0; i < 4; i++) {
		mac->h[i] = 0;
		mac->pad[i] = key[4 + i];
	}
}

/* clang-format off */
#define POLY1305_ADD(limb, at) \
	"r9 = *(u32 *)(r4 + " at ")\n" \
	"r" limb " += r9\n"
#define POLY1305_MULTIPLY(product, limb, factor) \
	"r" product " = *(u64 *)%[" factor "]\n" \
	"r" product " *= r" limb "\n"
#define POLY1305_MULTIPLY_ADD(sum, limb, factor) \
	POLY1305_MULTIPLY("9", limb, factor) \
	"r" sum " += r9\n"
/* Of all limbs; last those that are known last. */
#define POLY1305_PRODUCTS(sum, f0, f1, f2, f3) \
	POLY1305_MULTIPLY(sum, "1", f1) \
	POLY1305_MULTIPLY_ADD(sum, "2", f2) \
	POLY1305_MULTIPLY_ADD(sum, "3", f3) \
	POLY1305_MULTIPLY_ADD(sum, "0", f0)
/* The low half of the sum becomes a limb, the rest goes to the next sum. */
#define POLY1305_CARRY(sum, limb, next) \
	"w" limb " = w" sum "\n" \
	"r" sum " >>= 32\n" \
	"r" next " += r" sum "\n"

/*
 * mac: on the stack, where it takes no register. m: blocks of 16 bytes, little endian; count: of
 * them, 1 to POLY1305_MAX_BLOCKS.
 *
 * In the machine's own instructions, as one block waits for the one before: the compiler has
 * limbs on the stack, too, and takes half as many instructions again. r0 to r3 are h, r4 the
 * place in m.
 */
INLINE void poly1305_blocks(struct poly1305 *mac, const void *m, u64 count)
{
	u64 at = (u64)m, left = count, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9;

	asm volatile(
		"r0 = *(u64 *)%[h0]\n"
		"r1 = *(u64 *)%[h1]\n"
		"r2 = *(u64 *)%[h2]\n"
		"r3 = *(u64 *)%[h3]\n"
		"r9 = *(u64 *)%[left]\n"
		"1:\n"
		"*(u64 *)%[left] = r9\n"
		"r4 = *(u64 *)%[at]\n"
		POLY1305_ADD("0", "0")
		POLY1305_ADD("1", "4")
		POLY1305_ADD("2", "8")
		"r5 = *(u32 *)(r4 + 12)\n"
		"r9 = 0x100000000 ll\n"
		"r5 += r9\n"
		"r3 += r5\n"
		"r4 += 16\n"
		"*(u64 *)%[at] = r4\n"
		POLY1305_PRODUCTS("5", "r0", "s3", "s2", "s1")
		POLY1305_PRODUCTS("7", "r1", "r0", "s3", "s2")
		POLY1305_CARRY("5", "6", "7")
		POLY1305_PRODUCTS("8", "r2", "r1", "r0", "s3")
		POLY1305_CARRY("7", "5", "8")
		POLY1305_PRODUCTS("4", "r3", "r2", "r1", "r0")
		POLY1305_CARRY("8", "7", "4")
		"r0 = r6\n"
		"r1 = r5\n"
		"r2 = r7\n"
		"r3 = r4\n"
		"r3 <<= 30\n"
		"r3 >>= 30\n"
		"r4 >>= 34\n"
		"r0 += r4\n"
		"r4 <<= 2\n"
		"r0 += r4\n"
		"r9 = *(u64 *)%[left]\n"
		"r9 += -1\n"
		"if r9 > 0 goto 1b\n" /* of "!=", verifiers before 6.8 learn nothing */
		/* For the verifier: whatever the count was, from here on it is the same. */
		"*(u64 *)%[left] = r9\n"
		"*(u64 *)%[at] = r9\n"
		"*(u64 *)%[h0] = r0\n"
		"*(u64 *)%[h1] = r1\n"
		"*(u64 *)%[h2] = r2\n"
		"*(u64 *)%[h3] = r3\n"
		: "=&r"(r0), "=&r"(r1), "=&r"(r2), "=&r"(r3), "=&r"(r4), "=&r"(r5), "=&r"(r6),
		  "=&r"(r7), "=&r"(r8), "=&r"(r9)
		: [at] "m"(at), [left] "m"(left), [h0] "m"(mac->h[0]), [h1] "m"(mac->h[1]),
		  [h2] "m"(mac->h[2]), [h3] "m"(mac->h[3]), [r0] "m"(mac->r[0]),
		  [r1] "m"(mac->r[1]), [r2] "m"(mac->r[2]), [r3] "m"(mac->r[3]),
		  [s1] "m"(mac->s[1]), [s2] "m"(mac->s[2]), [s3] "m"(mac->s[3])
		: "memory");
}
/* clang-format on */

/* tag: 4 words */
INLINE void poly1305_finish(const struct poly1305 *mac, u32 *tag)
{
	u32 h[4], g[4];
	u64 carry = 0, reduce, sum = 5;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		carry += mac->h[i];
		h[i] = carry;
		carry >>= 32;
	}
	/* Below 2p: h - p is h + 5 - 2^130, if that is not negative. */
#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum += h[i];
		g[i] = sum;
		sum >>= 32;
	}
	reduce = -((carry + sum) >> 2);
	OPAQUE(reduce); /* or the compiler would branch */
	sum = 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		sum += (u64)(h[i] ^ ((h[i] ^ g[i]) & (u32)reduce)) + mac->pad[i];
		tag[i] = sum;
		sum >>= 32;
	}
}
