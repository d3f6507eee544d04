/*
 * byte_trie.h
 *	  Strings of bytes, each with a number, found by what a text goes on with.
 *
 * Tokens that were added to a vocabulary are few, so a node lists its children.
 */
#ifndef HART_BYTE_TRIE_H
#define HART_BYTE_TRIE_H

#include "hartonomous.h"

typedef struct HartByteTrie HartByteTrie;

/* an empty trie in a memory context */
extern HartByteTrie *hart_byte_trie_create(MemoryContext memory);

/* enter a string of at least one byte, with a number from 0 up */
extern void hart_byte_trie_add(HartByteTrie *trie, const char *bytes, size_t length, int32 number);

/* the number of the longest string that the text begins with, and its length; -1 without one */
extern int32 hart_byte_trie_longest(const HartByteTrie *trie, const char *text, const char *end, size_t *length);

/* the first place from `text` on where a string may begin, or `end` */
extern const char *hart_byte_trie_next(const HartByteTrie *trie, const char *text, const char *end);

/* the number of exactly this string, -1 without one */
extern int32 hart_byte_trie_find(const HartByteTrie *trie, const char *bytes, size_t length);

#endif							/* HART_BYTE_TRIE_H */
