/* The floor of what user space can do: every datagram on one UDP port goes to a list of peers.
 *
 *   forwarder PORT PEER_ADDRESS FIRST_PEER_PORT COUNT
 *
 * No protocol, no cryptography, no bookkeeping: recvmmsg in, one sendmmsg per datagram out.
 * A relay that is quicker than this for a packet has not been to user space with it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 32, SIZE = 2048, MAX_PEERS = 1024 };

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: %s PORT PEER_ADDRESS FIRST_PEER_PORT COUNT\n", argv[0]);
		return 2;
	}
	int peers = atoi(argv[4]);
	if (peers < 1 || peers > MAX_PEERS) {
		fprintf(stderr, "between 1 and %d peers\n", MAX_PEERS);
		return 2;
	}
	static struct sockaddr_in to[MAX_PEERS];
	for (int i = 0; i < peers; i++) {
		to[i].sin_family = AF_INET;
		to[i].sin_port = htons(atoi(argv[3]) + i);
		if (inet_pton(AF_INET, argv[2], &to[i].sin_addr) != 1) {
			fprintf(stderr, "%s is no IPv4 address\n", argv[2]);
			return 2;
		}
	}
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&here, sizeof(here))) {
		perror("bind");
		return 1;
	}

	static char data[BATCH][SIZE];
	static struct iovec in_vector[BATCH], out_vector;
	static struct mmsghdr in[BATCH], out[MAX_PEERS];
	for (int i = 0; i < BATCH; i++) {
		in_vector[i] = (struct iovec){ data[i], SIZE };
		in[i].msg_hdr = (struct msghdr){ .msg_iov = &in_vector[i], .msg_iovlen = 1 };
	}
	for (int i = 0; i < peers; i++)
		out[i].msg_hdr = (struct msghdr){ .msg_name = &to[i], .msg_namelen = sizeof(to[i]),
						  .msg_iov = &out_vector, .msg_iovlen = 1 };
	for (;;) {
		int got = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < got; i++) {
			out_vector = (struct iovec){ data[i], in[i].msg_len };
			for (int sent = 0, n; sent < peers; sent += n)
				if ((n = sendmmsg(fd, out + sent, peers - sent, 0)) <= 0)
					break;
		}
	}
}
