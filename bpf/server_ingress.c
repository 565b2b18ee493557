/*
 * Program A: packets to the pod. Takes media out of packets of registered publishers, and makes
 * a clone of the packet for each member; the packet itself always goes on as it came.
 */
#include "acknowledgement.h"
#include "client_ingress.h"
#include "forward.h"
#include "frames.h"
#include "header_protection.h"
#include "link.h"
#include "packet.h"
#include "packet_number.h"
#include "short_header.h"
#include "table.h"

#define FIXED_HEADER_SIZE (1 + CONNECTION_ID_LENGTH)
#define MIN_PACKET_SIZE                                                                            \
	(FIXED_HEADER_SIZE + HEADER_PROTECTION_SAMPLE_OFFSET + HEADER_PROTECTION_SAMPLE_SIZE)
#define MIN_PLAINTEXT_SIZE    (FIXED_HEADER_SIZE + HEADER_PROTECTION_SAMPLE_OFFSET)
#define SAMPLE_AT             (FIXED_HEADER_SIZE + HEADER_PROTECTION_SAMPLE_OFFSET)
#define SHORT_HEADER_RESERVED 0x18
#define SHORT_HEADER_NUMBER   0x03

#define MAX_CALLS         33           /* MAX_TAIL_CALL_CNT of the kernel */
#define CALLS_PER_SEGMENT (1 + FRAMES) /* its media may be for as many arrays */
#define CONTINUATION_MARK (CLONE_MARK | 1)

/* connection.rx_keys; an index of two bits is behind each of these but PHASE and SET. */
#define RX_KEYS_PHASE    (1 << 0)
#define RX_KEYS_NEXT     (1 << 3)
#define RX_KEYS_PREVIOUS (1 << 6)
#define RX_KEYS_SET      (1 << 9)

/*
 * Tail calls have a limit, segments do not. A clone that comes here with a mark of its own begins
 * with the segment at which this packet has to stop, and ends here. At the pod's end there is
 * none: it would come after the packet, which would be read before its records are there.
 */
INLINE void continue_in_clone(struct __sk_buff *skb, const struct work *work)
{
#ifdef ATTACH_POD
	count(REASON_A_TOO_MANY_SEGMENTS);
#else
	u32 mark = skb->mark, cb[2] = {skb->cb[0], skb->cb[1]};

	skb->mark = CONTINUATION_MARK;
	skb->cb[0] = CLONE_MAGIC;
	skb->cb[1] = work->segment;
	if (bpf_clone_redirect(skb, skb->ifindex, 0) < 0) /* not that A dropped it */
		count(REASON_A_TOO_MANY_SEGMENTS);
	skb->mark = mark;
	skb->cb[0] = cb[0];
	skb->cb[1] = cb[1];
#endif
}

INLINE bool is_continuation(const struct __sk_buff *skb)
{
	return skb->mark == CONTINUATION_MARK && skb->cb[0] == CLONE_MAGIC;
}

/* Returns only if there is no such stage. */
INLINE void go_on(struct __sk_buff *skb, struct work *work, u32 stage)
{
	work->calls++;
	NEXT_STAGE(skb, stage);
	count(REASON_A_FAILED);
}

/* The segment after the one at hand, if there is one. */
INLINE int next_segment(struct __sk_buff *skb, struct work *work)
{
	int verdict = work->verdict;

	work->segment += work->segment_size;
	if (work->segment < work->payload_length) {
		if (work->calls + CALLS_PER_SEGMENT <= MAX_CALLS)
			go_on(skb, work, STAGE_A_OPEN);
		else
			continue_in_clone(skb, work);
	}
	return verdict;
}

INLINE bool right_path(const struct udp_packet *packet, const struct connection *connection)
{
	const u64 *local = (const u64 *)connection->local_address;
	const u64 *remote = (const u64 *)connection->remote_address;

	return packet->family == connection->family &&
	       packet->source_port == connection->remote_port &&
	       packet->destination_port == connection->local_port &&
	       packet->source_address[0] == remote[0] && packet->source_address[1] == remote[1] &&
	       packet->destination_address[0] == local[0] &&
	       packet->destination_address[1] == local[1];
}

/* 0, or why the connection's packets are not for us. */
INLINE u32 wanted(const struct udp_packet *packet, const struct connection *connection)
{
	struct shared *shared = MAP_AT(SHARED, 0);

	if (!shared || !LOAD(shared->enabled))
		return REASON_A_DISABLED;
	if (!(LOAD(connection->state) & CONNECTION_STATE_RECEIVE))
		return REASON_A_NOT_RECEIVING;
	if (!right_path(packet, connection))
		return REASON_A_WRONG_PATH;
	return 0;
}

/*
 * Counts what comes to the pod by kind. The connection that a packet is for, whose index is in
 * the work then, or NULL.
 */
