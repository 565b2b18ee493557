/* Generated from fastrelay/fastpath/layout.py by `make layout`; do not edit. */
/* clang-format off */
#pragma once

#define ACKS_BYTES 262144
#define ACK_NUMBERS 512
#define ARRAYS 2048
#define ARRAY_MEMBERS 1024
#define BANDS 4
#define BAND_LEVELS 256
#define BUCKET_PAIRS 4
#define CHANNELS_BUCKETS 1024
#define CLAIM_WORDS 32
#define CLONE_MAGIC 0x66617374
#define CLONE_MARK 0xfa570000
#define CLONE_MARK_MASK 0xffff0000
#define CONNECTIONS 1024
#define CONNECTION_ID_LENGTH 8
#define COUNTERS 80
#define CPUS 256
#define DATA_SIZE 1536
#define FRAMES 8
#define INTENTS_BYTES 1048576
#define JUDGED 8
#define JUDGED_TICKS 6144
#define JUDGED_TICK_BITS 30
#define JUDGED_TICK_SHIFT 20
#define KEYSTREAMS 16384
#define KEYSTREAMS_AHEAD 16
#define KEYSTREAM_TEXT 1472
#define MAX_DATAGRAM 1452
#define MAX_PEER_CONNECTION_ID 20
#define MEMBERS 4096
#define NEUTRAL_PRIORITY 128
#define PREFIXED 8
#define PRICE_SHIFT 10
#define QUOTA_EXEMPT_BLOCKS 256
#define QUOTA_HOOK_METERS 16386
#define QUOTA_KNOWN_BUCKETS 8192
#define QUOTA_METERS 32772
#define QUOTA_REFUSED_BUCKETS 2048
#define QUOTA_ROWS 8192
#define REPLAY_WORDS 32
#define REPORTS_BYTES 4194304
#define ROUTES_BUCKETS 8192
#define SCRATCH_SIZE 8192
#define SLOTS 1024
#define STREAMS 512
#define STREAM_BUCKET_KEYS 8
#define STREAM_ID_BITS 48
#define STREAM_INDEX_BUCKETS 64
#define STREAM_KEY_SET 0x8000000000000000
#define TABLE_ERASED 0xffffffffffffffff
#define TABLE_MULTIPLIER 0x9e3779b97f4a7c15
#define TABLE_NONE 0xffffffff
#define TEMPLATE_SIZE 16
#define TRACKS 1024

#define SWITCH_OFF 0
#define SWITCH_ON 1

#define DEVICE_MODE_NONE 0
#define DEVICE_MODE_NATIVE 1
#define DEVICE_MODE_GENERIC 2

#define CONNECTION_STATE_OFF 0
#define CONNECTION_STATE_SEND 1
#define CONNECTION_STATE_RECEIVE 2

#define STREAM_STATE_FREE 0
#define STREAM_STATE_LENT 1
#define STREAM_STATE_USER 2

#define LEG_STATE_NONE 0
#define LEG_STATE_KERNEL 1
#define LEG_STATE_USER 2
#define LEG_STATE_CLOSED 3
#define LEG_STATE_DROPPED 4

#define FRAME_KIND_STREAM 1
#define FRAME_KIND_DATAGRAM 2

#define OUTCOME_SENT 0
#define OUTCOME_CONNECTION_OFF 1
#define OUTCOME_MEMBER_OFF 2
#define OUTCOME_NO_LEG 3
#define OUTCOME_NO_NUMBER 4
#define OUTCOME_NO_STREAM 5
#define OUTCOME_NO_STREAM_DATA 6
#define OUTCOME_NO_DATA 7
#define OUTCOME_NO_WINDOW 8
#define OUTCOME_TOO_LARGE 9
#define OUTCOME_BUSY 10
#define OUTCOME_FAILED 11
#define OUTCOME_DROPPED 12

#define QUOTA_KIND_ADDRESS 1
#define QUOTA_KIND_PREFIX 2
#define QUOTA_KIND_CONNECTION_ID 3

