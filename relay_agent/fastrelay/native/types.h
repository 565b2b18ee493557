#ifndef FASTRELAY_NATIVE_TYPES_H
#define FASTRELAY_NATIVE_TYPES_H

/* The kernel's names, which bpf/layout.h uses. */

#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#include "../bpf/layout.h"

#endif
