/* Which frames of a slot a member gets, and what they become for it. */
#pragma once

#include "bands.h"
#include "count.h"
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

enum place {
	PLACE_BEGINS,
	PLACE_UNDER_WAY,
	PLACE_OVER, /* user space goes on with the stream for the member, or nobody does */
};

INLINE struct leg *leg_of(struct copy *copy, struct frame *frame)
{
	u32 slot = frame->stream & (STREAMS - 1);

	return MAP_AT(LEGS, slot * ARRAY_MEMBERS + copy->position);
}

INLINE enum place place_of(struct copy *copy, struct frame *frame)
{
	struct leg *leg;
	u64 word;

	if (frame->kind != FRAME_KIND_STREAM)
		return PLACE_BEGINS;
	leg = leg_of(copy, frame);
	word = leg ? LOAD(leg->word) : 0;
	if (word >> 8 != frame->stream) {
		struct stream *stream = MAP_AT(STREAMS, frame->stream & (STREAMS - 1));
		bool begins = !frame->offset && stream && LOAD(stream->sequence) == frame->stream;

		return begins ? PLACE_BEGINS : PLACE_UNDER_WAY;
	}
	return (word & 0xff) == LEG_STATE_KERNEL ? PLACE_UNDER_WAY : PLACE_OVER;
}

/* Nobody sends it to the member, nor what follows on its stream. */
INLINE void drop_frame(struct copy *copy, struct connection *connection, struct frame *frame,
		       u32 index, u32 band, u32 reason)
{
	struct leg *leg = frame->kind == FRAME_KIND_STREAM ? leg_of(copy, frame) : NULL;

	if (leg) {
		u64 before = __sync_lock_test_and_set(&leg->word,
						      frame->stream << 8 | LEG_STATE_DROPPED);
		OPAQUE(before);
	}
	copy->dropped |= 1u << index;
	ADD(band_at(&connection->bands, band)->dropped, 1);
	count(reason);
}

/*
 * Takes leg and data for every frame that the member gets, and plans it in copy->pieces. With
 * OUTCOME_SENT and no pieces, none is for the member. What is not the kernel's any more does not
 * keep back the rest: the end of one stream and the start of the next come in one packet.
 */
INLINE u32 plan(struct copy *copy, struct slot *slot, struct connection *connection,
		struct member *member)
{
	u64 now = copy->now = bands_now(&connection->bands);

	copy->pieces_count = 0;
	copy->payload = 0;
	copy->window = 0;
	copy->dropped = 0;
	for (u32 i = 0; i < FRAMES; i++) {
		struct frame *frame = &slot->frames[i];
		u64 next = LOAD(copy->pieces_count);
		struct piece *piece;
		enum place place;
		u32 outcome, band, reason;

		if (i >= LOAD(slot->frame_count))
			break;
		if (frame->ordinal < LOAD(member->first_ordinal) ||
		    frame->ordinal > LOAD(member->last_ordinal))
			continue;
		place = place_of(copy, frame);
		if (place == PLACE_OVER)
			continue;
		band = band_of(&connection->bands, frame->priority, member->priority);
		reason = place == PLACE_BEGINS ? judge(&connection->bands, band, frame->ordinal,
						       frame->kind != FRAME_KIND_STREAM, now)
					       : 0;
		if (reason) {
			drop_frame(copy, connection, frame, i, band, reason);
			continue;
		}
		if (!next)
			copy->band = band;
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