#define REASON_A_NOT_UDP 34
#define REASON_A_VLAN 1
#define REASON_A_IP_OPTIONS 2
#define REASON_A_FRAGMENT 3
#define REASON_A_TRUNCATED 4
#define REASON_A_UNKNOWN_CONNECTION 5
#define REASON_A_DISABLED 6
#define REASON_A_NOT_RECEIVING 7
#define REASON_A_WRONG_PATH 8
#define REASON_A_TOO_LARGE 9
#define REASON_A_NO_KEY 10
#define REASON_A_BAD_TAG 11
#define REASON_A_RESERVED_BITS 12
#define REASON_A_REPLAY 13
#define REASON_A_OLD_NUMBER 14
#define REASON_A_BAD_FRAME 15
#define REASON_A_NO_MEDIA 16
#define REASON_A_UNKNOWN_STREAM 17
#define REASON_A_STREAM_ID 35
#define REASON_A_UNKNOWN_TRACK 18
#define REASON_A_BAD_HEAD 19
#define REASON_A_STREAM_USER 20
#define REASON_A_OUT_OF_ORDER 21
#define REASON_A_BUSY 22
#define REASON_A_NO_MEMBERS 23
#define REASON_A_NO_SLOT 24
#define REASON_A_NO_STREAM_SLOT 25
#define REASON_A_RING_FULL 26
#define REASON_A_TOO_MANY_FRAMES 27
#define REASON_A_TOO_MANY_SEGMENTS 28
#define REASON_A_FAILED 29
#define REASON_A_FORWARDED 30
#define REASON_A_FRAMES 31
#define REASON_A_CLONES 32
#define REASON_A_CLONE_FAILED 33
#define REASON_A_ACK 36
#define REASON_A_ACK_UNUSUAL 37
#define REASON_A_ACK_CREDIT 38
#define REASON_A_ACK_RING_FULL 39
#define REASON_B_FORGED 40
#define REASON_B_STALE 41
#define REASON_B_CLAIMED 42
#define REASON_B_RING_FULL 43
#define REASON_B_SKIPPED 44
#define REASON_B_DROPPED_LEVEL 45
#define REASON_B_DROPPED_SHARE 46
#define REASON_B_AHEAD 47
#define REASON_B_OUTCOME 48
#define REASON_C_LONG_INITIAL 64
#define REASON_C_LONG_OTHER 65
#define REASON_C_SHORT_KNOWN 66
#define REASON_C_SHORT_UNKNOWN 67
#define REASON_C_QUOTA_PASSED 68
#define REASON_C_QUOTA_KNOWN 69
#define REASON_C_QUOTA_EXEMPT 70
#define REASON_C_QUOTA_MIXED 71
#define REASON_C_QUOTA_ANSWERED 72
#define REASON_C_QUOTA_ADDRESS 73
#define REASON_C_QUOTA_PREFIX 74
#define REASON_C_QUOTA_TOTAL 75
#define REASON_C_QUOTA_PREFIX_ATTEMPTS 76
#define REASON_C_QUOTA_ATTEMPTS 77
#define REASON_C_QUOTA_AT_DEVICE 78

#define STAGE_A_OPEN 0
#define STAGE_A_MEDIA 1
#define STAGE_A_ACK 2
#define STAGE_C_QUOTA 4
#define STAGE_B_BUILD 8
#define STAGE_B_SEAL 9
#define STAGE_B_OUTPUT 10

#define QUOTA_HOOK_VETH 0
#define QUOTA_HOOK_DEVICE 1

#define QUOTA_METER_ATTEMPTS 0
#define QUOTA_METER_ANSWERS 1
#define QUOTA_METER_CELLS 2

/* One of these. The kernel takes no slot at or beyond the limit, which only grows. */
struct shared {
	u64 layout; /* DIGEST of the layout that the maps were made for; the first word of all versions */
	u64 enabled; /* 0: A forwards nothing */
	u64 owner; /* random, of the relay process that uses the maps; 0: none */
	u64 heartbeat; /* CLOCK_MONOTONIC ns, written by the relay about once a second */
	u64 attached; /* Switch, the agent's: whether the programs see the pod's packets */
	u64 seed[2]; /* random, of the tables' hash; the relay's */
	u64 device; /* DeviceMode, the agent's; what every packet reads is above, what A writes is below */
	u64 slot_next; /* sequence of the next slot use (A, atomic) */
	u64 slot_limit; /* the relay has settled all that is SLOTS below */
};

/* ChaCha20-Poly1305 for packets (RFC 9001 section 5.3); the bytes' words, little endian. */
struct keyset {
	u32 key[8];
	u32 iv[3];
	u32 reserved;
};

