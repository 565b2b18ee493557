/*
 * The quota on connections: which packets that would open one go on (docs/quota.md). The relay
 * says who is refused, by what it has counted; here nothing is counted but first packets.
 * THIS_HOOK: QUOTA_HOOK_*, as programs count them each for itself.
 */
#pragma once

#include "bounds.h"
#include "count.h"
#include "packet.h"
#include "rate.h"
#include "siphash.h"
#include "table.h"

#define LONG_HEADER_TYPE     0x30
#define QUIC_VERSION_1       0x00000001
#define QUIC_VERSION_2       0x6b3343cf
#define INITIAL_IN_VERSION_2 0x10

#define ID_LENGTH_AT 5 /* RFC 8999 section 5.1 */

#define QUOTA_OWNER      1 /* of all pairs in the tables */
#define QUOTA_KIND_SHIFT 56
#define QUOTA_NEVER_ENDS ~0ull
#define EXEMPT_STEPS     9 /* of a search among QUOTA_EXEMPT_BLOCKS */

/*
 * Whether a long header is a first packet's: what we would make a connection for, or negotiate
 * the version with. Of versions we do not know only the invariants are looked at (RFC 8999).
 */
INLINE bool is_opening(const struct quic_start *start)
{
	u32 version = (u32)start->version[0] << 24 | (u32)start->version[1] << 16 |
		      (u32)start->version[2] << 8 | start->version[3];
	u8 type = start->first & LONG_HEADER_TYPE;

	if (!(start->first & QUIC_LONG_HEADER))
		return false;
	switch (version) {
	case 0: /* Version Negotiation */
		return false;
	case QUIC_VERSION_1:
		return type == 0;
	case QUIC_VERSION_2:
		return type == INITIAL_IN_VERSION_2;
	default:
		return true;
	}
}

/* The destination's. Zeros behind it. Its length, and that it is one, in the last word. */
INLINE void load_id(CONTEXT *context, const struct udp_packet *packet, u64 *words)
{
	u32 at = packet->payload + ID_LENGTH_AT;
	u8 length = 0;

	words[0] = words[1] = words[2] = 0;
	LOAD_BYTES(context, at, &length, sizeof(length));
	if (length && length <= MAX_PEER_CONNECTION_ID) {
		u64 size = SIZE(length, 31);

		if (size <= MAX_PEER_CONNECTION_ID)
			LOAD_ANY_BYTES(context, at + 1, words, size);
	}
	words[2] = *(u32 *)&words[2] | (u64)length << 32 |
		   (u64)QUOTA_KIND_CONNECTION_ID << QUOTA_KIND_SHIFT;
}

/* The high or low half of an address, as a number; IPv4 is mapped. */
INLINE void address_number(const struct udp_packet *packet, u64 *number)
{
	if (packet->family == 4) {
		number[0] = 0;
		number[1] = 0xffff00000000 | bpf_ntohl((u32)packet->source_address[0]);
	} else {
		number[0] = be64_to_cpu(packet->source_address[0]);
		number[1] = be64_to_cpu(packet->source_address[1]);
	}
}

INLINE bool is_below(const u64 *a, const u64 *b)
{
	return a[0] < b[0] || (a[0] == b[0] && a[1] < b[1]);
}

INLINE bool is_exempt(const struct quota *quota, const struct udp_packet *packet)
{
	u32 low = 0, high = LOAD(quota->exempt);
	u64 number[2];

	address_number(packet, number);
#pragma unroll
	for (int i = 0; i < EXEMPT_STEPS; i++) {
		u32 middle = (low + high) / 2;
		struct quota_block *block;

		if (low >= high)
			return false;
		block = MAP_AT(QUOTA_EXEMPT, middle);
		if (!block)
			return false;
		if (is_below(number, block->first))
			high = middle;
		else if (is_below(block->last, number))
			low = middle + 1;
		else
			return true;
	}
	return false;
}

/* The leading bits of 8 bytes in network order. */
INLINE u64 leading(u64 bytes, u32 bits)
{
	if (bits == 0)
		return 0;
	if (bits >= 64)
		return bytes;
	return bytes & cpu_to_be64(~0ull << (64 - bits));
}

INLINE void prefix_of(const struct quota *quota, const struct udp_packet *packet, u64 *words)
{
	u32 length = packet->family == 4 ? quota->ipv4_prefix_length : quota->ipv6_prefix_length;

	words[0] = leading(packet->source_address[0], length);
	words[1] = leading(packet->source_address[1], length > 64 ? length - 64 : 0);
	words[2] = (u64)QUOTA_KIND_PREFIX << QUOTA_KIND_SHIFT | packet->family;
}

