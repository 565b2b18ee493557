/* Counts, in a stage of its own, UDP datagrams from port 7777, and lets everything pass. */
#include "count.h"

int client_egress(struct __sk_buff *skb)
{
	u16 port = 0;
	bpf_skb_load_bytes(skb, 14 + 20, &port, sizeof(port));
	if (port == bpf_htons(7777))
		bpf_tail_call_((u64)MAP(PROGRAMS), skb, 8);
	return TC_ACT_UNSPEC;
}

int b_build(struct __sk_buff *skb)
{
	count(KEY_B);
	return RESULT;
}