/* Of one connection's bands. What both sides write is atomic. */
struct band {
	u64 price; /* of its share; 0: it has none */
	u64 due; /* ns, when what was sent in it is paid for at its share of the rate (both sides) */
	u64 patience; /* ns that bands.due may be ahead for it to take what others leave */
	u64 bytes; /* sent in it (both sides) */
	u64 dropped; /* streams and datagrams (both sides) */
	u64 reserve; /* bytes of the congestion window that its packets leave free */
	u64 judged[8]; /* group << 32 | tick << 2 | 1: sent, 2: dropped; 0: none (both sides) */
};

/* Which of a member's streams and datagrams are sent: see fastpath/bands.py. */
struct bands {
	u64 price; /* of a byte at the member's rate; 0: there is no rate */
	u64 due; /* ns, when what was sent is paid for at the rate (both sides) */
	u64 burst; /* ns that a band may be ahead and still be within its share */
	u64 overflow; /* ns beyond burst that a band pays back at most */
	u64 level; /* what is dropped, BAND_LEVELS for each band from the last one up */
	u64 remembers; /* ns, until when groups of datagrams that were judged stay so; 0: they do not */
	u8 ends[8]; /* the largest priority of each band but the last */
	struct band each[4];
};

/* A QUIC connection: what B needs to send on it, and what A needs to read from it. */
struct connection {
	u64 state; /* ConnectionState bits; cleared before anything below is changed */
	u64 busy; /* B's at work for it (atomic); 0 after state was cleared: the relay may change it */
	u64 generation; /* of this use of the index */
	u64 packet_number; /* next 1-RTT number; taken atomically by both sides */
	u64 packet_number_limit;
	u64 stream_number; /* next unidirectional stream of ours, id >> 2; taken atomically by both sides */
	u64 stream_number_limit; /* MAX_STREAMS */
	u64 data_used; /* sum of highest offsets of all our streams; both sides, atomic */
	u64 data_limit; /* MAX_DATA */
	u64 stream_data_limit; /* initial_max_stream_data_uni of the peer */
	u64 bytes_sent; /* by the kernel, whole UDP payloads (atomic) */
	u64 bytes_limit; /* congestion: what bytes_sent may reach */
	u32 packet_size_limit; /* UDP payload that the path is known to carry */
	u32 datagram_limit; /* max_datagram_frame_size of the peer; 0: none */
	u8 dcid[20]; /* what the peer wants in the header */
	u8 dcid_length;
	u8 stream_bits; /* low two bits of our unidirectional stream ids: 2 client, 3 server */
	u8 family; /* 4 or 6 */
	u8 tx_phase; /* key phase bit */
	u8 local_address[16]; /* of the relay, as the pod sees it; IPv4: first 4 bytes */
	u8 remote_address[16]; /* of the peer, as the pod sees it */
	u16 local_port; /* network order */
	u16 remote_port; /* network order */
	u32 hash; /* spreads members over CPUs (RPS) */
	u32 tx_hp[8]; /* header protection */
	struct keyset tx;
	u64 rx_keys; /* see rx_word: which of rx is current, next, previous */
	u64 rx_phase_start; /* first packet number of the current phase */
	u64 rx_largest; /* largest number that was authentic (A) */
	u64 rx_stream_next; /* the peer's unidirectional streams (id >> 2) from here on may begin (A, CAS) */
	u64 rx_prefixed[8]; /* 1 + (id >> 2) of streams that showed their prefix alone so far (A, CAS) */
	u64 rx_window[32]; /* replay window: number >> 5 in the high half, a bit each in the low half (A) */
	u32 rx_hp[8];
	struct keyset rx[4];
	u8 prefix[16]; /* what each of the peer's media streams begins with (WebTransport) */
	u8 datagram_prefix[16];
	u8 prefix_length;
	u8 datagram_prefix_length;
	u8 variant; /* of the protocol, for its header file; MoQT: 0 QUIC varints, 1 MoQT varints */
	u8 plaintext; /* packets either way have neither tag nor header protection (laboratory) */
	u8 reserved[4];
	u8 link[12]; /* Ethernet addresses towards the peer: next hop's, then the pod's (A); 0: unknown */
	u32 reserved_link;
	u64 tx_version; /* random, of tx; 0: there are no keys */
	struct bands bands;
	u64 ack_cid; /* acknowledgements to this id of ours, alone in a packet, A may take; 0: none */
	u64 ack_floor; /* of packets of ours below this number nobody waits to hear */
	u64 ack_bytes; /* when bytes_sent is beyond, user space wants to see them */
	u64 acks; /* that A took (atomic) */
	u64 acked; /* 1 + the largest packet of ours that they named: all below is acknowledged (A) */
};

