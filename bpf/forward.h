/* A slot for the frames of one array: its intent, its contents, its clones. */
#pragma once

#include "resolve.h"

#ifndef SLOT_TRIES
#define SLOT_TRIES 8
#endif
#define COPY_STEP 64 /* bytes */

#ifdef ATTACH_POD
#define CLONE_FLAGS    0               /* out of the device that the packet came in by */
#define CLONED(result) ((result) >= 0) /* more: B dropped it */
#else
#define CLONE_FLAGS    BPF_F_INGRESS   /* into the device that the packet goes out by */
#define CLONED(result) ((result) == 0) /* more: the backlog is full */
#endif

/* A sequence that the relay has room for; 0: there is none, and the reason is counted. */
INLINE u64 slot_take(struct shared *shared)
{
	for (int i = 0; i < SLOT_TRIES; i++) {
		u64 next = LOAD(shared->slot_next);

		if (next >= LOAD(shared->slot_limit)) {
			count(REASON_A_NO_SLOT);
			return 0;
		}
		if (__sync_val_compare_and_swap(&shared->slot_next, next, next + 1) == next)
			return next;
	}
	count(REASON_A_BUSY);
	return 0;
}

/* Whether the stream in this slot is ours: from now on, if it is nobody's. */
INLINE bool hold(struct work *work, u64 index, struct stream *stream, int at)
{
#pragma unroll
	for (int i = 0; i < FRAMES; i++)
		if (work->held[i] == 1 + index)
			return true;
	if (!stream_take(stream))
		return false;
	work->held[at] = 1 + index;
	return true;
}

/* The relay may wait for it. */
INLINE void release_all(struct work *work)
{
#pragma nounroll
	for (int i = 0; i < FRAMES; i++) {
		struct stream *stream = work->held[i] ? MAP_AT(STREAMS, work->held[i] - 1) : NULL;

		if (stream)
			stream_release(stream);
	}
}

/* A stream's frame: true if the members of the array get it. at: of the media frame. */
INLINE bool admit_stream(struct work *work, struct media *media, u32 array, int at)
{
	u64 sequence = media->stream, index;
	struct stream *stream;

	if (!sequence && !media->offset) {
		u32 track;

		if (channel_array(work, media->head.channel, &track) != array) {
			count(REASON_A_BUSY);
			return false;
		}
		stream = stream_begin(work, media, &sequence);
		if (!stream)
			return false;
		work->held[at] = 1 + sequence % STREAMS;
	} else {
		if (!sequence)
			sequence = stream_sequence(work, media->stream_id);
		index = sequence % STREAMS;
		stream = sequence ? MAP_AT(STREAMS, index) : NULL;
		if (!stream) {
			count(REASON_A_UNKNOWN_STREAM);
			return false;
		}
		if (!hold(work, index, stream, at)) {
			count(REASON_A_BUSY);
			return false;
		}
		/* The row may have become another stream's since its sequence was read. */
		if (LOAD(stream->sequence) != sequence || stream->array != array ||
		    stream->stream_id != media->stream_id ||
		    stream->connection != work->connection ||
		    LOAD(stream->state) != STREAM_STATE_LENT) {
			count(REASON_A_STREAM_USER);
			return false;
		}
	}
	if (!stream_fits(stream, media)) {
		count(REASON_A_OUT_OF_ORDER);
		return false;
	}
	stream_advance(stream, media);
	media->stream = sequence;
	media->head.ordinal = stream->ordinal;
	media->head.priority = stream->priority;
	media->track = stream->track;
	return true;
}

INLINE bool admit_datagram(struct work *work, struct media *media, u32 array)
{
	u32 track;

	if (channel_array(work, media->head.channel, &track) == array)
		return true;
	count(REASON_A_BUSY);
	return false;
}

INLINE void write_frame(struct frame *frame, struct intent_frame *record, const struct media *media)
{
	frame->stream = record->stream = media->stream;
	frame->offset = record->offset = media->offset;
	frame->ordinal = record->ordinal = media->head.ordinal;
	frame->at = media->at;
	frame->length = record->length = media->length;
	frame->kind = record->kind = media->kind;
	frame->fin = record->fin = media->fin;
	frame->cut = media->head.cut;
	frame->keep = media->head.keep_at << 4 | media->head.keep_length;
	frame->priority = media->head.priority;
	record->stream_id = media->stream_id;
	record->index = media->index;
	record->reserved = 0;
}

/* The frames from work->first on, up to work->next, that are for the array. */
INLINE void write_frames(struct work *work, struct slot *slot, struct intent *intent, u32 array)
{
	const volatile u32 *first = &work->first, *next = &work->next;

#pragma nounroll
	for (int i = 0; i < FRAMES; i++) {
		struct media *media = &work->media[i];
		u64 to = work->slot_frames;
		struct track *track;

		if (i < *first || i >= *next || media->array != array)
			continue;
		if (media->kind == FRAME_KIND_STREAM ? !admit_stream(work, media, array, i)
						     : !admit_datagram(work, media, array))
			continue;
		BOUND(to, FRAMES - 1);
		write_frame(&slot->frames[to], &intent->frames[to], media);
		work->slot_frames++;
		track = MAP_AT(TRACKS, media->track);
		if (track) {
			ADD(track->bytes, media->length);
			if (!to)
				ADD(track->packets, 1);
		}
	}
}

