/*
 * Where packets to a peer go on the pod's link. Its own packets come from there: from the next
 * hop, or from itself if it is on the link too (a bridge). Program A sees them.
 */
#pragma once

#include "atomic.h"
#include "maps.h"

/* Destination and source of a packet, turned round: both 12 bytes. */
INLINE void turn_round(u32 *back, const u32 *came)
{
	back[0] = came[1] >> 16 | came[2] << 16;
	back[1] = came[2] >> 16 | came[0] << 16;
	back[2] = came[0] >> 16 | came[1] << 16;
}

/* The packet is the peer's, by its addresses and connection id. */
INLINE void learn_link(struct __sk_buff *skb, struct connection *connection)
{
	u32 *link = (u32 *)connection->link;
	u32 came[3], back[3];

	if (bpf_skb_load_bytes(skb, 0, came, sizeof(came)))
		return;
	turn_round(back, came);
#pragma unroll
	for (int i = 0; i < 3; i++)
		if (LOAD(link[i]) != back[i])
			link[i] = back[i];
}
