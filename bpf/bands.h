/*
 * Which streams and datagrams of a member are sent, and what they cost: the rule of
 * fastpath/bands.py, on the same numbers.
 */
#pragma once

#include "atomic.h"
#include "maps.h"

#define CHARGE_TRIES   8
#define BAND_HASH_BITS 8

#define JUDGED_SENT      1
#define JUDGED_DROPPED   2
#define JUDGED_TICK_MASK ((1ull << JUDGED_TICK_BITS) - 1)

_Static_assert(BAND_LEVELS == 1 << BAND_HASH_BITS, "group_hash");

INLINE u32 band_of(const struct bands *bands, u8 publisher, u8 subscriber)
{
	int priority = (int)publisher + subscriber - NEUTRAL_PRIORITY;
	u32 band = 0;

	/* Numbers from 0 to 255 from here on: the ends of bands are such. */
	if (priority < 0)
		priority = 0;
	if (priority > 255)
		priority = 255;
#pragma unroll
	for (int i = 0; i < BANDS - 1; i++)
		band += priority > bands->ends[i];
	return band;
}

INLINE u32 group_hash(u64 group)
{
	return group * TABLE_MULTIPLIER >> (64 - BAND_HASH_BITS);
}

INLINE struct band *band_at(struct bands *bands, u64 band)
{
	BOUND(band, BANDS - 1);
	return &bands->each[band];
}

/* How far a packet of the band may go of what the congestion window allows. */
INLINE u64 band_limit(struct bands *bands, u32 band, u64 limit)
{
	u64 reserve = LOAD(band_at(bands, band)->reserve);

	return limit > reserve ? limit - reserve : 0;
}

INLINE bool is_beyond(struct bands *bands, u32 band, u64 group)
{
	return band * BAND_LEVELS + group_hash(group) + LOAD(bands->level) >= BANDS * BAND_LEVELS;
}

INLINE bool is_judged(u64 there, u64 group, u64 now)
{
	u64 ticks = (now >> JUDGED_TICK_SHIFT) - (there >> 2) + JUDGED_TICKS;

	return there && there >> 32 == (u32)group && (ticks & JUDGED_TICK_MASK) < 2 * JUDGED_TICKS;
}

/* Whether the level drops a datagram: what was decided for its group lately, if anything was. */
INLINE bool drops_datagram(struct bands *bands, u32 band, u64 group, u64 now)
{
	u64 *judged = &band_at(bands, band)->judged[group & (JUDGED - 1)];
	u64 there, wanted, tick = now >> JUDGED_TICK_SHIFT & JUDGED_TICK_MASK;
	bool beyond = is_beyond(bands, band, group);

	if (LOAD(bands->remembers) <= now)
		return beyond;
	there = LOAD(*judged);
	if (!is_judged(there, group, now)) {
		wanted = group << 32 | tick << 2 | (beyond ? JUDGED_DROPPED : JUDGED_SENT);
		if (__sync_val_compare_and_swap(judged, there, wanted) == there)
			return beyond;
		there = LOAD(*judged);
		if (!is_judged(there, group, now))
			return beyond;
	}
	return there & JUDGED_DROPPED;
}

/*
 * now: of no account if there is no price and nothing is remembered. 0, or the reason for which it
 * is dropped.
 */
INLINE u32 judge(struct bands *bands, u32 band, u64 group, bool datagram, u64 now)
{
	struct band *own = band_at(bands, band);

	if (datagram ? drops_datagram(bands, band, group, now) : is_beyond(bands, band, group))
		return REASON_B_DROPPED_LEVEL;
	if (!LOAD(bands->price))
		return 0;
	if (LOAD(own->price) && LOAD(own->due) <= now + LOAD(bands->burst))
		return 0;
	if (LOAD(bands->due) <= now + LOAD(own->patience))
		return 0;
	return REASON_B_DROPPED_SHARE;
}

INLINE void spend(u64 *due, u64 cost, u64 now, u64 most)
{
	for (int i = 0; i < CHARGE_TRIES; i++) {
		u64 there = LOAD(*due);
		u64 wanted = (there > now ? there : now) + cost;

		if (wanted > most)
			wanted = there > most ? there : most;
		if (__sync_val_compare_and_swap(due, there, wanted) == there)
			return;
	}
}

/* now: as above. */
INLINE void charge(struct bands *bands, u32 band, u64 size, u64 now)
{
	struct band *own = band_at(bands, band);
	u64 price = LOAD(bands->price), most = ~0ull;

	ADD(own->bytes, size);
	if (!price)
		return;
	if (LOAD(bands->due) <= now + LOAD(own->patience))
		most = now + LOAD(bands->burst) + LOAD(bands->overflow);
	spend(&own->due, size * LOAD(own->price) >> PRICE_SHIFT, now, most);
	spend(&bands->due, size * price >> PRICE_SHIFT, now, ~0ull);
}

/* The time that judge and charge need. */
INLINE u64 bands_now(const struct bands *bands)
{
	return LOAD(bands->price) || LOAD(bands->remembers) ? bpf_ktime_get_ns() : 0;
}
