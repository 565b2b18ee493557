/*
 * Many datagrams in one system call, and when the kernel received them.
 * recvmmsg(2); socket(7) on SO_TIMESTAMP: its structure is the old one, a timespec of 64 bits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "types.h"

/* Of looks at clocks, and seconds between two; they take less than a thousandth of that. */
#define LOOKS         4
#define BETWEEN_LOOKS 0.0002

/* As native/datagrams.py. */
struct batch {
	struct mmsghdr *messages;
	double *times;
	u64 count;
	u64 name_size;
	u64 control_size;
	double emptied;
};

static double seconds(const struct timespec *time)
{
	return (double)time->tv_sec + (double)time->tv_nsec * 1e-9;
}

static double look(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return seconds(&time);
}

/*
 * CLOCK_MONOTONIC; ahead: of CLOCK_REALTIME, by how much. Who is interrupted between the two looks
 * again: a round trip that seems too short would be remembered as the least.
 */
static double look_at_both(double *ahead)
{
	double before, real, now;

	for (int i = 0; i < LOOKS; i++) {
		before = look(CLOCK_MONOTONIC);
		real = look(CLOCK_REALTIME);
		now = look(CLOCK_MONOTONIC);
		if (now - before < BETWEEN_LOOKS)
			break;
	}
	*ahead = now - real;
	return now;
}

/* The kernel's first piece of ancillary data. */
static double stamp(struct msghdr *header)
{
	const struct cmsghdr *first = CMSG_FIRSTHDR(header);
	struct timespec time = {0};

	if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SO_TIMESTAMPNS)
		memcpy(&time, CMSG_DATA(first), sizeof(time));
	return seconds(&time);
}

/*
 * Writes when they came, at which time of CLOCK_MONOTONIC. Somebody may set the clock: it was after
 * the socket was empty, and before now, in any case.
 */
void datagrams_date(struct batch *batch, u64 count, double now, double ahead, double emptied)
{
	for (u64 i = 0; i < count; i++) {
		double time = stamp(&batch->messages[i].msg_hdr) + ahead;

		batch->times[i] = time > now ? now : time < emptied ? emptied : time;
	}
}

/* Returns how many have come, or -errno. */
int datagrams_receive(int fd, struct batch *batch)
{
	double begin = look(CLOCK_MONOTONIC), emptied = batch->emptied, now, ahead;
	int count = recvmmsg(fd, batch->messages, batch->count, MSG_DONTWAIT, NULL);

	if (count < (int)batch->count)
		batch->emptied = begin;
	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	now = look_at_both(&ahead);
	datagrams_date(batch, count, now, ahead, emptied);
	for (int i = 0; i < count; i++) {
		/* The kernel has written sizes where it had read them. */
		batch->messages[i].msg_hdr.msg_namelen = batch->name_size;
		batch->messages[i].msg_hdr.msg_controllen = batch->control_size;
	}
	return count;
}
