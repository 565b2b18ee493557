/* Token buckets that are one number each: ITU-T I.371, as in relay/rate.py. */
#pragma once

#include "atomic.h"
#include "maps.h"

#define METER_TRIES 4

/* Whether there is room for one more; it is counted then. */
INLINE bool meter_take(struct meter *meter, const struct rate *rate, u64 now)
{
	for (int i = 0; i < METER_TRIES; i++) {
		u64 empty_at = LOAD(meter->empty_at), next;

		if (empty_at > now + LOAD(rate->tolerance))
			return false;
		next = (empty_at > now ? empty_at : now) + LOAD(rate->interval);
		if (__sync_val_compare_and_swap(&meter->empty_at, empty_at, next) == empty_at)
			return true;
	}
	return false;
}