INLINE struct connection *find_connection(struct quic_start *start, struct work *work)
{
	struct shared *shared = MAP_AT(SHARED, 0);
	struct connection *connection;

	if (start->first & QUIC_LONG_HEADER) {
		count(is_opening(start) ? REASON_C_LONG_INITIAL : REASON_C_LONG_OTHER);
		return NULL;
	}
	if (!shared)
		return NULL;
	work->seed[0] = shared->seed[0];
	work->seed[1] = shared->seed[1];
	work->connection = TABLE_FIND(ROUTES, work->seed, start->destination, 1);
	connection = MAP_AT(CONNECTIONS, work->connection);
	if (!connection) {
		count(REASON_C_SHORT_UNKNOWN);
		count(REASON_A_UNKNOWN_CONNECTION);
		return NULL;
	}
	count(REASON_C_SHORT_KNOWN);
	return connection;
}

int server_ingress(struct __sk_buff *skb)
{
	u32 segment = is_continuation(skb) ? skb->cb[1] : 0, reason;
	int verdict = is_continuation(skb) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	struct work *work = packet_in_work();
	struct connection *connection;
	struct udp_packet packet;

	if (!work)
		return verdict;
	reason = parse_packet(skb, &packet);
	if (reason) {
		count(reason);
		return verdict;
	}
	connection = find_connection(&packet.start, work);
	if (is_opening(&packet.start))
		NEXT_STAGE(skb, STAGE_C_QUOTA);
	if (!connection)
		return verdict;
	work->connection_generation = LOAD(connection->generation);
	if (LOAD(connection->state) & CONNECTION_STATE_SEND && right_path(&packet, connection))
		learn_link(skb, connection);
	reason = wanted(&packet, connection);
	if (reason) {
		count(reason);
		return verdict;
	}
	work->payload = packet.payload;
	work->payload_length = packet.payload_length;
	work->segment_size = skb->gso_size ? skb->gso_size : packet.payload_length;
	work->segment = segment;
	work->verdict = verdict;
	work->calls = 0;
	go_on(skb, work, STAGE_A_OPEN);
	return verdict;
}

/* The keys that a packet was protected with (RFC 9001 section 6.5), or NULL. */
INLINE const struct keyset *receive_keys(const struct connection *connection, bool phase,
					 u64 packet_number)
{
	u64 word = LOAD(connection->rx_keys);
	u64 index;

	if (!(word & RX_KEYS_SET))
		return NULL;
	if (phase == (word & RX_KEYS_PHASE))
		index = word >> 1;
	else if (packet_number >= LOAD(connection->rx_phase_start) && word & RX_KEYS_NEXT)
		index = word >> 4;
	else if (packet_number < LOAD(connection->rx_phase_start) && word & RX_KEYS_PREVIOUS)
		index = word >> 7;
	else
		return NULL;
	BOUND(index, 3);
	return &connection->rx[index];
}

/* Loads the segment at hand and takes the header protection off. 0, or the reason why not. */
INLINE u32 unprotect(struct __sk_buff *skb, struct work *work, const struct connection *connection,
		     u8 *first)
{
	u64 length = work->payload_length - work->segment;
	u32 from = work->payload + work->segment;
	bool plaintext = connection->plaintext;
	u64 mask = 0, least = plaintext ? MIN_PLAINTEXT_SIZE : MIN_PACKET_SIZE;
	u32 number, tag_size = plaintext ? 0 : AEAD_TAG_SIZE;
	u64 number_length, bits, text_size;

	if (length > work->segment_size)
		length = work->segment_size;
	if (length > MAX_DATAGRAM)
		return REASON_A_TOO_LARGE;
	if (length < least || bpf_skb_load_bytes(skb, from, work->start, SIZE(least, 31)))
		return REASON_A_TRUNCATED;
	if (!plaintext)
		mask = header_protection_mask(connection->rx_hp, (u32 *)(work->start + SAMPLE_AT));
	*first = work->start[0] ^ (mask & SHORT_HEADER_PROTECTED);
	number_length = 1 + (*first & SHORT_HEADER_NUMBER);
	bits = 8 * number_length;
	number = *(u32 *)(work->start + FIXED_HEADER_SIZE) ^ (u32)(mask >> 8);
	number &= ~0u >> (32 - bits);

	work->aead.aad_length = FIXED_HEADER_SIZE + number_length;
	*(u64 *)work->aead.aad = *(u64 *)work->start;
	work->aead.aad[0] = *first;
	*(u64 *)(work->aead.aad + 8) = work->start[8] | (u64)number << 8;
	work->packet_number = packet_number_decode(LOAD(connection->rx_largest),
						   __builtin_bswap32(number) >> (32 - bits), bits);
	text_size = length - FIXED_HEADER_SIZE - number_length;
	if (text_size <= tag_size)
		return REASON_A_TRUNCATED;
	work->aead.length = text_size - tag_size;
	if (bpf_skb_load_bytes(skb, from + FIXED_HEADER_SIZE + number_length, work->aead.text,
			       SIZE(text_size, AEAD_TEXT_MASK)))
		return REASON_A_TRUNCATED;
	return 0;
}

/* Decrypts the text, unless it is plain. 0, or the reason why not. */
INLINE u32 decrypt(struct work *work, const struct connection *connection, bool phase)
{
	const struct keyset *keys = receive_keys(connection, phase, work->packet_number);

	if (!keys || (connection->plaintext && phase)) /* of which there is only one */
		return REASON_A_NO_KEY;
	if (connection->plaintext || aead_open(&work->aead, keys, work->packet_number))
		return 0;
	return REASON_A_BAD_TAG;
}

