/*
 * normalize.h
 *	  Unicode of texts that are to be tokenized: NFC, and the characters that versions of Unicode disagree about.
 */
#ifndef HART_NORMALIZE_H
#define HART_NORMALIZE_H

#include "hartonomous.h"

/* whether all versions of Unicode in use agree about every character of a text, which is UTF-8 */
extern bool hart_is_settled(const char *text, size_t length);

/*
 * The text in normalization form C: *text and *length themselves when they are in it, else a new one in the current
 * memory context.  False when that is work for somebody else: PostgreSQL's function takes quadratic time on long runs of marks.
 */
extern bool hart_normalize(const char **text, size_t *length);

#endif							/* HART_NORMALIZE_H */
