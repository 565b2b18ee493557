/* The quota (quota.h) on packets to the pod. */
#pragma once

#include "packet.h"
#include "quota.h"
#include "short_header.h"

#define ID_LENGTH_AT 5 /* RFC 8999 section 5.1 */
#define MAX_SEGMENTS 64

/* Zeros behind it. Its length, and that it is one, in the last word. */
INLINE void load_id(struct __sk_buff *skb, const struct udp_packet *packet, u64 *words)
{
	u32 at = packet->payload + ID_LENGTH_AT;
	u8 length = 0;

	words[0] = words[1] = words[2] = 0;
	bpf_skb_load_bytes(skb, at, &length, sizeof(length));
	if (length && length <= MAX_PEER_CONNECTION_ID) {
		u64 size = SIZE(length, 31);

		if (size <= MAX_PEER_CONNECTION_ID)
			bpf_skb_load_bytes(skb, at + 1, words, size);
	}
	words[2] = *(u32 *)&words[2] | (u64)length << 32 |
		   (u64)QUOTA_KIND_CONNECTION_ID << QUOTA_KIND_SHIFT;
}

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
	if (quota_passes(quota, quota_reason(quota, seed, &packet, id)))
		return TC_ACT_UNSPEC;
	return TC_ACT_SHOT;
}
