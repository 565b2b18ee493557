/* Counters by reason, per CPU. */
#pragma once

#include "maps.h"

INLINE void count_many(u32 reason, u64 n)
{
	u64 *counter = MAP_AT(COUNTERS, reason);
	if (counter)
		*counter += n;
}

/* reason: REASON_* */
INLINE void count(u32 reason)
{
	count_many(reason, 1);
}
