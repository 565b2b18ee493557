/*
 * What the kernel reports of the packets it sent, into the ledger's rows.
 */
#include "ledger.h"
