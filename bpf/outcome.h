/* How a claimed copy ends: its report, its slot, its connection. */
#pragma once

#include "copy.h"
#include "count.h"
#include "credit.h"

/*
 * Reports reserved before a claim cannot be held over a tail call. Instead there has to be room
 * for one of every CPU: each has at most one copy in work, and only this program writes.
 */
#define REPORTS_MARGIN (4096 * 64)

INLINE bool report_has_room(void)
{
	return bpf_ringbuf_query(MAP(REPORTS), BPF_RB_AVAIL_DATA) < REPORTS_BYTES - REPORTS_MARGIN;
}

INLINE void report(struct copy *copy, u32 outcome)
{
	struct report *report = bpf_ringbuf_reserve(MAP(REPORTS), sizeof(*report), 0);

	if (!report) {
		count(REASON_B_RING_FULL);
		return;
	}
	report->packet_number = outcome ? 0 : copy->packet_number;
	report->time = bpf_ktime_get_ns();
	report->sequence = copy->sequence;
	report->connection = copy->connection;
	report->position = copy->position;
	report->size = copy->size;
	report->outcome = outcome;
	report->dropped = copy->dropped;
	report->reserved[0] = report->reserved[1] = 0;
	bpf_ringbuf_submit(report, RING_QUIETLY);
}

/* The slot and the connection may be used for something else after this. */
INLINE void leave(struct slot *slot, struct connection *connection)
{
	settle(slot);
	ADD_ORDERED(connection->busy, -1);
}

/* outcome: not OUTCOME_SENT. Returns the verdict on the clone. */
INLINE int give_up(struct copy *copy, struct slot *slot, struct connection *connection, u32 outcome)
{
	give_back_all(connection, copy);
	count(REASON_B_OUTCOME + outcome);
	report(copy, outcome);
	leave(slot, connection);
	return TC_ACT_SHOT;
}
