/* What comes to a device after the programs under test, told to user space; goes no further. */
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>

#define MAP(fd) ((void *)bpf_pseudo_fd(1, fd))
#define ROOM 4096

struct captured {
	u32 length;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 tc_index;
	u32 hash;
	u32 cb[5];
	u32 gso_size;
	u32 ifindex;
	u8 data[ROOM];
};

int capture(struct __sk_buff *skb)
{
	struct captured *record = bpf_ringbuf_reserve(MAP(MAP_CAPTURED), sizeof(*record), 0);
	if (!record)
		return TC_ACT_SHOT;
	record->length = skb->len;
	record->pkt_type = skb->pkt_type;
	record->mark = skb->mark;
	record->queue_mapping = skb->queue_mapping;
	record->tc_index = skb->tc_index;
	record->hash = skb->hash;
	record->cb[0] = skb->cb[0];
	record->cb[1] = skb->cb[1];
	record->cb[2] = skb->cb[2];
	record->cb[3] = skb->cb[3];
	record->cb[4] = skb->cb[4];
	record->gso_size = skb->gso_size;
	record->ifindex = skb->ifindex;
	u64 size = skb->len - 1;
	asm volatile("" : "+r"(size));
	size &= ROOM - 1;
	asm volatile("" : "+r"(size));
	bpf_skb_load_bytes(skb, 0, record->data, size + 1);
	bpf_ringbuf_submit(record, 0);
	return TC_ACT_SHOT;
}

/* Overtakes nothing: when it is captured, so is all that was cloned before it. */
int fence(struct __sk_buff *skb)
{
	skb->mark = FENCE_MARK;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	return TC_ACT_UNSPEC;
}