/* The segment at hand, as plain text. 0, or the reason why not. */
INLINE u32 open_segment(struct __sk_buff *skb, struct work *work, struct connection *connection)
{
	u32 reason;
	u8 first;

	reason = unprotect(skb, work, connection, &first);
	if (reason)
		return reason;
	reason = decrypt(work, connection, first & SHORT_HEADER_PHASE);
	if (reason)
		return reason;
	if (first & SHORT_HEADER_RESERVED)
		return REASON_A_RESERVED_BITS;
	reason = replay_check(connection, work->packet_number);
	if (reason)
		return reason;
	/* Two CPUs may write here; that it goes back by what they are apart does no harm. */
	if (work->packet_number > LOAD(connection->rx_largest))
		connection->rx_largest = work->packet_number;
	return 0;
}

/* Finds the media in the text, and whom it is for. 0, or the reason why there is none. */
INLINE u32 find_media(struct work *work, struct connection *connection)
{
	const volatile u32 *media_count = &work->media_count;

	if (!walk_frames(work, connection->stream_bits))
		return REASON_A_BAD_FRAME;
	if (!work->media_count)
		return REASON_A_NO_MEDIA;
#pragma nounroll
	for (int i = 0; i < FRAMES; i++) {
		if (i >= *media_count)
			break;
		resolve(work, connection, i);
	}
	work->forwarded = 0;
	return 0;
}

/*
 * The next array that frames of the packet are for, and its frames: from work->first on, up to
 * work->next. ARRAYS: there is none any more.
 */
INLINE u32 next_array(struct work *work)
{
	const volatile u32 *next = &work->next, *count = &work->media_count;
	u32 array = ARRAYS;

#pragma nounroll
	for (u32 i = 0; i < FRAMES; i++) {
		u32 wanted = work->media[i].array;

		if (i < *next || i >= *count || wanted == ARRAYS)
			continue;
		if (array == ARRAYS) {
			array = wanted;
			work->first = i;
		} else if (array != wanted) {
			work->next = i;
			return array;
		}
	}
	work->next = *count;
	return array;
}

int c_quota(struct __sk_buff *skb)
{
	return admit(skb);
}

/* Whether the text may be an acknowledgement alone that ends here, in a packet alone. */
INLINE bool may_end(const struct work *work, const struct connection *connection)
{
	return !work->segment && work->payload_length <= work->segment_size &&
	       acknowledgements_wanted(work, connection);
}

int a_open(struct __sk_buff *skb)
{
	struct work *work = packet_in_work();
	struct connection *connection = work ? MAP_AT(CONNECTIONS, work->connection) : NULL;
	u32 reason;

	if (!connection)
		return TC_ACT_UNSPEC;
	reason = open_segment(skb, work, connection);
	if (reason) {
		count(reason);
	} else {
		work->next = 0;
		go_on(skb, work, may_end(work, connection) ? STAGE_A_ACK : STAGE_A_MEDIA);
	}
	return next_segment(skb, work);
}

/* Whether a packet that was opened is of the phase that user space is in. */
INLINE bool in_phase(const struct work *work, const struct connection *connection)
{
	bool phase = work->aead.aad[0] & SHORT_HEADER_PHASE;

	return phase == (LOAD(connection->rx_keys) & RX_KEYS_PHASE) &&
	       work->packet_number >= LOAD(connection->rx_phase_start);
}

/* A packet that begins with an acknowledgement. */
int a_ack(struct __sk_buff *skb)
{
	struct work *work = packet_in_work();
	struct connection *connection = work ? MAP_AT(CONNECTIONS, work->connection) : NULL;
	u32 reason;

	if (!connection)
		return TC_ACT_UNSPEC;
	if (!read_acknowledgement(work)) {
		go_on(skb, work, STAGE_A_MEDIA);
		return work->verdict;
	}
	reason = take_acknowledgement(work, connection, in_phase(work, connection));
	count(reason ? reason : REASON_A_ACK);
	return reason ? work->verdict : TC_ACT_SHOT;
}

/* What of a segment is for one array; again, if its frames are for several. */
int a_media(struct __sk_buff *skb)
{
	struct work *work = packet_in_work();
	struct connection *connection = work ? MAP_AT(CONNECTIONS, work->connection) : NULL;
	u32 reason = 0, array;

	if (!connection)
		return TC_ACT_UNSPEC;
	if (!work->next)
		reason = find_media(work, connection);
	if (reason) {
		count(reason);
		return next_segment(skb, work);
	}
	array = next_array(work);
	if (array != ARRAYS && forward(work, connection, array)) {
		if (!work->forwarded && work->slot_frames)
			count(REASON_A_FORWARDED);
		work->forwarded += work->slot_frames;
		count_many(REASON_A_FRAMES, work->slot_frames);
		clone_to_members(skb, work, array);
	}
	if (work->next < work->media_count)
		go_on(skb, work, STAGE_A_MEDIA);
	return next_segment(skb, work);
}
