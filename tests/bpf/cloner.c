/* A small program A: of a test's packet it makes one clone for program B, of the next slot. */
#include "maps.h"

#ifdef ATTACH_POD
#define CLONE_FLAGS 0
#else
#define CLONE_FLAGS BPF_F_INGRESS
#endif
#define TEST_MAC 0x0a /* last byte of the source of a test's packets */

int cloner(struct __sk_buff *skb)
{
	u32 *sequence = MAP_AT(PROBE, 0);
	u8 last = 0;

	if (skb->mark == CLONE_MARK || !sequence)
		return TC_ACT_UNSPEC;
	bpf_skb_load_bytes(skb, 11, &last, sizeof(last));
	if (last != TEST_MAC)
		return TC_ACT_UNSPEC;
	skb->cb[0] = CLONE_MAGIC;
	skb->cb[1] = (*sequence)++;
	skb->cb[2] = 0;
	*(volatile u32 *)&skb->mark = CLONE_MARK;
	skb->queue_mapping = 3;
	skb->tc_index = 4;
	bpf_clone_redirect(skb, skb->ifindex, CLONE_FLAGS);
	return TC_ACT_SHOT;
}
