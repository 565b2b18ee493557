/* ChaCha20 (RFC 8439 section 2.3). */
#pragma once

#include "maps.h"

/* Words 4 to 15 of the initial state. */
struct chacha20 {
	u32 key[8];
	u32 counter;
	u32 nonce[3];
};

#define CHACHA20_BLOCK_SIZE  64
#define CHACHA20_BLOCK_WORDS 16

/* The states of two blocks, by rows: columns 0 to 3 are the first block's. */
struct chacha20_states {
	u32 a[8];
	u32 b[16]; /* the odd ones: the high halves of words of 64 bits */
	u32 c[8];
	u32 d[8];
} __attribute__((aligned(8)));

#define CHACHA20_B(column) (2 * (column) + 1)

/*
 * The rounds are written in the machine's own instructions: bcc's compiler knows no 32-bit ones,
 * and takes twice as many. A block is a chain of instructions that wait for each other; two, a
 * round of one and then a round of the other, fill the time. Nine words are in registers, the
 * others on the stack; which word gives its register to which is the result of a search for the
 * fewest instructions, with every word in its place again after a double round.
 *
 * v * (2^39 + 2^7) has v, rotated by 7, in its high half; shifted to the right by 39 - n, it is v
 * rotated by n. For a word of b that goes to the stack the high half is read from there later.
 */
#define CHACHA20_STEP(x, y, z)                                                                     \
	"w" x " += w" y "\n"                                                                       \
	"w" z " ^= w" x "\n"                                                                       \
	"r" z " *= r9\n"
#define CHACHA20_SHIFT(reg, right) "r" reg " >>= " right "\n"

/* b is left in the high half. */
#define CHACHA20_QUARTER_ROUND_HIGH(a, b, c, d)                                                    \
	CHACHA20_STEP(a, b, d)                                                                     \
	CHACHA20_SHIFT(d, "23")                                                                    \
	CHACHA20_STEP(c, d, b)                                                                     \
	CHACHA20_SHIFT(b, "27")                                                                    \
	CHACHA20_STEP(a, b, d)                                                                     \
	CHACHA20_SHIFT(d, "31")                                                                    \
	CHACHA20_STEP(c, d, b)
#define CHACHA20_QUARTER_ROUND(a, b, c, d)                                                         \
	CHACHA20_QUARTER_ROUND_HIGH(a, b, c, d)                                                    \
	CHACHA20_SHIFT(b, "32")

#define CHACHA20_LOAD(reg, word)             "w" reg " = *(u32 *)%[" word "]\n"
#define CHACHA20_STORE(reg, word)            "*(u32 *)%[" word "] = w" reg "\n"
#define CHACHA20_STORE_HIGH(reg, word)       "*(u64 *)%[whole_" word "] = r" reg "\n"
#define CHACHA20_EXCHANGE(reg, out, in)      CHACHA20_STORE(reg, out) CHACHA20_LOAD(reg, in)
#define CHACHA20_EXCHANGE_HIGH(reg, out, in) CHACHA20_STORE_HIGH(reg, out) CHACHA20_LOAD(reg, in)

