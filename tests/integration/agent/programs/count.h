#pragma once

#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
#include "version.h"

#define MAP(name) ((void *)bpf_pseudo_fd(1, MAP_##name))
#define bpf_htons(value) __builtin_bswap16(value)

static inline __attribute__((always_inline)) void count(u32 key)
{
	u64 *counter = bpf_map_lookup_elem_((u64)MAP(COUNTERS), &key);
	if (counter)
		__sync_fetch_and_add(counter, 1);
}
