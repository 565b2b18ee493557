/* Clones for program B as fast as they can be had, from any number of CPUs at once. */
#include "maps.h"

#define STAGE_UNDER_TEST 15

/* In probe. */
struct race {
	u64 next;  /* of all clones */
	u64 slots; /* from sequence 1 on; the position grows when all had their turn */
};

int racer(struct __sk_buff *skb)
{
	struct race *race = MAP_AT(PROBE, 0);
	u64 turn;

	if (!race || !race->slots)
		return TC_ACT_SHOT;
	turn = __sync_fetch_and_add(&race->next, 1);
	skb->cb[0] = CLONE_MAGIC;
	skb->cb[1] = 1 + turn % race->slots;
	skb->cb[2] = turn / race->slots;
	*(volatile u32 *)&skb->mark = CLONE_MARK;
	NEXT_STAGE(skb, STAGE_UNDER_TEST);
	return TC_ACT_SHOT;
}
