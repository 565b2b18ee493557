/* Counts, in a stage of its own, UDP datagrams to port 7777, and lets everything pass. */
#include "count.h"

int server_ingress(struct __sk_buff *skb)
{
	u16 port = 0;
	bpf_skb_load_bytes(skb, 14 + 20 + 2, &port, sizeof(port));
	if (port == bpf_htons(7777))
		bpf_tail_call_((u64)MAP(PROGRAMS), skb, 0);
	return TC_ACT_UNSPEC;
}

int a_open(struct __sk_buff *skb)
{
	count(KEY_A);
	return RESULT;
}
