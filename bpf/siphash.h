/*
 * SipHash-1-3 (Aumasson, Bernstein 2012; the rounds that they recommend for hash tables) of a
 * message of 24 bytes, as three words.
 */
#pragma once

#include "maps.h"

#define SIPHASH_WORDS 3

struct sip {
	u64 v0, v1, v2, v3;
};

#define ROTATE_LEFT(v, n) ((v) << (n) | (v) >> (64 - (n)))

INLINE void sip_rounds(struct sip *s, u32 rounds)
{
#pragma unroll
	for (u32 i = 0; i < rounds; i++) {
		s->v0 += s->v1;
		s->v2 += s->v3;
		s->v1 = ROTATE_LEFT(s->v1, 13) ^ s->v0;
		s->v3 = ROTATE_LEFT(s->v3, 16) ^ s->v2;
		s->v0 = ROTATE_LEFT(s->v0, 32);
		s->v2 += s->v1;
		s->v0 += s->v3;
		s->v1 = ROTATE_LEFT(s->v1, 17) ^ s->v2;
		s->v3 = ROTATE_LEFT(s->v3, 21) ^ s->v0;
		s->v2 = ROTATE_LEFT(s->v2, 32);
	}
}

INLINE void sip_word(struct sip *s, u64 word)
{
	s->v3 ^= word;
	sip_rounds(s, 1);
	s->v0 ^= word;
}

INLINE u64 siphash(const u64 *key, const u64 *words)
{
	struct sip s;

	s.v0 = key[0] ^ 0x736f6d6570736575;
	s.v1 = key[1] ^ 0x646f72616e646f6d;
	s.v2 = key[0] ^ 0x6c7967656e657261;
	s.v3 = key[1] ^ 0x7465646279746573;
	sip_word(&s, words[0]);
	sip_word(&s, words[1]);
	sip_word(&s, words[2]);
	sip_word(&s, (u64)(8 * SIPHASH_WORDS) << 56);
	s.v2 ^= 0xff;
	sip_rounds(&s, 3);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
