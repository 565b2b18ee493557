/* Rows of streams, claimed by several CPUs and given back by the relay. */
#include "stream.h"

struct probe {
	u64 next;     /* number of the key that is claimed next */
	u64 claimed;  /* so often a row was had */
	u64 refused;  /* so often there was none */
	u64 looked;   /* of looker: keys that were there */
	u64 mistakes; /* of looker: these were not found, though they stayed where they were */
	u32 owners[STREAMS];
};

#define CONNECTION 3

INLINE struct work *prepared(void)
{
	struct shared *shared = MAP_AT(SHARED, 0);
	struct work *work = packet_in_work();

	if (!shared || !work)
		return NULL;
	work->seed[0] = shared->seed[0];
	work->seed[1] = shared->seed[1];
	return work;
}

int claimer(struct __sk_buff *skb)
{
	struct probe *probe = MAP_AT(PROBE, 0);
	struct work *work = prepared();
	u64 place;

	if (!probe || !work)
		return TC_ACT_SHOT;
	place = stream_claim(work,
			     stream_key(CONNECTION, 4 * __sync_fetch_and_add(&probe->next, 1) + 2));
	if (place >= STREAMS) {
		ADD(probe->refused, 1);
		return TC_ACT_UNSPEC;
	}
	ADD(probe->claimed, 1);
	BOUND(place, STREAMS - 1);
	ADD(probe->owners[place], 1);
	return TC_ACT_UNSPEC;
}

/* A key that is there when it is read, and after it was looked for, has to be found. */
int looker(struct __sk_buff *skb)
{
	struct probe *probe = MAP_AT(PROBE, 0);
	u32 row = bpf_get_prandom_u32() % STREAMS, found;
	struct stream_bucket *bucket = MAP_AT(STREAM_INDEX, row / STREAM_BUCKET_KEYS);
	struct work *work = prepared();
	u64 index = row, key;

	if (!probe || !work || !bucket)
		return TC_ACT_SHOT;
	BOUND(index, STREAM_BUCKET_KEYS - 1);
	key = LOAD(bucket->keys[index]);
	if (!key)
		return TC_ACT_UNSPEC;
	found = stream_place(work, key);
	if (LOAD(bucket->keys[index]) != key)
		return TC_ACT_UNSPEC;
	ADD(probe->looked, 1);
	if (found != row)
		ADD(probe->mistakes, 1);
	return TC_ACT_UNSPEC;
}
