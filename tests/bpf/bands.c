/* The rule of bpf/bands.h, one step a run, at times that the test says. */
#include "maps.h"
#include "bands.h"

#define STEPS 150

struct step {
	u64 now;
	u64 group;
	u32 size;
	u8 publisher;
	u8 subscriber;
	u8 judged; /* 0: it is under way; 1: a stream; 2: a datagram */
	u8 band;   /* found; so are the reason and the limit */
	u64 reason;
	u64 limit;
};

struct probe {
	u64 next;
	struct bands bands;
	struct step steps[STEPS];
};

int probe_bands(struct __sk_buff *skb)
{
	struct probe *probe = MAP_AT(PROBE, 0);
	struct step *step;
	u64 index;

	if (!probe)
		return TC_ACT_SHOT;
	index = probe->next++;
	if (index >= STEPS)
		return TC_ACT_SHOT;
	step = &probe->steps[index];
	step->band = band_of(&probe->bands, step->publisher, step->subscriber);
	step->reason = step->judged ? judge(&probe->bands, step->band, step->group,
					    step->judged == 2, step->now)
				    : 0;
	step->limit = band_limit(&probe->bands, step->band, step->limit);
	if (!step->reason)
		charge(&probe->bands, step->band, step->size, step->now);
	return TC_ACT_UNSPEC;
}