/* What a packet of a connection is encrypted with: index connection * KEYSTREAMS_AHEAD + number % KEYSTREAMS_AHEAD (RFC 8439 sections 2.4 and 2.6). The relay alone writes it, ahead. */
struct keystream {
	u64 number; /* 1 + packet number; 0: none; cleared before all else is changed, set when all is */
	u64 version; /* connection.tx_version of the keys */
	u64 reserved[2];
	u32 mac[8]; /* the key of Poly1305 */
	u32 text[368]; /* what the text is combined with */
};

/* Of a table: routes (key: connection id, owner: 1, value: connection) or channels (key: MoQT's track alias, owner: 1 + connection, value: track). The relay alone writes it. */
struct pair {
	u64 key;
	u64 value; /* owner << 32 | value; 0: none */
};

/* See bpf/table.h. */
struct bucket {
	struct pair pairs[4];
};

struct track {
	u64 state; /* Switch */
	u64 array; /* index of the current version of its members, swapped atomically */
	u64 packets; /* forwarded (A, atomic) */
	u64 bytes; /* of their frames */
	u64 priority; /* of streams and datagrams that do not say theirs */
};

/* A version of a track's members; never changed while a track, stream or slot names it. */
struct array {
	u32 count;
	u32 track;
	u32 members[1024];
};

/* A subscription. A stream's first bytes become before, what is kept of them, after. */
struct member {
	u64 state; /* Switch */
	u32 connection;
	u32 track;
	u64 first_ordinal; /* streams and datagrams below are not for it (MoQT: groups) */
	u64 last_ordinal; /* nor those above */
	u64 packets; /* sent by the kernel (atomic) */
	u64 bytes; /* UDP payload of these */
	u64 streams; /* begun by the kernel */
	u8 before[16];
	u8 after[16];
	u8 datagram_before[16];
	u8 datagram_after[16];
	u8 before_length;
	u8 after_length;
	u8 datagram_before_length;
	u8 datagram_after_length;
	u8 rewrite; /* 0: first bytes pass as they are */
	u8 datagram_rewrite;
	u8 priority; /* of the subscriber; less is more urgent */
	u8 reserved;
};

/* Of stream_index: whose rows 8 neighbours in streams are. A stream's is in one of two buckets. A takes a row by compare-and-swap of its key from 0, the relay gives it back. */
struct stream_bucket {
	u64 keys[8]; /* STREAM_KEY_SET | connection << STREAM_ID_BITS | upstream stream id; 0: nobody's */
};

/* An upstream stream under way. A alone writes it, but for state: A makes it LENT, when the row's key is its own (stream_index); the relay makes it USER, and FREE again. */
struct stream {
	u64 sequence; /* of this use of the row, sequence % STREAMS; only grows; written when all else is */
	u64 state; /* StreamState */
	u64 busy; /* A is at work on it (0 or 1, atomic) */
	u64 stream_id;
	u64 array; /* its members: those of the track when the stream began */
	u64 ordinal; /* MoQT: the group id */
	u64 next; /* end of what was forwarded */
	u64 gap_start; /* a hole below next, filled when its bytes come */
	u64 gap_end; /* gap_start == gap_end: none */
	u64 final; /* 1 + the final size; 0: unknown */
	u32 connection;
	u32 track;
	u8 cut; /* bytes at the beginning that a member's template replaces */
	u8 keep_at; /* of these bytes, those that are kept */
	u8 keep_length;
	u8 priority; /* of the publisher */
	u32 reserved;
};

/* An upstream stream towards one member: index slot * ARRAY_MEMBERS + position. */
struct leg {
	u64 word; /* the stream's sequence << 8 | LegState */
	u64 stream_id; /* towards the member */
	u64 highest; /* end of what was sent, in the member's offsets */
	u64 limit; /* MAX_STREAM_DATA */
};

