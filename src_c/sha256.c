/*
 * sha256.c
 *	  SHA-256, by PostgreSQL's own implementation.
 */
#include "sha256.h"

static void
failed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute a SHA-256 hash"),
			 errhint("Check the server's cryptographic library.")));
}

/*
 * PostgreSQL registers the context with the current resource owner where its
 * cryptographic library allocates, so an error in between leaks nothing.
 */
pg_cryptohash_ctx *
hart_sha256_begin(void)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errhint("Free memory on the server.")));
	return ctx;
}

void
hart_sha256_end(pg_cryptohash_ctx *ctx)
{
	pg_cryptohash_free(ctx);
}

void
hart_sha256_of(pg_cryptohash_ctx *ctx, uint8 first, const void *data, Size size, uint8 hash[HART_SHA256_BYTES])
{
	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, &first, 1) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) data, size) < 0 ||
#if PG_VERSION_NUM >= 150000
		pg_cryptohash_final(ctx, hash, HART_SHA256_BYTES) < 0
#else
		pg_cryptohash_final(ctx, hash) < 0
#endif
		)
		failed();
}

int64
hart_atom_of_content(pg_cryptohash_ctx *ctx, HartModality modality, const void *content, Size size)
{
	uint8		hash[HART_SHA256_BYTES];

	hart_sha256_of(ctx, (uint8) modality, content, size, hash);
	return hart_atom_of_hash(modality, hash);
}
