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

/*
 * The rounds are written in the machine's own instructions: bcc's compiler knows no 32-bit ones,
 * and takes twice as many. Nine of the sixteen words are in registers, the others on the stack;
 * which word gives its register to which is the result of a search for the fewest exchanges, with
 * every word in its place again after a double round.
 *
 * r9 * v has v in both halves, of which a shift to the right makes a rotation.
 */
#define CHACHA20_TWICE "r9 = 0x100000001 ll\n"
#define CHACHA20_STEP(x, y, z, right)                                                              \
	"w" x " += w" y "\n"                                                                       \
	"w" z " ^= w" x "\n"                                                                       \
	"r" z " *= r9\n"                                                                           \
	"r" z " >>= " right "\n"

#define CHACHA20_QUARTER_ROUND(a, b, c, d)                                                         \
	CHACHA20_STEP(a, b, d, "16")                                                               \
	CHACHA20_STEP(c, d, b, "20")                                                               \
	CHACHA20_STEP(a, b, d, "24")                                                               \
	CHACHA20_STEP(c, d, b, "25")

#define CHACHA20_LOAD(reg, word)        "w" reg " = *(u32 *)%[x" word "]\n"
#define CHACHA20_STORE(reg, word)       "*(u32 *)%[x" word "] = w" reg "\n"
#define CHACHA20_EXCHANGE(reg, out, in) CHACHA20_STORE(reg, out) CHACHA20_LOAD(reg, in)

/* Each register and its word, before and after a double round. */
#define CHACHA20_HELD(each)                                                                        \
	each("0", "3") each("1", "7") each("2", "11") each("3", "15") each("4", "5")               \
		each("5", "4") each("6", "6") each("7", "12") each("8", "1")

/* clang-format off */
/* x: 16 words, on the stack */
INLINE void chacha20_rounds(u32 *x)
{
	u64 left, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9;

	asm volatile(
		"r0 = 10\n"
		"*(u64 *)%[left] = r0\n"
		CHACHA20_HELD(CHACHA20_LOAD)
		CHACHA20_TWICE
		"1:\n"
		CHACHA20_QUARTER_ROUND("0", "1", "2", "3")
		CHACHA20_EXCHANGE("2", "11", "2")
		CHACHA20_EXCHANGE("0", "3", "10")
		CHACHA20_EXCHANGE("3", "15", "14")
		CHACHA20_QUARTER_ROUND("2", "6", "0", "3")
		CHACHA20_EXCHANGE("0", "10", "9")
		CHACHA20_EXCHANGE("2", "2", "13")
		CHACHA20_QUARTER_ROUND("8", "4", "0", "2")
		CHACHA20_EXCHANGE("8", "1", "0")
		CHACHA20_EXCHANGE("0", "9", "8")
		CHACHA20_QUARTER_ROUND("8", "5", "0", "7")
		CHACHA20_EXCHANGE("8", "0", "2")
		CHACHA20_QUARTER_ROUND("8", "1", "0", "2")
		CHACHA20_EXCHANGE("0", "8", "3")
		CHACHA20_EXCHANGE("8", "2", "9")
		CHACHA20_QUARTER_ROUND("0", "5", "8", "3")
		CHACHA20_EXCHANGE("8", "9", "0")
		CHACHA20_EXCHANGE("2", "13", "10")
		CHACHA20_EXCHANGE("3", "14", "15")
		CHACHA20_QUARTER_ROUND("8", "4", "2", "3")
		CHACHA20_EXCHANGE("8", "0", "1")
		CHACHA20_EXCHANGE("2", "10", "11")
		CHACHA20_QUARTER_ROUND("8", "6", "2", "7")
		"r9 = *(u64 *)%[left]\n"
		"r9 += -1\n"
		"*(u64 *)%[left] = r9\n"
		"if r9 == 0 goto 2f\n"
		CHACHA20_TWICE
		"goto 1b\n"
		"2:\n"
		CHACHA20_HELD(CHACHA20_STORE)
		: "=&r"(r0), "=&r"(r1), "=&r"(r2), "=&r"(r3), "=&r"(r4), "=&r"(r5), "=&r"(r6),
		  "=&r"(r7), "=&r"(r8), "=&r"(r9)
		: [left] "m"(left), [x0] "m"(x[0]), [x1] "m"(x[1]), [x2] "m"(x[2]),
		  [x3] "m"(x[3]), [x4] "m"(x[4]), [x5] "m"(x[5]), [x6] "m"(x[6]), [x7] "m"(x[7]),
		  [x8] "m"(x[8]), [x9] "m"(x[9]), [x10] "m"(x[10]), [x11] "m"(x[11]),
		  [x12] "m"(x[12]), [x13] "m"(x[13]), [x14] "m"(x[14]), [x15] "m"(x[15])
		: "memory");
}
/* clang-format on */

/* x: 16 words */
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
