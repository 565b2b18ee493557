/*
 * Media over QUIC Transport: SUBGROUP_HEADER and OBJECT_DATAGRAM (draft-ietf-moq-transport-18
 * sections 11.4.2 and 11.3.1), the same in drafts 16 to 22 but for the integers and FIRST_OBJECT.
 * A connection's prefixes are WebTransport's. Types are taken in their form of one byte only.
 */
#pragma once

#include "varint.h"
#include "work.h"

#define MOQT_VARIANT_QUIC_VARINTS 0 /* draft 16 */

#define SUBGROUP_TYPE             0x10
#define SUBGROUP_ID_MODE          0x06
#define SUBGROUP_ID_PRESENT       0x04
#define SUBGROUP_DEFAULT_PRIORITY 0x20
#define SUBGROUP_FIRST_OBJECT     0x40
#define SUBGROUP_BITS             0x2f /* that may be set beside the type */

#define DATAGRAM_PROPERTIES       0x01
#define DATAGRAM_ZERO_OBJECT_ID   0x04
#define DATAGRAM_DEFAULT_PRIORITY 0x08
#define DATAGRAM_BITS             0x0f /* a status is left to user space */

INLINE u64 moqt_read(const struct connection *connection, struct cursor *cursor)
{
	return connection->variant == MOQT_VARIANT_QUIC_VARINTS ? read_varint(cursor)
								: read_moqt_varint(cursor);
}

/* Of a head whose type is at keep_at: the fields that streams and datagrams have in common. */
INLINE void moqt_track_and_group(const struct connection *connection, struct cursor *cursor,
				 u64 start, u64 type_at, struct head *head)
{
	head->channel = moqt_read(connection, cursor);
	head->cut = cursor->at - start;
	head->keep_at = type_at - start;
	head->keep_length = 1;
	head->ordinal = moqt_read(connection, cursor);
}

INLINE bool protocol_stream_head(const struct connection *connection, struct cursor *cursor,
				 struct head *head)
{
	u64 start = cursor->at, type_at, type;
	u64 first_object =
		connection->variant == MOQT_VARIANT_QUIC_VARINTS ? 0 : SUBGROUP_FIRST_OBJECT;

	if (!has_prefix(cursor, connection->prefix, connection->prefix_length))
		return false;
	type_at = cursor->at;
	type = read_byte(cursor);
	if ((type & ~(SUBGROUP_BITS | first_object)) != SUBGROUP_TYPE ||
	    (type & SUBGROUP_ID_MODE) == SUBGROUP_ID_MODE)
		return false;
	moqt_track_and_group(connection, cursor, start, type_at, head);
	if ((type & SUBGROUP_ID_MODE) == SUBGROUP_ID_PRESENT)
		moqt_read(connection, cursor);
	head->unranked = !!(type & SUBGROUP_DEFAULT_PRIORITY);
	if (!head->unranked)
		head->priority = read_byte(cursor);
	return !overran(cursor);
}

INLINE bool protocol_datagram_head(const struct connection *connection, struct cursor *cursor,
				   struct head *head)
{
	u64 start = cursor->at, type_at, type, properties;

	if (!has_prefix(cursor, connection->datagram_prefix, connection->datagram_prefix_length))
		return false;
	type_at = cursor->at;
	type = read_byte(cursor);
	if (type & ~DATAGRAM_BITS)
		return false;
	moqt_track_and_group(connection, cursor, start, type_at, head);
	if (!(type & DATAGRAM_ZERO_OBJECT_ID))
		moqt_read(connection, cursor);
	head->unranked = !!(type & DATAGRAM_DEFAULT_PRIORITY);
	if (!head->unranked)
		head->priority = read_byte(cursor);
	if (type & DATAGRAM_PROPERTIES) {
		properties = moqt_read(connection, cursor);
		if (!properties || properties > AEAD_MAX_LENGTH)
			return false;
		skip_bytes(cursor, properties);
	}
	return !overran(cursor);
}
