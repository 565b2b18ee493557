/* A member's copy in work: what the stages of program B hand on, in scratch_b. */
#pragma once

#include "aead.h"
#include "maps.h"

#define FRAME_HEAD_SIZE 32 /* type, stream, offset and length need 19, written in words of 8 */

/* A frame of the copy. */
struct piece {
	u64 before; /* its leg's highest, before and after this frame */
	u64 after;
	u32 leg;
	u32 head_length;
	u32 data;   /* in the slot's data, where its unchanged bytes begin */
	u32 length; /* of these */
	u32 kept;   /* in the slot's data: what the member's template keeps */
	u32 kept_length;
	u32 template; /* TEMPLATE_* */
	u32 reserved;
	u8 head[FRAME_HEAD_SIZE];
};

#define TEMPLATE_NONE     0
#define TEMPLATE_STREAM   1
#define TEMPLATE_DATAGRAM 2

#define WIRE_SIZE 128

struct copy {
	struct aead aead; /* text: the payload, aad: the short header */
	u64 packet_number;
	u64 now;      /* for the bands */
	u32 sequence; /* of the slot, low half */
	u32 position;
	u32 member;
	u32 connection;
	u32 pieces_count;
	u32 payload;        /* length of frames and padding */
	u32 size;           /* UDP payload */
	u32 window;         /* of it, what was taken of bytes_limit */
	u32 at;             /* in the skb, where the next bytes go */
	u32 sealed;         /* length of the text with its tag, if there is one */
	u32 band;           /* of the first frame, to which all of it is charged */
	u32 dropped;        /* a bit for each frame of the slot that was */
	u8 wire[WIRE_SIZE]; /* Ethernet, IP, UDP and short header */
	struct piece pieces[FRAMES];
};

_Static_assert(sizeof(struct copy) <= SCRATCH_SIZE, "struct copy");

INLINE struct copy *copy_in_work(void)
{
	return MAP_AT(SCRATCH_B, 0);
}
