/*
 * Tables that the relay writes and programs read: what a key of an owner's stands for. A pair is
 * in one of two buckets, which a hash names that nobody can aim at who does not know the seed.
 * The value is written after the key, and a pair that was erased rests before it is used for
 * another key (fastpath/tables.py): whatever is read together belongs together.
 */
#pragma once

#include "atomic.h"
#include "maps.h"

/* Two bucket numbers, of 16 bits each. */
INLINE u32 table_hash(const u64 *seed, u64 key, u64 owner)
{
	u64 hash = (key ^ seed[0]) * seed[1];

	hash ^= hash >> 32;
	return (hash + owner) * TABLE_MULTIPLIER >> 32;
}

INLINE u32 bucket_find(const struct bucket *bucket, u64 key, u32 owner)
{
	if (key == TABLE_ERASED)
		return TABLE_NONE;
#pragma unroll
	for (int i = 0; i < BUCKET_PAIRS; i++) {
		u64 value = LOAD(bucket->pairs[i].value);

		if (LOAD(bucket->pairs[i].key) == key && value >> 32 == owner)
			return value;
	}
	return TABLE_NONE;
}

/* The value, or TABLE_NONE. name: of the map. owner: not 0. */
#define TABLE_FIND(name, seed, key, owner)                                                         \
	({                                                                                         \
		u32 _hash = table_hash(seed, key, owner), _found = TABLE_NONE;                     \
		struct bucket *_bucket = MAP_AT(name, _hash & (name##_BUCKETS - 1));               \
		if (_bucket)                                                                       \
			_found = bucket_find(_bucket, key, owner);                                 \
		if (_found == TABLE_NONE) {                                                        \
			_bucket = MAP_AT(name, _hash >> 16 & (name##_BUCKETS - 1));                \
			if (_bucket)                                                               \
				_found = bucket_find(_bucket, key, owner);                         \
		}                                                                                  \
		_found;                                                                            \
	})
