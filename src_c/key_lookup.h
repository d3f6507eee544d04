/*
 * key_lookup.h
 *	  Rows of one of the extension's tables by their primary key, many one after the other, without a query each.
 *
 * This reads past privileges and row-level security: whoever calls has asked whether the role may use the model.
 */
#ifndef HART_KEY_LOOKUP_H
#define HART_KEY_LOOKUP_H

#include "hartonomous.h"

#include "executor/tuptable.h"

#define HART_MAX_KEYS 3

typedef struct HartKeyLookup HartKeyLookup;

/*
 * Begin to look up rows of hart.<table> by the first n_keys columns, which are its primary key and of type integer
 * or bigint, under the active snapshot.  An error leaves nothing to close.
 */
extern HartKeyLookup *hart_key_lookup_open(const char *table, int n_keys);

/* the number of a column that has this type; error when there is none */
extern AttrNumber hart_key_lookup_column(HartKeyLookup *lookup, const char *name, Oid type);

/* the row with this key, until the next call; NULL when there is none */
extern TupleTableSlot *hart_key_lookup_find(HartKeyLookup *lookup, const Datum *keys);

extern void hart_key_lookup_close(HartKeyLookup *lookup);

#endif							/* HART_KEY_LOOKUP_H */
