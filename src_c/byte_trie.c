/*
 * byte_trie.c
 *	  Strings of bytes, each with a number, found by what a text goes on with.
 */
#include "byte_trie.h"

#define NONE (-1)

typedef struct Node
{
	int32		first_child;
	int32		next_sibling;
	int32		number;			/* of the string that ends here */
	uint8		byte;
} Node;

struct HartByteTrie
{
	MemoryContext memory;
	int32		roots[256];		/* by the first byte */
	Node	   *nodes;
	int32		n_nodes;
	int32		max_nodes;
};

HartByteTrie *
hart_byte_trie_create(MemoryContext memory)
{
	HartByteTrie *trie = MemoryContextAllocZero(memory, sizeof(HartByteTrie));

	trie->memory = memory;
	trie->max_nodes = 64;
	trie->nodes = MemoryContextAlloc(memory, trie->max_nodes * sizeof(Node));
	for (int i = 0; i < 256; i++)
		trie->roots[i] = NONE;
	return trie;
}

static int32
add_node(HartByteTrie *trie, uint8 byte, int32 next_sibling)
{
	if (trie->n_nodes == trie->max_nodes)
	{
		trie->max_nodes *= 2;
		trie->nodes = repalloc(trie->nodes, trie->max_nodes * sizeof(Node));
	}
	trie->nodes[trie->n_nodes] = (Node) {.first_child = NONE, .next_sibling = next_sibling, .number = NONE, .byte = byte};
	return trie->n_nodes++;
}

static int32
child(const HartByteTrie *trie, int32 parent, uint8 byte)
{
	int32		node = parent == NONE ? trie->roots[byte] : trie->nodes[parent].first_child;

	while (node != NONE && trie->nodes[node].byte != byte)
		node = trie->nodes[node].next_sibling;
	return node;
}

void
hart_byte_trie_add(HartByteTrie *trie, const char *bytes, size_t length, int32 number)
{
	int32		node = NONE;

	Assert(length > 0 && number >= 0);
	for (size_t i = 0; i < length; i++)
	{
		uint8		byte = (uint8) bytes[i];
		int32		next = child(trie, node, byte);

		if (next == NONE)
		{
			next = add_node(trie, byte, node == NONE ? NONE : trie->nodes[node].first_child);
			if (node == NONE)
				trie->roots[byte] = next;
			else
				trie->nodes[node].first_child = next;
		}
		node = next;
	}
	trie->nodes[node].number = number;
}

int32
hart_byte_trie_longest(const HartByteTrie *trie, const char *text, const char *end, size_t *length)
{
	int32		node = NONE;
	int32		found = NONE;

	for (const char *at = text; at < end; at++)
	{
		node = child(trie, node, (uint8) *at);
		if (node == NONE)
			break;
		if (trie->nodes[node].number != NONE)
		{
			found = trie->nodes[node].number;
			*length = at + 1 - text;
		}
	}
	return found;
}

const char *
hart_byte_trie_next(const HartByteTrie *trie, const char *text, const char *end)
{
	while (text < end && trie->roots[(uint8) *text] == NONE)
		text++;
	return text;
}

int32
hart_byte_trie_find(const HartByteTrie *trie, const char *bytes, size_t length)
{
	int32		node = NONE;

	for (size_t i = 0; i < length; i++)
	{
		node = child(trie, node, (uint8) bytes[i]);
		if (node == NONE)
			return NONE;
	}
	return node == NONE ? NONE : trie->nodes[node].number;
}
