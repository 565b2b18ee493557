/* Packet numbers, the replay window and integers, one by one: see the map probe. */
#include "maps.h"
#include "packet_number.h"
#include "varint.h"

struct probe {
	u64 words[3];
	u64 result;
	u64 read; /* bytes of an integer */
	u64 overran;
	u64 end;
	u64 at;
	u8 text[AEAD_TEXT_MASK + 1 + CHACHA20_BLOCK_SIZE];
};

#define PROBE                                                                                      \
	struct probe *probe = MAP_AT(PROBE, 0);                                                    \
	if (!probe)                                                                                \
		return TC_ACT_SHOT

/* words: largest, truncated, bits. */
int probe_number(struct __sk_buff *skb)
{
	PROBE;

	probe->result =
		packet_number_decode(probe->words[0], probe->words[1], probe->words[2]);
	return TC_ACT_UNSPEC;
}

/* words[0]: a number that connection 0 received. */
int probe_replay(struct __sk_buff *skb)
{
	struct connection *connection = MAP_AT(CONNECTIONS, 0);
	PROBE;

	if (!connection)
		return TC_ACT_SHOT;
	probe->result = replay_check(connection, probe->words[0]);
	return TC_ACT_UNSPEC;
}

#define READ(function)                                                                             \
	{                                                                                          \
		struct cursor cursor = {};                                                         \
		PROBE;                                                                             \
		cursor.text = probe->text;                                                         \
		cursor.at = probe->at;                                                             \
		cursor.end = probe->end;                                                           \
		probe->result = function(&cursor);                                                 \
		probe->read = cursor.at - probe->at;                                               \
		probe->overran = overran(&cursor);                                                 \
		return TC_ACT_UNSPEC;                                                              \
	}

int probe_varint(struct __sk_buff *skb)
{
	READ(read_varint);
}

int probe_moqt_varint(struct __sk_buff *skb)
{
	READ(read_moqt_varint);
}
