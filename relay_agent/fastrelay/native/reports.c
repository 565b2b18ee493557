/*
 * What the kernel reports of packets that it sent, into the ledger's rows.
 */
#include <stddef.h>
#include <stdbool.h>
#include <string.h>

#include "ledger.h"
#include "reports.h"

_Static_assert(sizeof(struct reported) == 40, "as native/reports.py");
_Static_assert(offsetof(struct report, size) + sizeof(u16) - offsetof(struct report, time) ==
		       sizeof(struct ledger_row),
	       "a row is a part of a report");

static bool enter(const struct ledger *ledger, const struct report *report)
{
	u64 connection = report->connection;
	s64 number = (s64)report->packet_number;
	s64 *low, *high;
	double time;

	if (report->outcome != OUTCOME_SENT || report->dropped)
		return false;
	if (connection >= ledger->connections || !ledger->open[connection])
		return true;
	low = &ledger->low[connection];
	high = &ledger->high[connection];
	if (number < 0 || number >= NOWHERE || number - *low >= ROWS || *high - number > ROWS)
		return false;
	memcpy(ledger_row(ledger, connection, number), &report->time, sizeof(struct ledger_row));
	if (number < *low)
		*low = number;
	if (number >= *high)
		*high = number + 1;
	time = (double)report->time / 1e9;
	if (time > ledger->last_send[connection])
		ledger->last_send[connection] = time;
	ledger->live[connection]++;
	ledger->sent[connection] += report->size;
	return true;
}

/*
 * From start on, up to one that says more than that a packet was sent, or whose row is in use; that
 * one's place, or count. Those of connections that are closed are nobody's.
 */
u64 reports_record(const struct ledger *ledger, const struct reported *reports, u64 start,
		   u64 count)
{
	u64 at = start;

	while (at < count && enter(ledger, &reports[at].report))
		at++;
	return at;
}
