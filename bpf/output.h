/* A copy as a packet on the wire: its size, Ethernet, IP and UDP headers, checksums. */
#pragma once

#include "copy.h"
#include "link.h"
#include "packet_write.h"

#define ETHERNET_SIZE    14
#define IPV4_SIZE        20
#define IPV6_SIZE        40
#define UDP_SIZE         8
#define ETHERTYPE_IPV4   0x0800
#define ETHERTYPE_IPV6   0x86dd
#define HOP_LIMIT        64
#define PROTOCOL_UDP     17
#define UDP_CHECKSUM_AT  6
#define PACKET_HOST      0
#define CHECKSUM_CHUNK   512 /* what bpf_csum_diff takes at once before 6.13 */
#define CHECKSUM_CHUNKS  3   /* of text and tag */
#define ETHERNET_AT      2   /* in copy->wire, so that what follows is aligned */
#define SHORT_HEADER_SUM (UDP_SIZE + AEAD_AAD_SIZE)

INLINE u32 headers_size(u32 family)
{
	return ETHERNET_SIZE + (family == 6 ? IPV6_SIZE : IPV4_SIZE) + UDP_SIZE;
}

/*
 * Makes the clone, whatever it was, a packet of the connection's family for copy->size bytes.
 * The first step makes a GSO super-packet an ordinary one; only such ones change their family.
 */
INLINE bool resize(struct __sk_buff *skb, struct copy *copy, u32 family)
{
	u32 was = skb->protocol == __builtin_bswap16(ETHERTYPE_IPV6) ? 6 : 4;

	if (bpf_skb_change_tail(skb, headers_size(was) + copy->size, 0))
		return false;
	if (was == family)
		return true;
	return !bpf_skb_change_proto(
		skb, __builtin_bswap16(family == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4), 0);
}

/* Of a ones' complement sum of 16 or 32 bit words; any order of bytes. */
INLINE u64 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

