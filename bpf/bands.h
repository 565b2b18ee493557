/*
 * Which streams and datagrams of a member are sent, and what they cost: the rule of
 * fastpath/bands.py, on the same numbers.
 */
#pragma once

#include "atomic.h"
#include "maps.h"

#define CHARGE_TRIES   8
#define BAND_HASH_BITS 8

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

/* now: of no account if there is no price. 0, or the reason for which it is dropped. */
INLINE u32 judge(struct bands *bands, u32 band, u64 group, u64 now)
{
	struct band *own = band_at(bands, band);

	if (band * BAND_LEVELS + group_hash(group) + LOAD(bands->level) >= BANDS * BAND_LEVELS)
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
	return LOAD(bands->price) ? bpf_ktime_get_ns() : 0;
}
