/*
 * Acknowledgements that the kernel took (bpf/acknowledgement.h): each settles rows of the ledger,
 * gives the kernel back what it may send, and is kept until the connection's engine is told of it.
 */
#include "ledger.h"

#define VARINTS (1ULL << 62) /* RFC 9000 section 16 */

/* In the ring. */
struct ack_record {
	u32 length;
	u32 page;
	struct ack ack;
};

/* As in quic/lease.py; first_number is -1 if there is nothing. */
struct heard {
	s64 first_number;
	s64 last_number;
	s64 largest;
	s64 delay;
	double time;
	s64 size;
	double oldest_sent;
	s64 newest;
	double newest_sent;
};

/* Bytes of a connection that were settled in this round. */
struct part {
	u64 round;
	s64 size;
};

/* As in native/acknowledgements.py: columns, and what the relay is told. */
struct hearing {
	const struct ledger *ledger;
	struct connection *connections;
	struct heard *untold;
	struct part *parts;
	u64 round;
	double used; /* the largest part in this round of what may be sent without being heard */
};

/* Rows that are settled; newest is -1 if there are none. */
struct flight {
	s64 size;
	s64 newest;
	double newest_sent;
	double oldest_sent;
};

/* Written by nobody else, read by the programs meanwhile. */
static void publish(u64 *word, u64 value)
{
	__atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static int is_ours(const struct hearing *hearing, const struct ack *ack)
{
	u64 index = ack->connection;

	return index < CONNECTIONS && index < hearing->ledger->connections &&
	       hearing->ledger->open[index] &&
	       (u32)hearing->connections[index].generation == ack->generation &&
	       ack->packet_number < VARINTS && ack->first < VARINTS && ack->largest < VARINTS &&
	       ack->delay < VARINTS;
}

/* From a number on that is not below the connection's low. */
static s64 first_in_flight(const struct ledger *ledger, u64 index, s64 number)
{
	while (number < ledger->high[index] && !ledger_row(ledger, index, number)->size)
		number++;
	return number;
}

/* It follows what its engine is to be told, and leaves nothing in flight below it. */
static int is_usual(const struct hearing *hearing, const struct ack *ack)
{
	const struct ledger *ledger = hearing->ledger;
	const struct heard *untold = &hearing->untold[ack->connection];
	u64 index = ack->connection;

	return (untold->first_number < 0 || (s64)ack->packet_number == untold->last_number + 1) &&
	       first_in_flight(ledger, index, ledger->low[index]) >= (s64)ack->first;
}

static struct flight settle(const struct ledger *ledger, const struct ack *ack)
{
	struct flight flight = {.newest = -1};
	u64 index = ack->connection;
	s64 low = ledger->low[index];
	s64 high = ledger->high[index];
	s64 number = low > (s64)ack->first ? low : (s64)ack->first;
	s64 count = 0;

	for (; number <= (s64)ack->largest && number < high; number++) {
		struct ledger_row *row = ledger_row(ledger, index, number);

		if (!row->size)
			continue;
		flight.newest_sent = row->time / 1e9;
		if (!count++)
			flight.oldest_sent = flight.newest_sent;
		flight.newest = number;
		flight.size += row->size;
		row->size = 0;
	}
	if (count) {
		ledger->gone[index] += flight.size;
		ledger->live[index] -= count;
		ledger->low[index] =
			ledger->live[index] ? first_in_flight(ledger, index, low) : NOWHERE;
	}
	return flight;
}

static void keep(struct heard *untold, const struct ack *ack, const struct flight *flight)
{
	int is_first = untold->first_number < 0;

	if (is_first)
		untold->first_number = ack->packet_number;
	untold->last_number = ack->packet_number;
	if ((s64)ack->largest > untold->largest)
		untold->largest = ack->largest;
	if (is_first || flight->newest >= 0) {
		untold->time = ack->time * 1e-9;
		untold->delay = ack->delay;
		untold->newest = flight->newest;
		untold->newest_sent = flight->newest_sent;
	}
	if (flight->newest >= 0) {
		untold->size += flight->size;
		if (flight->oldest_sent < untold->oldest_sent)
			untold->oldest_sent = flight->oldest_sent;
	}
}

/* What Link.window_changed would write. Returns what may be sent without being heard. */
static s64 give_back(const struct hearing *hearing, u64 index, s64 size)
{
	const struct ledger *ledger = hearing->ledger;
	struct connection *connection = &hearing->connections[index];
	u64 low = ledger->low[index];

	if (low > (u64)ledger->high[index])
		low = ledger->high[index]; /* nothing is in flight */
	publish(&connection->ack_bytes, connection->ack_bytes + size);
	publish(&connection->bytes_limit, connection->bytes_limit + size);
	publish(&connection->ack_floor, low);
	if (low + ROWS > connection->packet_number_limit)
		publish(&connection->packet_number_limit, low + ROWS);
	return connection->ack_bytes - ledger->gone[index];
}

static void take(struct hearing *hearing, const struct ack *ack)
{
	struct flight flight = settle(hearing->ledger, ack);
	struct part *part = &hearing->parts[ack->connection];
	double room, used;

	keep(&hearing->untold[ack->connection], ack, &flight);
	room = give_back(hearing, ack->connection, flight.size);
	if (part->round != hearing->round)
		*part = (struct part){.round = hearing->round};
	part->size += flight.size;
	used = part->size / (room > 1 ? room : 1);
	if (used > hearing->used)
		hearing->used = used;
}

/* From a record on; returns where the first is that is not as usual, or the number of all. */
u64 acknowledgements_take(struct hearing *hearing, const struct ack_record *records, u64 at,
			  u64 count)
{
	for (; at < count; at++) {
		const struct ack *ack = &records[at].ack;

		if (!is_ours(hearing, ack))
			continue;
		if (!is_usual(hearing, ack))
			break;
		take(hearing, ack);
	}
	return at;
}

/* Whether it is usual or not: its engine is told before and after. */
void acknowledgements_take_one(struct hearing *hearing, const struct ack_record *records, u64 at)
{
	if (is_ours(hearing, &records[at].ack))
		take(hearing, &records[at].ack);
}
