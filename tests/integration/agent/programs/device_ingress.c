/* Drops UDP datagrams to port 7777, and counts them. */
#include "count.h"

int device_ingress(struct xdp_md *frame)
{
	u16 port = 0;
	bpf_xdp_load_bytes(frame, 14 + 20 + 2, &port, sizeof(port));
	if (port != bpf_htons(7777))
		return XDP_PASS;
	count(KEY_A);
	return XDP_DROP;
}
