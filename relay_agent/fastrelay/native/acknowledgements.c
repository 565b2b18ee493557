/*
 * What the kernel read in peers' acknowledgements, out of the ledger's rows.
 */
#include "ledger.h"
