/*
 * The quota at a device of the node, by XDP: packets to the relay that would open a connection,
 * before anything is made for them. Whatever passes goes on to program A, and is counted there.
 */
#define THIS_HOOK      QUOTA_HOOK_DEVICE
#define CONTEXT        struct xdp_md
#define LOAD_ANY_BYTES bpf_xdp_load_bytes

#include "packet.h"
#include "quota.h"

/* Whether it is UDP that is for the relay. What is read here differs in nothing from what A reads.
 */
INLINE bool parse_frame(struct xdp_md *frame, struct udp_packet *packet)
{
	struct quota_site *site = MAP_AT(QUOTA_SITE, 0);
	struct ethhdr ethernet;

	if (!site || LOAD_BYTES(frame, 0, &ethernet, sizeof(ethernet)))
		return false;
	if (ethernet.h_proto == bpf_htons(ETH_P_IP)) {
		if (parse_ipv4(frame, packet) || packet->destination_address[0] != site->ipv4)
			return false;
	} else if (ethernet.h_proto == bpf_htons(ETH_P_IPV6)) {
		if (parse_ipv6(frame, packet) || packet->destination_address[0] != site->ipv6[0] ||
		    packet->destination_address[1] != site->ipv6[1])
			return false;
	} else {
		return false;
	}
	return !LOAD_BYTES(frame, packet->payload, &packet->start.first, QUIC_START_SIZE) &&
	       packet->payload_length >= QUIC_START_SIZE;
}

int device_ingress(struct xdp_md *frame)
{
	struct shared *shared = MAP_AT(SHARED, 0);
	struct quota *quota = MAP_AT(QUOTA, 0);
	u64 id[SIPHASH_WORDS], seed[2];
	struct udp_packet packet;
	struct quota_row *row;
	u32 reason;

	if (!shared || !quota || !LOAD(quota->enabled) || !parse_frame(frame, &packet) ||
	    packet.destination_port != quota->port || !is_opening(&packet.start))
		return XDP_PASS;
	seed[0] = shared->seed[0];
	seed[1] = shared->seed[1];
	load_id(frame, &packet, id);
	reason = quota_reason(quota, seed, &packet, id, &row);
	if (quota_passes(quota, reason))
		return XDP_PASS;
	count(reason);
	count(REASON_C_QUOTA_AT_DEVICE);
	count_refused(row);
	return XDP_DROP;
}