/* A media frame of a slot. */
struct frame {
	u64 stream; /* sequence; 0 for a datagram */
	u64 offset; /* in the upstream stream */
	u64 ordinal;
	u16 at; /* of its data in the slot's */
	u16 length;
	u8 kind; /* FrameKind */
	u8 fin;
	u8 cut; /* datagrams: as in stream */
	u8 keep; /* datagrams: keep_at << 4 | keep_length */
	u8 priority; /* of the publisher */
	u8 reserved[7];
};

/* A decrypted packet's media for one member array. */
struct slot {
	u64 sequence; /* of this use of the slot */
	u64 done; /* low half of sequence << 32 | members settled by B */
	u64 claims[32]; /* low half of sequence << 32 | a bit for each of 32 members: who sets it, sends */
	u64 array;
	u64 packet_number; /* upstream */
	u32 connection; /* upstream */
	u32 members;
	u32 frame_count;
	u32 data_length;
	struct frame frames[8];
	u8 data[1536]; /* plaintext */
	u8 beyond[1536]; /* not used: room for the largest at plus the largest length, for the verifier */
};

struct intent_frame {
	u64 stream; /* sequence; 0 for a datagram */
	u64 stream_id; /* upstream */
	u64 offset;
	u64 ordinal;
	u32 length;
	u8 kind; /* FrameKind */
	u8 fin;
	u8 index; /* of a datagram among the packet's datagrams */
	u8 reserved;
};

/* Record of the ring intents: written before the first clone. */
struct intent {
	u64 sequence; /* of the slot */
	u64 packet_number; /* upstream */
	u64 time; /* CLOCK_MONOTONIC ns */
	u64 array;
	u32 connection; /* upstream */
	u32 members;
	u32 frame_count;
	u32 reserved;
	struct intent_frame frames[8];
};

/* Record of the ring reports: written before the packet leaves. */
struct report {
	u64 packet_number; /* of the member's connection; 0 if it was not sent */
	u64 time; /* CLOCK_MONOTONIC ns */
	u32 sequence; /* of the slot, low half */
	u16 position; /* in the slot's array */
	u16 size; /* UDP payload */
	u32 connection; /* the member's */
	u8 outcome; /* Outcome */
	u8 dropped; /* a bit for each frame of the slot that was dropped, of which this is the beginning */
	u8 reserved[2];
};

/* Record of the ring acks: a packet of a peer's with an acknowledgement alone. All that is missing between first and largest, and all that anybody waits for below, is acknowledged. */
struct ack {
	u64 time; /* when it came, CLOCK_MONOTONIC ns */
	u64 packet_number; /* the peer's */
	u64 first;
	u64 largest;
	u64 delay; /* as in the frame */
	u32 connection;
	u32 generation; /* of the connection, low half */
};

/* For a meter (bpf/rate.h). */
struct rate {
	u64 interval; /* ns from one to the next */
	u64 tolerance; /* how far the next may be ahead of its time */
};

/* The quota on connections; one of these. The relay alone writes it. Times: CLOCK_MONOTONIC ns. */
struct quota {
	u64 enabled; /* Switch; off: nothing is refused */
	u64 key[2]; /* of the hash (SipHash-1-3) of addresses and connection ids */
	u64 total_until; /* until when nobody comes in */
	struct rate attempts;
	struct rate prefix_attempts;
	struct rate answers;
	u16 port; /* the relay's, network order */
	u8 ipv4_prefix_length;
	u8 ipv6_prefix_length;
	u8 answer; /* Switch: some who are refused are passed to user space, which tells them */
	u8 reserved;
	u16 exempt; /* blocks */
};

/* Addresses that are never refused, from the first to the last. Two numbers each, the high one first; IPv4 is mapped (RFC 4291 2.5.5.2). Blocks are disjoint and rise. */
struct quota_block {
	u64 first[2];
	u64 last[2];
};

/* An address or prefix that may open no more connections. */
struct quota_row {
	u64 until;
	u64 refused; /* first packets (programs, atomic) */
};

/* Which packets at a device of the node are for the relay; the agent's, as the relay is not to refuse what is for others. In network order; 0: none. */
struct quota_site {
	u64 ipv4;
	u64 ipv6[2];
};

/* See bpf/rate.h. */
struct meter {
	u64 empty_at; /* (programs, compare-and-swap) */
};
