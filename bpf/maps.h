/* Access to maps by file descriptor: the compiler is told -DMAP_<NAME>=<fd> for each of layout.py.
 */
#pragma once

#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
#include "layout.h"

#define INLINE static inline __attribute__((always_inline))

/* What -DMAP_<NAME> says. Some names are sizes too (layout.h): hence the pasting at once. */
#define MAP_OF(fd) ((void *)bpf_pseudo_fd(1, fd))
#define MAP(name)  MAP_OF(MAP_##name)

/* Element of an array map, or NULL if there is none of that index. */
#define MAP_AT(name, index)                                                                        \
	({                                                                                         \
		u32 _index = (index);                                                              \
		bpf_map_lookup_elem_((u64)MAP_OF(MAP_##name), &_index);                            \
	})

/* Goes on in another program of this hook; returns only if there is none. */
#define NEXT_STAGE(skb, stage) bpf_tail_call_((u64)MAP(PROGRAMS), skb, stage)

/*
 * Nobody waits for records: the relay looks when it has read packets. A notification would cost
 * an interrupt to this very CPU, in virtual machines ten times as much as a packet.
 */
#define RING_QUIETLY BPF_RB_NO_WAKEUP
