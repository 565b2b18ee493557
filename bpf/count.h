/* Counters by reason: a row for each CPU, so that none waits for another. */
#pragma once

#include "atomic.h"
#include "maps.h"

INLINE void count_many(u32 reason, u64 n)
{
	u64 *counter = MAP_AT(COUNTERS, bpf_get_smp_processor_id() % CPUS * COUNTERS + reason);

	if (counter)
		ADD(*counter, n);
}

/* reason: REASON_* */
INLINE void count(u32 reason)
{
	count_many(reason, 1);
}
