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
	u64 h[5] = {};
	u32 key[8], tag[4];
	PROBE;

#pragma unroll
	for (int i = 0; i < 8; i++)
		key[i] = probe->words[i];
	poly1305_begin(&probe->aead.mac, key);
	for (u32 at = 0; at < AEAD_MAX_LENGTH; at += 16) {
		if (at >= *(volatile u32 *)&probe->aead.length)
			break;
		poly1305_block(&probe->aead.mac, h, (u32 *)(probe->aead.text + at));
	}
	poly1305_finish(&probe->aead.mac, h, tag);
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
