/* Ethernet, IPv4 or IPv6, UDP, and the first bytes of QUIC. */
#pragma once

#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/udp.h>
#include "bounds.h"
#include "maps.h"

/* What a packet is at this hook, and how it is read. */
#ifndef CONTEXT
#define CONTEXT        struct __sk_buff
#define LOAD_ANY_BYTES bpf_skb_load_bytes
#endif

#define NEAR 127

/*
 * LOAD_ANY_BYTES for so many bytes, known to the compiler, at NEAR or before: without a call where
 * they lie in one piece with the packet's beginning, as headers do.
 */
#define LOAD_BYTES(context, at, to, size)                                                          \
	({                                                                                         \
		u64 _at = (at);                                                                    \
		const void *_from;                                                                 \
		BOUND(_at, NEAR);                                                                  \
		_from = (void *)(u64)(context)->data + _at;                                        \
		_from + (size) <= (void *)(u64)(context)->data_end                                 \
			? (__builtin_memcpy(to, _from, size), 0)                                   \
			: LOAD_ANY_BYTES(context, at, to, size);                                   \
	})

#define QUIC_LONG_HEADER 0x80
#define IPV4_FRAGMENT    0x3fff /* more of them, or an offset */

struct ipv4_headers {
	struct ethhdr ethernet;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

struct ipv6_headers {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct udphdr udp;
} __attribute__((packed));

#define QUIC_START_SIZE (1 + CONNECTION_ID_LENGTH)

struct quic_start {
	u8 unused[7];
	u8 first;
	union {
		u64 destination; /* short header; its bytes in the machine's order */
		u8 version[4];   /* long header */
	};
};

/* A UDP packet, IPv4 addresses in the first 4 bytes, ports in network order. */
struct udp_packet {
	u64 source_address[2];
	u64 destination_address[2];
	u16 source_port;
	u16 destination_port;
	u32 payload; /* where it begins in the skb */
	u32 payload_length;
	u32 family;
	u32 unused;
	struct quic_start start;
};

INLINE void udp_fill(struct udp_packet *packet, const struct udphdr *udp)
{
	packet->source_port = udp->source;
	packet->destination_port = udp->dest;
	packet->payload_length = bpf_ntohs(udp->len) - sizeof(*udp);
}

/* 0, or why it is not for us. */
INLINE u32 parse_ipv4(CONTEXT *context, struct udp_packet *packet)
{
	struct ipv4_headers headers;

	if (LOAD_BYTES(context, 0, &headers, sizeof(headers)) || headers.ip.protocol != IPPROTO_UDP)
		return REASON_A_NOT_UDP;
	if (headers.ip.version != 4 || headers.ip.ihl != 5)
		return REASON_A_IP_OPTIONS;
	if (headers.ip.frag_off & bpf_htons(IPV4_FRAGMENT))
		return REASON_A_FRAGMENT;
	packet->family = 4;
	packet->payload = sizeof(headers);
	packet->source_address[0] = headers.ip.saddr;
	packet->destination_address[0] = headers.ip.daddr;
	packet->source_address[1] = packet->destination_address[1] = 0;
	udp_fill(packet, &headers.udp);
	return 0;
}

INLINE u32 parse_ipv6(CONTEXT *context, struct udp_packet *packet)
{
	struct ipv6_headers headers;

	if (LOAD_BYTES(context, 0, &headers, sizeof(headers)))
		return REASON_A_NOT_UDP;
	switch (headers.ip.nexthdr) {
	case IPPROTO_UDP:
		break;
	case IPPROTO_FRAGMENT:
		return REASON_A_FRAGMENT;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return REASON_A_IP_OPTIONS;
	default:
		return REASON_A_NOT_UDP;
	}
	packet->family = 6;
	packet->payload = sizeof(headers);
	__builtin_memcpy(packet->source_address, &headers.ip.saddr, 16);
	__builtin_memcpy(packet->destination_address, &headers.ip.daddr, 16);
	udp_fill(packet, &headers.udp);
	return 0;
}

/* Fills the packet. 0, or why it is not for us. */
INLINE u32 parse_packet(struct __sk_buff *skb, struct udp_packet *packet)
{
	u32 reason;

	if (skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) ||
	    skb->protocol == bpf_htons(ETH_P_8021AD))
		return REASON_A_VLAN;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		reason = parse_ipv4(skb, packet);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		reason = parse_ipv6(skb, packet);
	else
		return REASON_A_NOT_UDP;
	if (reason)
		return reason;
	if (LOAD_BYTES(skb, packet->payload, &packet->start.first, QUIC_START_SIZE) ||
	    packet->payload_length < QUIC_START_SIZE ||
	    packet->payload_length > skb->len - packet->payload)
		return REASON_A_TRUNCATED;
	return 0;
}
