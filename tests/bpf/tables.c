/* What programs find in a table: the map routes, with the seed of shared. */
#include "table.h"

struct probe {
	u64 key;
	u32 owner;
	u32 found;
	u64 keys;     /* of reader: 0 to this one are looked for in turn */
	u64 lookups;  /* of reader */
	u64 hits;     /* of reader */
	u64 mistakes; /* of reader */
};

int lookup(struct __sk_buff *skb)
{
	struct probe *probe = MAP_AT(PROBE, 0);
	struct shared *shared = MAP_AT(SHARED, 0);

	if (!probe || !shared)
		return TC_ACT_SHOT;
	probe->found = TABLE_FIND(ROUTES, shared->seed, probe->key, probe->owner);
	return TC_ACT_UNSPEC;
}

/* Finds nothing but what was put under the key of the moment: its number, as the value. */
int reader(struct __sk_buff *skb)
{
	struct probe *probe = MAP_AT(PROBE, 0);
	struct shared *shared = MAP_AT(SHARED, 0);
	u64 key;
	u32 found;

	if (!probe || !shared)
		return TC_ACT_SHOT;
	key = probe->lookups++ & (probe->keys - 1);
	found = TABLE_FIND(ROUTES, shared->seed, key, 1);
	if (found == TABLE_NONE)
		return TC_ACT_UNSPEC;
	probe->hits++;
	if (found != key)
		probe->mistakes++;
	return TC_ACT_UNSPEC;
}
