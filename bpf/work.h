/* A packet in work: what the stages of program A hand on, in scratch_a. */
#pragma once

#include "aead.h"
#include "maps.h"

/* What the first bytes of a stream or datagram say: see protocol.h. */
struct head {
	u64 channel;
	u64 ordinal;
	u8 cut;     /* the bytes that a member's template replaces; 0: not understood */
	u8 keep_at; /* of these, those that are kept */
	u8 keep_length;
	u8 priority;
	u8 unranked; /* it says no priority: the track's counts */
};

/* A media frame of the packet. */
struct media {
	u64 stream_id; /* upstream */
	u64 offset;
	u64 stream; /* sequence; 0: a datagram, or a stream that begins here */
	struct head head;
	u32 array; /* its members; ARRAYS: not for us */
	u32 track;
	u16 at; /* in the text */
	u16 length;
	u8 kind; /* FRAME_KIND_* */
	u8 fin;
	u8 index;  /* of a datagram among the packet's datagrams */
	u8 header; /* length of what comes before the data */
};

struct work {
	struct aead aead;
	u64 seed[2]; /* of tables */
	u64 packet_number;
	u64 connection_generation;
	u64 walk_at;       /* in the text, of the frame that comes next */
	u64 walk_ack_left; /* integers of an ACK */
	u64 ack_first;     /* of its first range */
	u64 ack_largest;
	u64 ack_delay;
	u64 ack_low; /* the smallest packet number so far */
	u32 connection;
	u32 payload; /* of UDP: where it begins in the skb, its length with all segments */
	u32 payload_length;
	u32 segment_size;
	u32 segment; /* where the one at hand begins in the payload */
	u32 verdict; /* on the packet itself */
	u32 calls;   /* of stages, so far */
	u32 media_count;
	u32 next; /* the first media frame that is not done */
	u32 datagrams;
	u32 forwarded; /* frames of this packet */
	u32 slot_frames;
	u32 members;
	u32 sequence; /* of the slot, low half */
	u32 place;    /* in stream_index, of what was looked for */
	u32 clones_failed;
	u32 first;        /* of the slot's media frames */
	u8 start[32];     /* of the segment, as it came */
	u64 held[FRAMES]; /* streams whose busy is ours: 1 + slot, or 0 */
	struct media media[FRAMES];
};

_Static_assert(sizeof(struct work) <= SCRATCH_SIZE, "struct work");

INLINE struct work *packet_in_work(void)
{
	return MAP_AT(SCRATCH_A, 0);
}
