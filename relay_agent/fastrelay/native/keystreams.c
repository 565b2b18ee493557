/*
 * Keystreams for packets that are yet to be sent: ChaCha20 (RFC 8439 section 2.4) of a connection's
 * keys, by OpenSSL, which has the processor's vectors; the programs in the kernel have none.
 */
#include <stddef.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "types.h"

#define BLOCK 64

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words of keys are bytes of keys");
_Static_assert(sizeof(struct keystream) == BLOCK + KEYSTREAM_TEXT, "block 0 has room before text");
_Static_assert(offsetof(struct keystream, text) == BLOCK, "text is block 1 and those that follow");

/* Addresses, and a packet number. */
struct keystream_job {
	u64 connection;
	u64 keystream;
	u64 number;
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
static int fill(EVP_CIPHER_CTX *cipher, const struct keystream_job *job)
{
	const struct connection *connection = (const struct connection *)job->connection;
	struct keystream *keystream = (struct keystream *)job->keystream;
	u32 state[4];
	int length, done;

	__atomic_store_n(&keystream->number, 0, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	first_state(&connection->tx, job->number, state);
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
	__atomic_store_n(&keystream->number, job->number + 1, __ATOMIC_RELEASE);
	return 0;
}

/* 0, or -1: OpenSSL did not do one of them, which then has number 0, nor those that follow. */
int keystreams_fill(const struct keystream_job *jobs, u64 count)
{
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	int result = -1;

	if (cipher && EVP_EncryptInit_ex(cipher, EVP_chacha20(), NULL, NULL, NULL))
		result = 0;
	for (u64 i = 0; i < count && !result; i++)
		result = fill(cipher, &jobs[i]);
	EVP_CIPHER_CTX_free(cipher); /* with the last key in it, which this clears */
	return result;
}
