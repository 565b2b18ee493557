#ifndef FASTRELAY_NATIVE_LEDGER_H
#define FASTRELAY_NATIVE_LEDGER_H

#include "types.h"

/* The memory of quic/ledger.py, which says what is what. Of each connection: */
#define ROWS    1024
#define NOWHERE ((s64)1 << 62)

/* A packet, as its report has it in one piece. */
struct ledger_row {
	u64 time;
	u32 sequence;
	u16 position;
	u16 size; /* 0: not in flight */
};

/* As native/ledger.py: columns, an element for each connection, but for the rows. */
struct ledger {
	struct ledger_row *rows;
	s64 *low;
	s64 *high;
	s64 *live;
	s64 *gone;
	s64 *sent;
	double *last_send;
	double *timeout;
	u8 *open;
	const u8 *acked; /* s64, each so many bytes behind the one before it */
	u64 acked_stride;
	u64 connections;
};

static inline struct ledger_row *ledger_row(const struct ledger *ledger, u64 connection, s64 number)
{
	return &ledger->rows[connection * ROWS + (u64)number % ROWS];
}

#endif
