/* What the verifier has to be shown about numbers that come from packets. */
#pragma once

/* v &= mask, where the compiler may neither drop the mask nor move it away from the use. */
#define BOUND(v, mask)                                                                             \
	do {                                                                                       \
		asm volatile("" : "+r"(v));                                                        \
		(v) &= (mask);                                                                     \
		asm volatile("" : "+r"(v));                                                        \
	} while (0)

/*
 * v as a size in 1..mask + 1, for helpers. Verifiers before 6.8 do not raise a register's
 * minimum after "!= 0", so that it has to be added.
 */
#define SIZE(v, mask)                                                                              \
	({                                                                                         \
		u64 _size = (v)-1;                                                                 \
		BOUND(_size, mask);                                                                \
		_size + 1;                                                                         \
	})

/* A value that neither compiler nor verifier can connect with what it was made of. */
#define OPAQUE(v) asm volatile("" : "+r"(v))

/* Here the verifier compares what it knows: of ways that are no longer different it follows one. */
#define SAME_FROM_HERE asm volatile("goto +0" : : : "memory")
