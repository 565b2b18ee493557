/* A packet whose sum the stack keeps (CHECKSUM_COMPLETE), and what it has kept of a clone. */
#include "maps.h"

/* In probe, behind the sequence for cloner.c. */
struct sums {
	u32 sequence;
	u32 came; /* an error's number: no sum was kept */
	u32 left;
	u32 device;
};

/* At a tunnel's end: on to the pod's device, as some networks do. */
int redirecting(struct __sk_buff *skb)
{
	struct sums *sums = MAP_AT(PROBE, 0);

	if (!sums)
		return TC_ACT_SHOT;
	sums->came = bpf_csum_update(skb, 0);
	return bpf_redirect(sums->device, 0);
}

/* Behind program B. */
int left(struct __sk_buff *skb)
{
	struct sums *sums = MAP_AT(PROBE, 0);

	if (sums)
		sums->left = bpf_csum_update(skb, 0);
	return TC_ACT_UNSPEC;
}
