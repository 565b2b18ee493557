/* Fields that others change at the same time. */
#pragma once

#include "bounds.h"

#define LOAD(field) (*(const volatile typeof(field) *)&(field))

/*
 * Atomic; nothing before it is seen after it, nor the other way round. Without a use of the
 * result the compiler would take an instruction that orders nothing on arm64.
 */
#define ADD_ORDERED(field, n)                                                                      \
	do {                                                                                       \
		u64 _before = __sync_fetch_and_add(&(field), n);                                   \
		OPAQUE(_before);                                                                   \
	} while (0)

/* Statistics: atomic, in no order. */
#define ADD(field, n) ((void)__sync_fetch_and_add(&(field), n))
