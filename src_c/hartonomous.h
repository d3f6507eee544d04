/*
 * hartonomous.h
 *	  What every PostgreSQL-facing file of the C core shares.
 */
#ifndef HARTONOMOUS_H
#define HARTONOMOUS_H

#include "postgres.h"

#include "fmgr.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* bytes of weights in a full tile: with it a heap tuple fills one 8 kB page and its payload starts at page offset 128 */
#define HART_TILE_BYTES 8064

/* refuses to go on when the extension's catalog objects are of another version than this library */
extern void hart_check_version(void);

extern void hart_settings_init(void);
extern void hart_context_init(void);
extern void hart_large_memory_init(void);
extern void hart_modify_init(void);

#endif							/* HARTONOMOUS_H */
