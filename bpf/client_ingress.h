/* The quota (quota.h) on packets to the pod. */
#pragma once

#define THIS_HOOK QUOTA_HOOK_VETH

#include "packet.h"
#include "quota.h"

#define MAX_SEGMENTS 64

/* Whether nothing in it belongs to a connection that there is: each segment is a first packet. */
INLINE bool all_open(struct __sk_buff *skb, const struct udp_packet *packet)
{
	struct quic_start start;

	for (u32 i = 1; i < MAX_SEGMENTS; i++) {
		u32 at = i * skb->gso_size;

		if (at >= packet->payload_length)
			return true;
		if (bpf_skb_load_bytes(skb, packet->payload + at, &start.first, QUIC_START_SIZE) ||
		    !is_opening(&start))
			return false;
	}
	return false;
}

/* What becomes of a packet that would open a connection. */
INLINE int admit(struct __sk_buff *skb)
{
	struct shared *shared = MAP_AT(SHARED, 0);
	struct quota *quota = MAP_AT(QUOTA, 0);
	u64 id[SIPHASH_WORDS], seed[2];
	struct udp_packet packet;
	struct quota_row *row;
	u32 reason;

	if (!shared || !quota || !LOAD(quota->enabled) || parse_packet(skb, &packet) ||
	    packet.destination_port != quota->port)
		return TC_ACT_UNSPEC;
	if (skb->gso_size && skb->gso_size < packet.payload_length && !all_open(skb, &packet)) {
		count(REASON_C_QUOTA_MIXED);
		return TC_ACT_UNSPEC;
	}
	seed[0] = shared->seed[0];
	seed[1] = shared->seed[1];
	load_id(skb, &packet, id);
	reason = quota_reason(quota, seed, &packet, id, &row);
	count(reason);
	count_refused(row);
	if (!quota_passes(quota, reason))
		return TC_ACT_SHOT;
	if (reason > REASON_C_QUOTA_ANSWERED)
		count(REASON_C_QUOTA_ANSWERED);
	return TC_ACT_UNSPEC;
}