/* The claims first: a late clone of the slot's last use finds another generation. */
INLINE void write_slot(const struct work *work, struct slot *slot, u64 sequence, u32 array)
{
	u64 generation = sequence << 32;
	const volatile u32 *length = &work->aead.length;

#pragma unroll
	for (int i = 0; i < CLAIM_WORDS; i++)
		slot->claims[i] = generation;
	slot->done = generation;
	slot->array = array;
	slot->packet_number = work->packet_number;
	slot->connection = work->connection;
	slot->members = work->members;
	slot->frame_count = work->slot_frames;
	slot->data_length = work->aead.length;
	for (u32 at = 0; at < AEAD_MAX_LENGTH; at += COPY_STEP) {
		const u64 *from = (const u64 *)(work->aead.text + at);
		u64 *to = (u64 *)(slot->data + at);

		if (at >= *length)
			break;
#pragma unroll
		for (int i = 0; i < COPY_STEP / 8; i++)
			to[i] = from[i];
	}
	*(volatile u64 *)&slot->sequence = sequence;
}

/*
 * One slot for the frames from work->first on, up to work->next, that are for the array. False:
 * nothing was forwarded. True: work->members are to get clones; none, if it turned out to be too
 * late for each of the frames.
 */
INLINE bool forward(struct work *work, struct connection *connection, u32 array)
{
	struct array *members = MAP_AT(ARRAYS, array);
	struct shared *shared = MAP_AT(SHARED, 0);
	struct intent *intent;
	struct slot *slot;
	u64 sequence;

	if (!shared || !members)
		return false;
	intent = bpf_ringbuf_reserve(MAP(INTENTS), sizeof(*intent), 0);
	if (!intent) {
		count(REASON_A_RING_FULL);
		return false;
	}
	sequence = slot_take(shared);
	slot = MAP_AT(SLOTS, sequence % SLOTS);
	if (!sequence || !slot) {
		bpf_ringbuf_discard(intent, RING_QUIETLY);
		return false;
	}
	work->slot_frames = 0;
#pragma unroll
	for (int i = 0; i < FRAMES; i++)
		work->held[i] = 0;
	/* What was read before the sequence was taken may be another's by now. */
	if (LOAD(connection->generation) == work->connection_generation &&
	    LOAD(connection->state) & CONNECTION_STATE_RECEIVE)
		write_frames(work, slot, intent, array);
	work->members = work->slot_frames ? members->count : 0;
	work->sequence = sequence;
	write_slot(work, slot, sequence, array);
	intent->sequence = sequence;
	intent->packet_number = work->packet_number;
	intent->time = bpf_ktime_get_ns();
	intent->array = array;
	intent->connection = work->connection;
	intent->members = work->members;
	intent->frame_count = work->slot_frames;
	intent->reserved = 0;
	bpf_ringbuf_submit(intent, RING_QUIETLY);
	release_all(work);
	return true;
}

INLINE u32 member_hash(const struct array *array, u64 position)
{
	struct connection *connection;
	struct member *member;

	BOUND(position, ARRAY_MEMBERS - 1);
	member = MAP_AT(MEMBERS, array->members[position]);
	connection = member ? MAP_AT(CONNECTIONS, member->connection) : NULL;
	return connection ? connection->hash : 0;
}

/* A clone for each of work->members; the packet itself is as before. */
INLINE void clone_to_members(struct __sk_buff *skb, struct work *work, u32 index)
{
	struct array *array = MAP_AT(ARRAYS, index);
	const volatile u32 *members = &work->members;
	u32 mark = skb->mark, hash = skb->hash;
	u32 cb[3] = {skb->cb[0], skb->cb[1], skb->cb[2]};

	if (!array)
		return;
	work->clones_failed = 0;
	skb->mark = CLONE_MARK;
	skb->cb[0] = CLONE_MAGIC;
	skb->cb[1] = work->sequence;
#pragma nounroll
	for (u32 position = 0; position < ARRAY_MEMBERS; position++) {
		if (position >= *members)
			break;
		skb->cb[2] = position;
		bpf_set_hash(skb, member_hash(array, position));
		if (!CLONED(bpf_clone_redirect(skb, skb->ifindex, CLONE_FLAGS)))
			work->clones_failed++;
	}
	skb->mark = mark;
	skb->cb[0] = cb[0];
	skb->cb[1] = cb[1];
	skb->cb[2] = cb[2];
	if (hash)
		bpf_set_hash(skb, hash);
	else
		bpf_set_hash_invalid(skb);
	count_many(REASON_A_CLONES, work->members - work->clones_failed);
	if (work->clones_failed)
		count_many(REASON_A_CLONE_FAILED, work->clones_failed);
}
