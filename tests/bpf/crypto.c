/* The parts of the crypto one by one: what goes in and comes out is in the map probe. */
#include "maps.h"
#include "aead.h"
#include "header_protection.h"

struct probe {
	struct keyset keys;
	u64 packet_number;
	u64 result;
	u32 words[16];
	struct aead aead;
};

_Static_assert(sizeof(struct aead) == AEAD_STRUCT_SIZE, "the test's idea of struct aead");

#define PROBE                                                                                      \
	struct probe *probe = MAP_AT(PROBE, 0);                                                    \
	if (!probe)                                                                                \
		return TC_ACT_SHOT

/* words becomes the block of aead.cipher. */
int probe_chacha20(struct __sk_buff *skb)
{
	u32 block[16];
	PROBE;

	chacha20_block(&probe->aead.cipher, block);
#pragma unroll
	for (int i = 0; i < 16; i++)
		probe->words[i] = block[i];
	return TC_ACT_UNSPEC;
}

/* words 0..3 become the tag of aead.text (whole blocks) under the key in words 0..7. */
int probe_poly1305(struct __sk_buff *skb)
{
	struct poly1305 mac;
	u32 key[8], tag[4];
	PROBE;

#pragma unroll
	for (int i = 0; i < 8; i++)
		key[i] = probe->words[i];
	poly1305_begin(&mac, key);
	poly1305_blocks(&mac, probe->aead.text,
			SIZE(probe->aead.length / POLY1305_BLOCK_SIZE, POLY1305_MAX_BLOCKS - 1));
	poly1305_finish(&mac, tag);
#pragma unroll
	for (int i = 0; i < 4; i++)
		probe->words[i] = tag[i];
	return TC_ACT_UNSPEC;
}

int probe_seal(struct __sk_buff *skb)
{
	PROBE;

	aead_encrypt(&probe->aead, &probe->keys, probe->packet_number);
	aead_append_tag(&probe->aead);
	return TC_ACT_UNSPEC;
}

/* result: whether it was authentic. */
int probe_open(struct __sk_buff *skb)
{
	PROBE;

	probe->result = aead_open(&probe->aead, &probe->keys, probe->packet_number);
	return TC_ACT_UNSPEC;
}

/* result: the mask for the sample in words 8..11 under the key in words 0..7. */
int probe_mask(struct __sk_buff *skb)
{
	PROBE;

	probe->result = header_protection_mask(probe->words, probe->words + 8);
	return TC_ACT_UNSPEC;
}