#define CHACHA20_PLACE(name, word) [name] "m"(word)
#define CHACHA20_COLUMN(i)                                                                         \
	CHACHA20_PLACE(a##i, x->a[i]), CHACHA20_PLACE(b##i, x->b[CHACHA20_B(i)]),                  \
		CHACHA20_PLACE(whole_b##i, x->b[CHACHA20_B(i) - 1]),                               \
		CHACHA20_PLACE(c##i, x->c[i]), CHACHA20_PLACE(d##i, x->d[i])

/* clang-format off */
/* held: each register and its word, before and after a double round. */
#define CHACHA20_ROUNDS(held, double_round, ...) \
	do { \
		u64 left, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9; \
		asm volatile( \
			"r0 = 10\n" \
			"*(u64 *)%[left] = r0\n" \
			held(CHACHA20_LOAD) \
			"1:\n" \
			"r9 = 0x8000000080 ll\n" \
			double_round \
			"r9 = *(u64 *)%[left]\n" \
			"r9 += -1\n" \
			"*(u64 *)%[left] = r9\n" \
			"if r9 != 0 goto 1b\n" \
			held(CHACHA20_STORE) \
			: "=&r"(r0), "=&r"(r1), "=&r"(r2), "=&r"(r3), "=&r"(r4), "=&r"(r5), \
			  "=&r"(r6), "=&r"(r7), "=&r"(r8), "=&r"(r9) \
			: [left] "m"(left), __VA_ARGS__ \
			: "memory"); \
	} while (0)

#define CHACHA20_HELD(each) \
	each("0", "a3") each("1", "b3") each("2", "c3") each("3", "d3") each("4", "b1") \
	each("5", "b0") each("6", "b2") each("7", "d0") each("8", "a1")
#define CHACHA20_DOUBLE_ROUND \
	CHACHA20_QUARTER_ROUND("0", "1", "2", "3") \
	CHACHA20_EXCHANGE("2", "c3", "a2") CHACHA20_EXCHANGE("0", "a3", "c2") \
	CHACHA20_EXCHANGE("3", "d3", "d2") \
	CHACHA20_QUARTER_ROUND("2", "6", "0", "3") \
	CHACHA20_EXCHANGE("0", "c2", "c1") CHACHA20_EXCHANGE("2", "a2", "d1") \
	CHACHA20_QUARTER_ROUND("8", "4", "0", "2") \
	CHACHA20_EXCHANGE("8", "a1", "a0") CHACHA20_EXCHANGE("0", "c1", "c0") \
	CHACHA20_QUARTER_ROUND("8", "5", "0", "7") \
	CHACHA20_EXCHANGE("8", "a0", "a2") \
	CHACHA20_QUARTER_ROUND("8", "1", "0", "2") \
	CHACHA20_EXCHANGE("0", "c0", "a3") CHACHA20_EXCHANGE("8", "a2", "c1") \
	CHACHA20_QUARTER_ROUND("0", "5", "8", "3") \
	CHACHA20_EXCHANGE("8", "c1", "a0") CHACHA20_EXCHANGE("2", "d1", "c2") \
	CHACHA20_EXCHANGE("3", "d2", "d3") \
	CHACHA20_QUARTER_ROUND("8", "4", "2", "3") \
	CHACHA20_EXCHANGE("8", "a0", "a1") CHACHA20_EXCHANGE("2", "c2", "c3") \
	CHACHA20_QUARTER_ROUND("8", "6", "2", "7")

#define CHACHA20_HELD_OF_TWO(each) \
	each("0", "d3") each("1", "c2") each("2", "c7") each("3", "c3") each("4", "a5") \
	each("5", "a3") each("6", "d4") each("7", "b6") each("8", "a7")
#define CHACHA20_DOUBLE_ROUND_OF_TWO \
	CHACHA20_EXCHANGE("7", "b6", "b3") \
	CHACHA20_QUARTER_ROUND_HIGH("5", "7", "3", "0") \
	CHACHA20_EXCHANGE_HIGH("7", "b3", "c1") CHACHA20_EXCHANGE("0", "d3", "a1") \
	CHACHA20_EXCHANGE("3", "c3", "b1") CHACHA20_EXCHANGE("6", "d4", "d1") \
	CHACHA20_QUARTER_ROUND_HIGH("0", "3", "7", "6") \
	CHACHA20_EXCHANGE_HIGH("3", "b1", "a2") CHACHA20_EXCHANGE("0", "a1", "b2") \
	CHACHA20_EXCHANGE("6", "d1", "d2") \
	CHACHA20_QUARTER_ROUND_HIGH("3", "0", "1", "6") \
	CHACHA20_EXCHANGE_HIGH("0", "b2", "d0") CHACHA20_EXCHANGE("1", "c2", "c0") \
	CHACHA20_EXCHANGE("7", "c1", "b0") CHACHA20_EXCHANGE("3", "a2", "a0") \
	CHACHA20_QUARTER_ROUND_HIGH("3", "7", "1", "0") \
	CHACHA20_EXCHANGE_HIGH("7", "b0", "d7") CHACHA20_EXCHANGE("3", "a0", "b7") \
	CHACHA20_QUARTER_ROUND_HIGH("8", "3", "2", "7") \
	CHACHA20_EXCHANGE_HIGH("3", "b7", "d5") CHACHA20_EXCHANGE("2", "c7", "c5") \
	CHACHA20_EXCHANGE("7", "d7", "b5") \
	CHACHA20_QUARTER_ROUND_HIGH("4", "7", "2", "3") \
	CHACHA20_EXCHANGE_HIGH("7", "b5", "a6") CHACHA20_EXCHANGE("4", "a5", "c6") \
	CHACHA20_EXCHANGE("2", "c5", "b6") CHACHA20_EXCHANGE("8", "a7", "d6") \
	CHACHA20_QUARTER_ROUND_HIGH("7", "2", "4", "8") \
	CHACHA20_EXCHANGE_HIGH("2", "b6", "c4") CHACHA20_EXCHANGE("4", "c6", "a4") \
	CHACHA20_EXCHANGE("8", "d6", "b4") CHACHA20_EXCHANGE("3", "d5", "d4") \
	CHACHA20_QUARTER_ROUND_HIGH("4", "8", "2", "3") \
	CHACHA20_EXCHANGE_HIGH("8", "b4", "b0") CHACHA20_EXCHANGE("3", "d4", "c1") \
	CHACHA20_QUARTER_ROUND_HIGH("5", "8", "3", "6") \
	CHACHA20_EXCHANGE_HIGH("8", "b0", "b3") CHACHA20_EXCHANGE("6", "d2", "d1") \
	CHACHA20_EXCHANGE("3", "c1", "a2") \
	CHACHA20_QUARTER_ROUND_HIGH("3", "8", "1", "6") \
	CHACHA20_EXCHANGE_HIGH("8", "b3", "a1") CHACHA20_EXCHANGE("1", "c0", "b2") \
	CHACHA20_EXCHANGE("3", "a2", "c3") \
	CHACHA20_QUARTER_ROUND_HIGH("8", "1", "3", "0") \
	CHACHA20_EXCHANGE_HIGH("1", "b2", "c2") CHACHA20_EXCHANGE("0", "d0", "d3") \
	CHACHA20_EXCHANGE("8", "a1", "b1") CHACHA20_EXCHANGE("6", "d1", "a0") \
	CHACHA20_QUARTER_ROUND_HIGH("6", "8", "1", "0") \
	CHACHA20_EXCHANGE_HIGH("8", "b1", "d5") CHACHA20_EXCHANGE("6", "a0", "b7") \
	CHACHA20_QUARTER_ROUND_HIGH("7", "6", "2", "8") \
	CHACHA20_EXCHANGE_HIGH("6", "b7", "b4") CHACHA20_EXCHANGE("7", "a6", "a7") \
	CHACHA20_EXCHANGE("2", "c4", "c5") CHACHA20_EXCHANGE("8", "d5", "d6") \
	CHACHA20_QUARTER_ROUND_HIGH("7", "6", "2", "8") \
	CHACHA20_EXCHANGE_HIGH("6", "b4", "b5") CHACHA20_EXCHANGE("8", "d6", "c6") \
	CHACHA20_EXCHANGE("2", "c5", "d7") \
	CHACHA20_QUARTER_ROUND_HIGH("4", "6", "8", "2") \
	CHACHA20_EXCHANGE_HIGH("6", "b5", "d4") CHACHA20_EXCHANGE("4", "a4", "a5") \
	CHACHA20_EXCHANGE("8", "c6", "c7") CHACHA20_EXCHANGE("7", "a7", "b6") \
	CHACHA20_QUARTER_ROUND("4", "7", "8", "6") CHACHA20_STORE("2", "d7") \
	CHACHA20_STORE("8", "c7") CHACHA20_LOAD("8", "a7") \
	CHACHA20_LOAD("2", "c7")
/* clang-format on */

/* Of the first block. */
INLINE void chacha20_rounds(struct chacha20_states *x)
{
	CHACHA20_ROUNDS(CHACHA20_HELD, CHACHA20_DOUBLE_ROUND, CHACHA20_COLUMN(0),
			CHACHA20_COLUMN(1), CHACHA20_COLUMN(2), CHACHA20_COLUMN(3));
}

INLINE void chacha20_rounds_of_two(struct chacha20_states *x)
{
	CHACHA20_ROUNDS(CHACHA20_HELD_OF_TWO, CHACHA20_DOUBLE_ROUND_OF_TWO, CHACHA20_COLUMN(0),
			CHACHA20_COLUMN(1), CHACHA20_COLUMN(2), CHACHA20_COLUMN(3),
			CHACHA20_COLUMN(4), CHACHA20_COLUMN(5), CHACHA20_COLUMN(6),
			CHACHA20_COLUMN(7));
}

/* Word i of the initial state of block cipher->counter + block. */
INLINE u32 chacha20_initial(const struct chacha20 *cipher, int block, int i)
{
	switch (i) {
	case 0:
		return 0x61707865;
	case 1:
		return 0x3320646e;
	case 2:
		return 0x79622d32;
	case 3:
		return 0x6b206574;
	case 12:
		return cipher->counter + block;
	}
	return i < 12 ? cipher->key[i - 4] : cipher->nonce[i - 13];
}

/* blocks: 1 or 2, from cipher->counter on */
INLINE void chacha20_begin(const struct chacha20 *cipher, struct chacha20_states *x, int blocks)
{
#pragma unroll
	for (int column = 0; column < 4 * blocks; column++) {
		int block = column / 4, i = column % 4;

		x->a[column] = chacha20_initial(cipher, block, i);
		x->b[CHACHA20_B(column)] = chacha20_initial(cipher, block, 4 + i);
		x->c[column] = chacha20_initial(cipher, block, 8 + i);
		x->d[column] = chacha20_initial(cipher, block, 12 + i);
	}
}

/* The states of blocks cipher->counter and the next one, after the rounds. */
INLINE void chacha20_two_blocks(const struct chacha20 *cipher, struct chacha20_states *x)
{
	chacha20_begin(cipher, x, 2);
	chacha20_rounds_of_two(x);
}

/* Word i of the keystream of block cipher->counter + block. */
INLINE u32 chacha20_word(const struct chacha20 *cipher, const struct chacha20_states *x, int block,
			 int i)
{
	int column = 4 * block + i % 4;
	u32 word = i < 4    ? x->a[column]
		   : i < 8  ? x->b[CHACHA20_B(column)]
		   : i < 12 ? x->c[column]
			    : x->d[column];

	return word + chacha20_initial(cipher, block, i);
}

/* words: 16, become the keystream of block cipher->counter. */
INLINE void chacha20_block(const struct chacha20 *cipher, u32 *words)
{
	struct chacha20_states x;

	chacha20_begin(cipher, &x, 1);
	chacha20_rounds(&x);
#pragma unroll
	for (int i = 0; i < CHACHA20_BLOCK_WORDS; i++)
		words[i] = chacha20_word(cipher, &x, 0, i);
}

/* data: 128 bytes, encrypted or decrypted with block cipher->counter and the next one. */
INLINE void chacha20_xor(const struct chacha20 *cipher, u32 *data)
{
	struct chacha20_states x;

	chacha20_two_blocks(cipher, &x);
#pragma unroll
	for (int i = 0; i < 2 * CHACHA20_BLOCK_WORDS; i++)
		data[i] ^= chacha20_word(cipher, &x, i / 16, i % 16);
}
