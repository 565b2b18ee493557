/*
 * AEAD_CHACHA20_POLY1305 (RFC 8439 section 2.8) for QUIC packets (RFC 9001 section 5.3), in
 * place, on a structure in a per-CPU map.
 */
#pragma once

#include "bounds.h"
#include "chacha20.h"
#include "poly1305.h"

#define AEAD_TAG_SIZE   16
#define AEAD_AAD_SIZE   32
#define AEAD_MAX_LENGTH 1472 /* of the text, without its tag: whole blocks of ChaCha20 */
#define AEAD_TEXT_MASK  2047

struct aead {
	struct chacha20 cipher;
	struct poly1305 mac;
	u32 first[CHACHA20_BLOCK_WORDS]; /* the keystream of the text's first block */
	u32 aad_length;                  /* 1 to AEAD_AAD_SIZE */
	u32 length;                      /* of the text, without its tag: 1 to AEAD_MAX_LENGTH */
	u8 aad[AEAD_AAD_SIZE];           /* zero beyond aad_length */
	u8 text[AEAD_TEXT_MASK + 1 + CHACHA20_BLOCK_SIZE];
};

/*
 * Key and nonce of a packet; of the first two blocks, one is the key of its MAC, the other one the
 * text's first.
 */
INLINE void aead_begin(struct aead *aead, const struct keyset *keys, u64 packet_number)
{
	struct chacha20 *cipher = &aead->cipher;
	struct chacha20_states x;
	u32 key[8];

#pragma unroll
	for (int i = 0; i < 8; i++)
		cipher->key[i] = keys->key[i];
	cipher->nonce[0] = keys->iv[0];
	cipher->nonce[1] = keys->iv[1] ^ __builtin_bswap32(packet_number >> 32);
	cipher->nonce[2] = keys->iv[2] ^ __builtin_bswap32(packet_number);
	cipher->counter = 0;
	chacha20_two_blocks(cipher, &x);
#pragma unroll
	for (int i = 0; i < 8; i++)
		key[i] = chacha20_word(cipher, &x, 0, i);
	poly1305_begin(&aead->mac, key);
#pragma unroll
	for (int i = 0; i < CHACHA20_BLOCK_WORDS; i++)
		aead->first[i] = chacha20_word(cipher, &x, 1, i);
}

/* A key, and what it gave, is nowhere but in its connection, which user space erases. */
INLINE void aead_end(struct aead *aead)
{
	volatile u64 *key = (volatile u64 *)aead->cipher.key;
	volatile u64 *first = (volatile u64 *)aead->first;

#pragma unroll
	for (int i = 0; i < 4; i++)
		key[i] = 0;
#pragma unroll
	for (int i = 0; i < CHACHA20_BLOCK_WORDS / 2; i++)
		first[i] = 0;
}

/* Encrypts or decrypts the text. */
INLINE void aead_crypt(struct aead *aead)
{
	/* Read again each time: the verifier shall not tell the ways out of the loop apart. */
	const volatile u32 *length = &aead->length;

#pragma unroll
	for (int i = 0; i < CHACHA20_BLOCK_WORDS; i++)
		((u32 *)aead->text)[i] ^= aead->first[i];
	for (u32 at = CHACHA20_BLOCK_SIZE; at < AEAD_MAX_LENGTH; at += 2 * CHACHA20_BLOCK_SIZE) {
		if (at >= *length)
			break;
		aead->cipher.counter += 2;
		chacha20_xor(&aead->cipher, (u32 *)(aead->text + at));
	}
}

/* tag: 4 words, of the AAD and of the text, which is encrypted. 31 bytes behind it change. */
INLINE void aead_tag(struct aead *aead, u32 *tag)
{
	/* From the map: of numbers that it knows more about, the verifier tells more ways apart. */
	struct poly1305 mac = aead->mac;
	u64 end = aead->length;
	u64 blocks = (end + POLY1305_BLOCK_SIZE - 1) / POLY1305_BLOCK_SIZE;
	u64 lengths = blocks * POLY1305_BLOCK_SIZE;

	BOUND(end, AEAD_TEXT_MASK);
	BOUND(lengths, AEAD_TEXT_MASK);
	*(u64 *)(aead->text + end) = 0;
	*(u64 *)(aead->text + end + 8) = 0;
	*(u64 *)(aead->text + lengths) = aead->aad_length;
	*(u64 *)(aead->text + lengths + 8) = aead->length;
	SAME_FROM_HERE;
	poly1305_blocks(&mac, aead->aad, aead->aad_length > POLY1305_BLOCK_SIZE ? 2 : 1);
	SAME_FROM_HERE;
	poly1305_blocks(&mac, aead->text, SIZE(blocks + 1, POLY1305_MAX_BLOCKS - 1));
	SAME_FROM_HERE;
	poly1305_finish(&mac, tag);
}

/* aead: aad, aad_length, text and length set; aead_append_tag makes it whole. */
INLINE void aead_encrypt(struct aead *aead, const struct keyset *keys, u64 packet_number)
{
	aead_begin(aead, keys, packet_number);
	aead_crypt(aead);
	aead_end(aead);
}

/* The text is encrypted; the tag comes behind it. */
INLINE void aead_append_tag(struct aead *aead)
{
	u64 end = aead->length;
	u32 tag[4];

	aead_tag(aead, tag);
	BOUND(end, AEAD_TEXT_MASK);
	*(u64 *)(aead->text + end) = (u64)tag[1] << 32 | tag[0];
	*(u64 *)(aead->text + end + 8) = (u64)tag[3] << 32 | tag[2];
}

/*
 * Decrypts aead->text, whose tag is behind it. True if it is authentic; if it is not, the text
 * stays as it was, but not what is behind it.
 */
INLINE bool aead_open(struct aead *aead, const struct keyset *keys, u64 packet_number)
{
	u64 end = aead->length, low, high;
	u32 tag[4];

	BOUND(end, AEAD_TEXT_MASK);
	low = *(u64 *)(aead->text + end);
	high = *(u64 *)(aead->text + end + 8);
	aead_begin(aead, keys, packet_number);
	aead_tag(aead, tag);
	if (low != ((u64)tag[1] << 32 | tag[0]) || high != ((u64)tag[3] << 32 | tag[2])) {
		aead_end(aead);
		return false;
	}
	aead_crypt(aead);
	aead_end(aead);
	return true;
}