/* Now, which is asked for once a packet, and only if anything depends on it. */
INLINE u64 time_of(u64 *now)
{
	if (!*now)
		*now = bpf_ktime_get_ns();
	return *now;
}

/* until: 0 when it never was, QUOTA_NEVER_ENDS as long as the relay does not say otherwise. */
INLINE bool is_until(u64 until, u64 *now)
{
	return until && (until == QUOTA_NEVER_ENDS || time_of(now) < until);
}

/* The row of the subject with this hash, if it may open no more connections now. */
INLINE struct quota_row *refusing(const u64 *seed, u64 hash, u64 *now)
{
	u32 index = TABLE_FIND(QUOTA_REFUSED, seed, hash, QUOTA_OWNER);
	struct quota_row *row;

	if (index == TABLE_NONE)
		return NULL;
	row = MAP_AT(QUOTA_ROWS, index);
	return row && is_until(LOAD(row->until), now) ? row : NULL;
}

INLINE bool take(u32 index, const struct rate *rate, u64 now)
{
	struct meter *meter = MAP_AT(QUOTA_METERS, THIS_HOOK * QUOTA_HOOK_METERS + index);

	return meter && meter_take(meter, rate, now);
}

/* Two cells, of which one has to have room: who shares one with a flood has the other. */
INLINE bool prefix_has_attempts(const struct quota *quota, u64 hash, u64 now)
{
	u32 cells = QUOTA_HOOK_METERS - QUOTA_METER_CELLS;
	u32 first = (u32)hash % cells;
	u32 other = (first + 1 + (u32)(hash >> 32) % (cells - 1)) % cells;

	return take(QUOTA_METER_CELLS + first, &quota->prefix_attempts, now) ||
	       take(QUOTA_METER_CELLS + other, &quota->prefix_attempts, now);
}

/*
 * REASON_C_QUOTA_* for a first packet: PASSED, KNOWN, EXEMPT, or why it is refused. id: of the
 * destination; row: set to whose connections are the reason, if they are somebody's.
 */
INLINE u32 quota_reason(struct quota *quota, const u64 *seed, const struct udp_packet *packet,
			const u64 *id, struct quota_row **row)
{
	u64 now = 0, words[SIPHASH_WORDS], prefix;

	*row = NULL;
	if (is_exempt(quota, packet))
		return REASON_C_QUOTA_EXEMPT;
	if (TABLE_FIND(QUOTA_KNOWN, seed, siphash(quota->key, id), QUOTA_OWNER) != TABLE_NONE)
		return REASON_C_QUOTA_KNOWN;
	if (is_until(LOAD(quota->total_until), &now))
		return REASON_C_QUOTA_TOTAL;
	words[0] = packet->source_address[0];
	words[1] = packet->source_address[1];
	words[2] = (u64)QUOTA_KIND_ADDRESS << QUOTA_KIND_SHIFT | packet->family;
	*row = refusing(seed, siphash(quota->key, words), &now);
	if (*row)
		return REASON_C_QUOTA_ADDRESS;
	prefix_of(quota, packet, words);
	prefix = siphash(quota->key, words);
	*row = refusing(seed, prefix, &now);
	if (*row)
		return REASON_C_QUOTA_PREFIX;
	if (!prefix_has_attempts(quota, prefix, time_of(&now)))
		return REASON_C_QUOTA_PREFIX_ATTEMPTS;
	if (!take(QUOTA_METER_ATTEMPTS, &quota->attempts, time_of(&now)))
		return REASON_C_QUOTA_ATTEMPTS;
	return REASON_C_QUOTA_PASSED;
}

/* A packet that was refused counts once: where it ended, or else at the veth. */
INLINE void count_refused(struct quota_row *row)
{
	if (row)
		ADD(row->refused, 1);
}

/* Whether a packet goes on; some refused ones do, to be told. */
INLINE bool quota_passes(struct quota *quota, u32 reason)
{
	switch (reason) {
	case REASON_C_QUOTA_PASSED:
	case REASON_C_QUOTA_KNOWN:
	case REASON_C_QUOTA_EXEMPT:
		return true;
	case REASON_C_QUOTA_ADDRESS:
	case REASON_C_QUOTA_PREFIX:
	case REASON_C_QUOTA_TOTAL:
		return LOAD(quota->answer) &&
		       take(QUOTA_METER_ANSWERS, &quota->answers, bpf_ktime_get_ns());
	default:
		return false;
	}
}
