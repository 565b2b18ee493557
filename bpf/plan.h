/* Which frames of a slot a member gets, and what they become for it. */
#pragma once

#include "credit.h"
#include "frame_write.h"

/* The bytes at the beginning of a stream or datagram that a member's template replaces. */
struct cut {
	u32 cut;
	u32 keep_at;
	u32 keep_length;
	u32 template; /* TEMPLATE_* */
	u32 made;     /* length of what takes their place */
};

INLINE void cut_of_stream(struct cut *cut, struct stream *stream, struct member *member)
{
	cut->cut = stream->cut;
	cut->keep_at = stream->keep_at;
	cut->keep_length = stream->keep_length;
	cut->template = TEMPLATE_STREAM;
	cut->made = member->before_length + cut->keep_length + member->after_length;
}

INLINE void cut_of_datagram(struct cut *cut, struct frame *frame, struct member *member)
{
	cut->cut = frame->cut;
	cut->keep_at = frame->keep >> 4;
	cut->keep_length = frame->keep & 15;
	cut->template = TEMPLATE_DATAGRAM;
	cut->made =
		member->datagram_before_length + cut->keep_length + member->datagram_after_length;
}

/* The frame's data goes by the template (cut) or as it is (NULL). False: it is not possible. */
INLINE bool plan_data(struct piece *piece, struct frame *frame, struct cut *cut)
{
	piece->template = TEMPLATE_NONE;
	piece->kept_length = 0;
	piece->data = frame->at;
	piece->length = frame->length;
	if (!cut)
		return true;
	if (cut->cut > frame->length || cut->keep_at + cut->keep_length > cut->cut)
		return false;
	piece->template = cut->template;
	piece->kept = frame->at + cut->keep_at;
	piece->kept_length = cut->keep_length;
	piece->data += cut->cut;
	piece->length -= cut->cut;
	return true;
}

INLINE u32 plan_stream(struct copy *copy, struct connection *connection, struct member *member,
		       struct frame *frame, struct piece *piece)
{
	u32 slot = frame->stream & (STREAMS - 1);
	struct stream *stream = MAP_AT(STREAMS, slot);
	struct leg *leg = MAP_AT(LEGS, slot * ARRAY_MEMBERS + copy->position);
	bool first = frame->offset == 0;
	u64 offset = frame->offset;
	u32 length = frame->length, outcome;
	struct cut cut = {};

	if (!stream || !leg || LOAD(stream->sequence) != frame->stream)
		return OUTCOME_NO_LEG;
	piece->leg = slot * ARRAY_MEMBERS + copy->position;
	if (member->rewrite) {
		cut_of_stream(&cut, stream, member);
		if (!plan_data(piece, frame, first ? &cut : NULL))
			return OUTCOME_FAILED;
		if (first)
			length += cut.made - cut.cut;
		else if (offset < cut.cut)
			return OUTCOME_FAILED;
		else
			offset += (u64)cut.made - cut.cut;
	} else {
		plan_data(piece, frame, NULL);
	}
	outcome = take_leg(connection, member, leg, frame->stream, first);
	if (!outcome)
		outcome = take_data(connection, leg, offset + length, piece);
	if (outcome)
		return outcome;
	write_stream_head(piece, leg->stream_id, offset, length, frame->fin);
	copy->payload += piece->head_length + length;
	return OUTCOME_SENT;
}

INLINE u32 plan_datagram(struct copy *copy, struct connection *connection, struct member *member,
			 struct frame *frame, struct piece *piece)
{
	u32 length = frame->length;
	struct cut cut = {};

	if (member->datagram_rewrite) {
		cut_of_datagram(&cut, frame, member);
		if (!plan_data(piece, frame, &cut))
			return OUTCOME_FAILED;
		length += cut.made - cut.cut;
	} else {
		plan_data(piece, frame, NULL);
	}
	write_datagram_head(piece, length);
	if (piece->head_length + length > connection->datagram_limit)
		return OUTCOME_TOO_LARGE;
	copy->payload += piece->head_length + length;
	return OUTCOME_SENT;
}

/* Whether user space goes on with the frame's stream for the member, or nobody does. */
INLINE bool leg_is_over(struct copy *copy, struct frame *frame)
{
	u32 slot = frame->stream & (STREAMS - 1);
	struct leg *leg = MAP_AT(LEGS, slot * ARRAY_MEMBERS + copy->position);
	u64 word = leg ? LOAD(leg->word) : 0;

	return word >> 8 == frame->stream && (word & 0xff) != LEG_STATE_KERNEL;
}

/*
 * Takes leg and data for every frame that the member gets, and plans it in copy->pieces. With
 * OUTCOME_SENT and no pieces, none is for the member. What is not the kernel's any more does not
 * keep back the rest: the end of one stream and the start of the next come in one packet.
 */
INLINE u32 plan(struct copy *copy, struct slot *slot, struct connection *connection,
		struct member *member)
{
	copy->pieces_count = 0;
	copy->payload = 0;
	copy->window = 0;
	for (u32 i = 0; i < FRAMES; i++) {
		struct frame *frame = &slot->frames[i];
		u64 next = LOAD(copy->pieces_count);
		struct piece *piece;
		u32 outcome;

		if (i >= LOAD(slot->frame_count))
			break;
		if (frame->ordinal < LOAD(member->first_ordinal) ||
		    frame->ordinal > LOAD(member->last_ordinal))
			continue;
		if (frame->kind == FRAME_KIND_STREAM && leg_is_over(copy, frame))
			continue;
		BOUND(next, FRAMES - 1);
		piece = &copy->pieces[next];
		piece->before = piece->after = 0;
		copy->pieces_count = next + 1;
		if (frame->kind == FRAME_KIND_STREAM)
			outcome = plan_stream(copy, connection, member, frame, piece);
		else
			outcome = plan_datagram(copy, connection, member, frame, piece);
		if (outcome)
			return outcome;
	}
	return OUTCOME_SENT;
}
