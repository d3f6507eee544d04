/*
 * sha256.h
 *	  SHA-256, by PostgreSQL's own implementation.
 */
#ifndef HART_SHA256_H
#define HART_SHA256_H

#include "hartonomous.h"

#include "common/cryptohash.h"

#include "atom_id.h"

/* What hart_sha256_of() works with; one serves for many hashes */
extern pg_cryptohash_ctx *hart_sha256_begin(void);
extern void hart_sha256_end(pg_cryptohash_ctx *ctx);

/* Hash one byte followed by some bytes */
extern void hart_sha256_of(pg_cryptohash_ctx *ctx, uint8 first, const void *data, Size size, uint8 hash[HART_SHA256_BYTES]);

/* The id of a token, text or tensor with this content, as long as no other content has it */
extern int64 hart_atom_of_content(pg_cryptohash_ctx *ctx, HartModality modality, const void *content, Size size);

#endif							/* HART_SHA256_H */
