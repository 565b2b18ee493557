/*
 * Keystreams for packets that are yet to be sent: ChaCha20 (RFC 8439 section 2.4) of a connection's
 * keys, by OpenSSL, which has the processor's vectors; the programs in the kernel have none.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "reports.h"

#define BLOCK 64

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words of keys are bytes of keys");
_Static_assert(sizeof(struct keystream) == BLOCK + KEYSTREAM_TEXT, "block 0 has room before text");
_Static_assert(offsetof(struct keystream, text) == BLOCK, "text is block 1 and those that follow");

/* The maps' memory. */
struct keystreams {
	const struct connection *connections;
	struct keystream *keystreams;
};

static const u8 zeros[sizeof(struct keystream)];

/* Counter (0) and nonce: RFC 8439 section 2.3, RFC 9001 section 5.3. */
static void first_state(const struct keyset *keys, u64 number, u32 state[4])
{
	state[0] = 0;
	state[1] = keys->iv[0];
	state[2] = keys->iv[1] ^ __builtin_bswap32(number >> 32);
	state[3] = keys->iv[2] ^ __builtin_bswap32(number);
}

/*
 * All blocks in one go, where they belong: block 0 begins at number, which is then garbage. That it
 * is a packet's, with this version after it, has a chance of 2**-128.
 */
static int fill(EVP_CIPHER_CTX *cipher, const struct keystreams *maps, u64 index, u64 number)
{
	const struct connection *connection = &maps->connections[index];
	struct keystream *keystream =
		&maps->keystreams[index * KEYSTREAMS_AHEAD + number % KEYSTREAMS_AHEAD];
	u32 state[4];
	int length, done;

	__atomic_store_n(&keystream->number, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	first_state(&connection->tx, number, state);
	done = EVP_EncryptInit_ex(cipher, NULL, NULL, (const u8 *)connection->tx.key,
				  (const u8 *)state) &&
	       EVP_EncryptUpdate(cipher, (u8 *)keystream, &length, zeros, sizeof(zeros));
	OPENSSL_cleanse(state, sizeof(state));
	if (!done) {
		memset(keystream, 0, sizeof(*keystream));
		return -1;
	}
	memcpy(keystream->mac, keystream, sizeof(keystream->mac));
	memset(keystream, 0, offsetof(struct keystream, mac));
	keystream->version = connection->tx_version;
	__atomic_store_n(&keystream->number, number + 1, __ATOMIC_RELEASE);
	return 0;
}

static EVP_CIPHER_CTX *begin(void)
{
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();

	if (cipher && EVP_EncryptInit_ex(cipher, EVP_chacha20(), NULL, NULL, NULL))
		return cipher;
	EVP_CIPHER_CTX_free(cipher);
	return NULL;
}

bool keystreams_are_able(void)
{
	EVP_CIPHER_CTX *cipher = begin();

	EVP_CIPHER_CTX_free(cipher);
	return cipher;
}

/*
 * Those of so many numbers. 0, or -1: OpenSSL did not do one of them, which then has number 0, nor
 * those that follow; or there is no such connection.
 */
int keystreams_fill(const struct keystreams *maps, u64 index, u64 first, u64 count)
{
	EVP_CIPHER_CTX *cipher = begin();
	int result = cipher && index < CONNECTIONS ? 0 : -1;

	for (u64 number = first; number < first + count && !result; number++)
		result = fill(cipher, maps, index, number);
	EVP_CIPHER_CTX_free(cipher); /* with the last key in it, which this clears */
	return result;
}

/* Whether it is of use: the packet has not left yet, and there are keys. */
static bool is_wanted(const struct connection *connection, u64 number)
{
	return number >= __atomic_load_n(&connection->packet_number, __ATOMIC_RELAXED) &&
	       connection->tx_version;
}

/* Each packet that was sent makes room for a later one's. Returns as keystreams_fill(). */
int keystreams_renew(const struct keystreams *maps, const struct reported *reports, u64 count)
{
	EVP_CIPHER_CTX *cipher = begin();
	int result = cipher ? 0 : -1;

	for (u64 i = 0; i < count && !result; i++) {
		const struct report *report = &reports[i].report;
		u64 index = report->connection, number = report->packet_number + KEYSTREAMS_AHEAD;

		if (report->outcome == OUTCOME_SENT && index < CONNECTIONS &&
		    is_wanted(&maps->connections[index], number))
			result = fill(cipher, maps, index, number);
	}
	EVP_CIPHER_CTX_free(cipher);
	return result;
}
