/*
 * Who has waited too long for an acknowledgement: probe timeouts (RFC 9002 section 6.2).
 */
#include <math.h>

#include "ledger.h"

/* What is in flight was not acknowledged, as far as the kernel has read. */
static int is_waiting(const struct ledger *ledger, u64 index)
{
	const s64 *acked = (const s64 *)(ledger->acked + index * ledger->acked_stride);

	return ledger->live[index] > 0 &&
	       __atomic_load_n(acked, __ATOMIC_RELAXED) < ledger->high[index];
}

static double due(const struct ledger *ledger, u64 index)
{
	return ledger->last_send[index] + ledger->timeout[index];
}

/* Of the connections before end: when the first probe timeout is over, or infinity. */
double probes_next(const struct ledger *ledger, u64 end)
{
	double first = INFINITY;

	for (u64 index = 0; index < end && index < ledger->connections; index++)
		if (due(ledger, index) < first && is_waiting(ledger, index))
			first = due(ledger, index);
	return first;
}

/* From a connection on, the first whose probe timeout is over, or end. */
u64 probes_overdue(const struct ledger *ledger, u64 index, u64 end, double now)
{
	while (index < end && index < ledger->connections &&
	       !(due(ledger, index) <= now && is_waiting(ledger, index)))
		index++;
	return index;
}
