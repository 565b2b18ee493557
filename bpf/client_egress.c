/*
 * Program B: packets from the pod. A clone of A's becomes a member's packet (docs/dataplane.md);
 * everything else passes.
 */
#include "bands.h"
#include "claim.h"
#include "copy.h"
#include "count.h"
#include "keystream.h"
#include "outcome.h"
#include "output.h"
#include "packet_write.h"
#include "plan.h"
#include "short_header.h"

/* Whether A can have made this clone: a sequence that was not yet given out is nobody's. */
INLINE bool forged(struct __sk_buff *skb, struct shared *shared)
{
	u32 age = (u32)LOAD(shared->slot_next) - skb->cb[1];

	return skb->cb[0] != CLONE_MAGIC || skb->cb[2] >= ARRAY_MEMBERS || age - 1 > 1u << 31;
}

/* Leaves size, or returns why the copy cannot be sent. */
INLINE u32 take_credit(struct copy *copy, struct slot *slot, struct connection *connection,
		       struct member *member)
{
	u32 outcome = plan(copy, slot, connection, member);

	if (outcome || !copy->pieces_count)
		return outcome;
	copy->aead.length = copy->payload < MIN_PAYLOAD ? MIN_PAYLOAD : copy->payload;
	copy->sealed = copy->aead.length + (connection->plaintext ? 0 : AEAD_TAG_SIZE);
	copy->size = short_header_size(connection) + copy->sealed;
	outcome = take_window(connection, copy);
	if (outcome)
		return outcome;
	if (copy->size > LOAD(connection->packet_size_limit) || copy->size > MAX_DATAGRAM)
		return OUTCOME_TOO_LARGE;
	return OUTCOME_SENT;
}

INLINE u32 begin(struct copy *copy, struct slot *slot, struct connection *connection,
		 struct member *member)
{
	if (!(LOAD(connection->state) & CONNECTION_STATE_SEND))
		return OUTCOME_CONNECTION_OFF;
	if (!LOAD(member->state))
		return OUTCOME_MEMBER_OFF;
	return take_credit(copy, slot, connection, member);
}

INLINE int drop(u32 reason)
{
	count(reason);
	return TC_ACT_SHOT;
}

/* A copy that was not claimed. */
INLINE int turn_away(struct connection *connection, u32 reason)
{
	ADD_ORDERED(connection->busy, -1);
	return drop(reason);
}

int client_egress(struct __sk_buff *skb)
{
	u32 sequence = skb->cb[1], outcome;
	u64 position = skb->cb[2];
	struct shared *shared;
	struct slot *slot;
	struct array *array;
	struct member *member;
	struct connection *connection;
	struct copy *copy;

	if ((skb->mark & CLONE_MARK_MASK) != CLONE_MARK)
		return TC_ACT_UNSPEC;
	shared = MAP_AT(SHARED, 0);
	copy = copy_in_work();
	if (!shared || !copy || forged(skb, shared)) {
		count(REASON_B_FORGED);
		return TC_ACT_UNSPEC;
	}
	slot = MAP_AT(SLOTS, sequence & (SLOTS - 1));
	if (!slot || (u32)LOAD(slot->sequence) != sequence || position >= LOAD(slot->members))
		return drop(REASON_B_STALE);
	array = MAP_AT(ARRAYS, LOAD(slot->array));
	BOUND(position, ARRAY_MEMBERS - 1);
	if (!array)
		return drop(REASON_B_STALE);
	copy->sequence = sequence;
	copy->position = position;
	copy->member = LOAD(array->members[position]);
	member = MAP_AT(MEMBERS, copy->member);
	if (!member)
		return drop(REASON_B_STALE);
	copy->connection = LOAD(member->connection);
	connection = MAP_AT(CONNECTIONS, copy->connection);
	if (!connection)
		return drop(REASON_B_STALE);
	if (!report_has_room())
		return drop(REASON_B_RING_FULL);

	/* First: when busy is 0, whatever was claimed before has its outcome. */
	ADD_ORDERED(connection->busy, 1);
	switch (claim(slot, sequence, position)) {
	case CLAIM_TAKEN:
		break;
	case CLAIM_STALE:
		return turn_away(connection, REASON_B_STALE);
	case CLAIM_LOST:
		return turn_away(connection, REASON_B_CLAIMED);
	case CLAIM_BUSY:
		return turn_away(connection, REASON_B_OUTCOME + OUTCOME_BUSY);
	}
	copy->pieces_count = 0;
	copy->window = 0;
	copy->size = 0;
	copy->dropped = 0;
	outcome = begin(copy, slot, connection, member);
	if (outcome)
		return give_up(copy, slot, connection, outcome);
	if (!copy->pieces_count && copy->dropped)
		return give_up(copy, slot, connection, OUTCOME_DROPPED);
	if (!copy->pieces_count) {
		leave(slot, connection);
		return drop(REASON_B_SKIPPED);
	}
	NEXT_STAGE(skb, STAGE_B_BUILD);
	return give_up(copy, slot, connection, OUTCOME_FAILED);
}

