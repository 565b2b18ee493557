/*
 * The smallest protocol: streams and datagrams begin with one byte, the channel. For the tests of
 * bpf/protocol.h's promise that a protocol is one file.
 */
#pragma once

#include "varint.h"
#include "work.h"

INLINE bool tiny_head(struct cursor *cursor, const u8 *prefix, u64 length, struct head *head)
{
	u64 start = cursor->at, channel;

	if (!has_prefix(cursor, prefix, length))
		return false;
	channel = read_byte(cursor);
	*head = (struct head){.channel = channel, .cut = cursor->at - start};
	return !overran(cursor);
}

INLINE bool protocol_stream_head(const struct connection *connection, struct cursor *cursor,
				 struct head *head)
{
	return tiny_head(cursor, connection->prefix, connection->prefix_length, head);
}

INLINE bool protocol_datagram_head(const struct connection *connection, struct cursor *cursor,
				   struct head *head)
{
	return tiny_head(cursor, connection->datagram_prefix, connection->datagram_prefix_length,
			 head);
}
