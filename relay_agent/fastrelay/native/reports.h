#ifndef FASTRELAY_NATIVE_REPORTS_H
#define FASTRELAY_NATIVE_REPORTS_H

#include "types.h"

/* As it lies in the ring. */
struct reported {
	u32 length;
	u32 page;
	struct report report;
};

#endif