/* What the copy in work is of and for: each stage has to look it up anew. */
struct parties {
	struct copy *copy;
	struct slot *slot;
	struct connection *connection;
	struct member *member;
};

/* False: not possible, as the first stage has found them all. */
INLINE bool find_parties(struct parties *found)
{
	struct copy *copy = copy_in_work();

	if (!copy)
		return false;
	found->copy = copy;
	found->slot = MAP_AT(SLOTS, copy->sequence & (SLOTS - 1));
	found->connection = MAP_AT(CONNECTIONS, copy->connection);
	found->member = MAP_AT(MEMBERS, copy->member);
	return found->slot && found->connection && found->member;
}

INLINE int give_up_for(const struct parties *of, u32 outcome)
{
	return give_up(of->copy, of->slot, of->connection, outcome);
}

/* The frames, and the header with the number. */
int b_build(struct __sk_buff *skb)
{
	struct connection *connection;
	struct parties of;
	struct copy *copy;
	u32 outcome;

	if (!find_parties(&of))
		return TC_ACT_SHOT;
	copy = of.copy;
	connection = of.connection;
	copy->at = headers_size(connection->family) + short_header_size(connection);
	if (!resize(skb, copy, connection->family) || !write_payload(skb, copy, of.slot, of.member))
		return give_up_for(&of, OUTCOME_FAILED);
	outcome = take_packet_number(connection, copy);
	if (outcome)
		return give_up_for(&of, outcome);
	short_header_write(&copy->aead, connection, copy->packet_number);
	if (connection->plaintext)
		NEXT_STAGE(skb, STAGE_B_OUTPUT);
	else
		NEXT_STAGE(skb, STAGE_B_SEAL);
	return give_up_for(&of, OUTCOME_FAILED);
}

int b_seal(struct __sk_buff *skb)
{
	const struct keystream *stream;
	struct parties of;
	u64 number;

	if (!find_parties(&of))
		return TC_ACT_SHOT;
	number = of.copy->packet_number;
	stream = keystream_of(of.connection, of.copy->connection, number);
	if (!stream) {
		aead_encrypt(&of.copy->aead, &of.connection->tx, number);
	} else {
		count(REASON_B_AHEAD);
		if (!keystream_encrypt(&of.copy->aead, stream, of.connection, number))
			return give_up_for(&of, OUTCOME_FAILED);
	}
	aead_append_tag(&of.copy->aead);
	short_header_protect(&of.copy->aead, of.connection);
	NEXT_STAGE(skb, STAGE_B_OUTPUT);
	return give_up_for(&of, OUTCOME_FAILED);
}

int b_output(struct __sk_buff *skb)
{
	struct parties of;

	if (!find_parties(&of))
		return TC_ACT_SHOT;
	if (!write_packet(skb, of.copy, of.connection))
		return give_up_for(&of, OUTCOME_FAILED);
	clear(skb);
	ADD(of.member->packets, 1);
	ADD(of.member->bytes, of.copy->size);
	charge(&of.connection->bands, of.copy->band, of.copy->size, of.copy->now);
	count(REASON_B_OUTCOME + OUTCOME_SENT);
	report(of.copy, OUTCOME_SENT);
	leave(of.slot, of.connection);
	return TC_ACT_UNSPEC;
}
