/* A copy's frames in the skb, where the packet's payload will be. */
#pragma once

#include "copy.h"

/* Also if the stack keeps a sum of the whole packet (CHECKSUM_COMPLETE), it stays right. */
#define STORE_FLAGS (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH)

/* Appends bytes; mask: one less than a power of two, not below length. False: not possible. */
#define APPEND(skb, copy, from, length, mask)                                                      \
	({                                                                                         \
		u64 _length = (length);                                                            \
		bool _done = true;                                                                 \
		if (_length) {                                                                     \
			_done = !bpf_skb_store_bytes(skb, (copy)->at, from, SIZE(_length, mask),   \
						     STORE_FLAGS);                                 \
			(copy)->at += _length;                                                     \
		}                                                                                  \
		_done;                                                                             \
	})

/* Appends a part of the slot's data. */
INLINE bool append_data(struct __sk_buff *skb, struct copy *copy, struct slot *slot, u64 at,
			u64 length)
{
	u64 last = length - 1;

	if (!length)
		return true;
	OPAQUE(at);
	OPAQUE(last);
	if (at >= DATA_SIZE || last >= DATA_SIZE)
		return false;
	if (bpf_skb_store_bytes(skb, copy->at, slot->data + at, last + 1, STORE_FLAGS))
		return false;
	copy->at += length;
	return true;
}

/* What takes the place of a stream's or datagram's first bytes. */
#define APPEND_TEMPLATE(skb, copy, slot, piece, member, before, after)                             \
	(APPEND(skb, copy, (member)->before, (member)->before##_length, TEMPLATE_SIZE - 1) &&      \
	 append_data(skb, copy, slot, (piece)->kept, (piece)->kept_length) &&                      \
	 APPEND(skb, copy, (member)->after, (member)->after##_length, TEMPLATE_SIZE - 1))

INLINE bool append_piece(struct __sk_buff *skb, struct copy *copy, struct slot *slot,
			 struct member *member, struct piece *piece)
{
	bool done = APPEND(skb, copy, piece->head, piece->head_length, FRAME_HEAD_SIZE - 1);

	if (piece->template == TEMPLATE_STREAM)
		done = done && APPEND_TEMPLATE(skb, copy, slot, piece, member, before, after);
	else if (piece->template == TEMPLATE_DATAGRAM)
		done = done && APPEND_TEMPLATE(skb, copy, slot, piece, member, datagram_before,
					       datagram_after);
	return done && append_data(skb, copy, slot, piece->data, piece->length);
}

/* All frames of the copy, from copy->at on, and then in copy->aead.text. */
INLINE bool write_payload(struct __sk_buff *skb, struct copy *copy, struct slot *slot,
			  struct member *member)
{
	u32 begin = copy->at;
	u64 end = copy->payload;

	for (u64 i = 0; i < FRAMES; i++) {
		if (i >= LOAD(copy->pieces_count))
			break;
		if (!append_piece(skb, copy, slot, member, &copy->pieces[i]))
			return false;
	}
	if (copy->at != begin + copy->payload)
		return false;
	if (bpf_skb_load_bytes(skb, begin, copy->aead.text, SIZE(end, AEAD_TEXT_MASK)))
		return false;
	BOUND(end, AEAD_TEXT_MASK);
	*(u64 *)(copy->aead.text + end) = 0; /* PADDING */
	return true;
}
