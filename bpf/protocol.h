/*
 * What streams and datagrams begin with. The compiler is told which protocol it is:
 * -DPROTOCOL_HEADER="\"protocol_moqt.h\"". That file defines
 *
 *   bool protocol_stream_head(const struct connection *, struct cursor *, struct head *)
 *   bool protocol_datagram_head(const struct connection *, struct cursor *, struct head *)
 *
 * The cursor is at the first byte, its end is the end of what there is. False: this is no media,
 * or not understood, or not complete. True: the head has been filled in:
 *
 *   channel       names the track, with the connection
 *   ordinal       what a member's range is about
 *   cut           so many bytes from the first on become a member's template ...
 *   keep_at,      ... but for these of them, which are kept
 *   keep_length
 *   priority      of the publisher; less is more urgent
 *   unranked      whether it says none: then the track's counts
 */
#pragma once

#include "varint.h"
#include "work.h"

#include PROTOCOL_HEADER
