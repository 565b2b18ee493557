/* What programs share with the relay: a counter, claim words, a ring. One round a run. */
#include "claim.h"
#include "maps.h"

int sharing(struct __sk_buff *skb)
{
	struct connection *connection = MAP_AT(CONNECTIONS, 3);
	struct slot *slot = MAP_AT(SLOTS, 5);
	struct report *report, *unused;
	u64 number, word;
	u32 position;

	if (!connection || !slot)
		return TC_ACT_SHOT;
	report = bpf_ringbuf_reserve(MAP(REPORTS), sizeof(*report), 0);
	if (!report)
		return TC_ACT_SHOT;
	number = __sync_fetch_and_add(&connection->packet_number, 1);
	position = number % ARRAY_MEMBERS;
	word = position >> 5;
	BOUND(word, CLAIM_WORDS - 1);
	report->packet_number = number;
	report->time = 0;
	report->sequence = report->connection = report->size = 0;
	report->position = position;
	report->outcome = claim(slot, 5, position);
	__builtin_memset(report->reserved, 0, sizeof(report->reserved));
	bpf_ringbuf_submit(report, 0);
	if (number % 5 == 0) {
		unused = bpf_ringbuf_reserve(MAP(REPORTS), sizeof(*unused), 0);
		if (unused)
			bpf_ringbuf_discard(unused, 0);
	}
	return TC_ACT_UNSPEC;
}