INLINE u64 sum_words(const u32 *words, int count)
{
	u64 sum = 0;

#pragma unroll
	for (int i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* Of the text and its tag: length bytes of it. */
INLINE u64 sum_text(struct aead *aead, u64 length)
{
	u64 end = length;
	u32 sum = 0;

	BOUND(end, AEAD_TEXT_MASK);
	*(u32 *)(aead->text + end) = 0;
	length = (length + 3) & ~3ull;
#pragma unroll
	for (int i = 0; i < CHECKSUM_CHUNKS; i++) {
		u64 rest = length;

		if (rest >= CHECKSUM_CHUNK) {
			sum = bpf_csum_diff(NULL, 0, aead->text + i * CHECKSUM_CHUNK,
					    CHECKSUM_CHUNK, sum);
			length -= CHECKSUM_CHUNK;
			continue;
		}
		BOUND(rest, CHECKSUM_CHUNK - 4);
		if (rest)
			sum = bpf_csum_diff(NULL, 0, aead->text + i * CHECKSUM_CHUNK, rest, sum);
		break;
	}
	return sum;
}

/*
 * The addresses with which the peer's own packets came; while there were none, those of the
 * clone, turned round: wrong only where peers are on one link with the pod.
 */
INLINE bool write_ethernet(struct __sk_buff *skb, u8 *ethernet, struct connection *connection,
			   u32 ethertype)
{
	const u32 *link = (const u32 *)connection->link;
	u32 addresses[3];

	*(u16 *)(ethernet + 12) = __builtin_bswap16(ethertype);
	if (link[0] | link[1]) {
#pragma unroll
		for (int i = 0; i < 3; i++)
			*(u32 *)(ethernet + 4 * i) = link[i];
		return true;
	}
	if (bpf_skb_load_bytes(skb, 0, addresses, sizeof(addresses)))
		return false;
	turn_round((u32 *)ethernet, addresses);
	return true;
}

INLINE void write_ipv4(u32 *ip, struct connection *connection, u32 udp_length)
{
	ip[0] = 0x45 | (u32)__builtin_bswap16(IPV4_SIZE + udp_length) << 16;
	ip[1] = __builtin_bswap32(0x4000); /* don't fragment */
	ip[2] = HOP_LIMIT | PROTOCOL_UDP << 8;
	ip[3] = *(u32 *)connection->local_address;
	ip[4] = *(u32 *)connection->remote_address;
	ip[2] |= (u32)(u16)~fold(sum_words(ip, 5)) << 16;
}

INLINE void write_ipv6(u32 *ip, struct connection *connection, u32 udp_length)
{
	ip[0] = 0x60;
	ip[1] = __builtin_bswap16(udp_length) | PROTOCOL_UDP << 16 | HOP_LIMIT << 24;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		ip[2 + i] = ((u32 *)connection->local_address)[i];
		ip[6 + i] = ((u32 *)connection->remote_address)[i];
	}
}

/*
 * UDP header and the short header behind it. The checksum field becomes the sum of the pseudo
 * header: what it has to be if the device or the stack adds the rest (CHECKSUM_PARTIAL).
 * Returns what bpf_l4_csum_replace makes of this the whole checksum with; it leaves the field
 * alone for CHECKSUM_PARTIAL.
 */
INLINE u64 write_udp(u32 *udp, struct copy *copy, struct connection *connection, u64 addresses)
{
	u16 length = __builtin_bswap16(UDP_SIZE + copy->size);
	u64 pseudo = fold(addresses + __builtin_bswap16(PROTOCOL_UDP) + length);
	u64 text = fold(sum_text(&copy->aead, copy->sealed)), sum;

	udp[0] = (u32)connection->remote_port << 16 | connection->local_port;
	udp[1] = length;
#pragma unroll
	for (int i = 0; i < AEAD_AAD_SIZE / 4; i++)
		udp[2 + i] = ((u32 *)copy->aead.aad)[i];
	/* Behind a header of odd length, the text's bytes change places in their words. */
	if (copy->aead.aad_length & 1)
		text = __builtin_bswap16(text);
	sum = sum_words(udp, SHORT_HEADER_SUM / 4) + text;
	udp[1] |= (u32)pseudo << 16;
	return fold(sum + 2 * pseudo);
}

/* One family's headers, from copy->wire to the skb, and the UDP checksum. */
#define WRITE_HEADERS(skb, copy, connection, ethertype, ip_size, write_ip, address_words)          \
	({                                                                                         \
		u8 *_wire = (copy)->wire + ETHERNET_AT;                                            \
		u32 *_ip = (u32 *)(_wire + ETHERNET_SIZE), *_udp = _ip + (ip_size) / 4;            \
		u64 _end = ETHERNET_SIZE + (ip_size) + UDP_SIZE + (copy)->aead.aad_length;         \
		u64 _addresses, _difference;                                                       \
		bool _done = write_ethernet(skb, _wire, connection, ethertype);                    \
		write_ip(_ip, connection, UDP_SIZE + (copy)->size);                                \
		_addresses = sum_words(_udp - (address_words), address_words);                     \
		_difference = write_udp(_udp, copy, connection, _addresses);                       \
		_done &&                                                                           \
			!bpf_skb_store_bytes(skb, 0, _wire, SIZE(_end, WIRE_SIZE - 1),             \
					     STORE_FLAGS) &&                                       \
			!bpf_l4_csum_replace(skb, ETHERNET_SIZE + (ip_size) + UDP_CHECKSUM_AT, 0,  \
					     _difference, BPF_F_MARK_MANGLED_0);                   \
	})

/* The sealed copy becomes the skb's packet. */
INLINE bool write_packet(struct __sk_buff *skb, struct copy *copy, struct connection *connection)
{
	u32 headers = headers_size(connection->family);
	u64 length = copy->sealed;

	if (bpf_skb_store_bytes(skb, headers + copy->aead.aad_length, copy->aead.text,
				SIZE(length, AEAD_TEXT_MASK), STORE_FLAGS))
		return false;
	if (connection->family == 6)
		return WRITE_HEADERS(skb, copy, connection, ETHERTYPE_IPV6, IPV6_SIZE, write_ipv6,
				     8);
	return WRITE_HEADERS(skb, copy, connection, ETHERTYPE_IPV4, IPV4_SIZE, write_ipv4, 2);
}

/* A field of the context: the verifier takes no write that is joined with its neighbour's. */
#define CLEAR(field) (*(volatile u32 *)&(field) = 0)

/* Nothing that A wrote for B goes further; the stack takes the packet as the pod's own. */
INLINE void clear(struct __sk_buff *skb)
{
#ifndef ATTACH_POD
	bpf_skb_change_type(skb, PACKET_HOST);
#endif
	CLEAR(skb->mark);
	CLEAR(skb->queue_mapping);
	CLEAR(skb->tc_index);
#pragma unroll
	for (int i = 0; i < 5; i++)
		CLEAR(skb->cb[i]);
}
