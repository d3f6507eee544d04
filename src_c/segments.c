/*
 * segments.c
 *		How a text is divided into words and what is between them; segments.h
 *		states the rule.
 */
#include "segments.h"

#include "utf8.h"
#include "word_characters.h"

#define N_RANGES (sizeof(word_characters) / sizeof(word_characters[0]))

HartCharacterKind
hart_character_kind(uint32_t code_point)
{
	size_t		low = 0;
	size_t		high = N_RANGES;

	if (code_point < 0x80)
	{
		uint32_t	lower = code_point | 0x20;

		return (lower >= 'a' && lower <= 'z') || (code_point >= '0' && code_point <= '9') || code_point == '_'
			? HART_WORD : HART_OTHER;
	}
	while (low < high)
	{
		size_t		middle = (low + high) / 2;

		if (code_point > word_characters[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < N_RANGES && code_point >= word_characters[low].first ? word_characters[low].kind : HART_OTHER;
}

size_t
hart_segment_length(const uint8_t *at, const uint8_t *end)
{
	const uint8_t *start = at;
	uint32_t	c;
	int			length = hart_utf8_decode(at, end, &c);
	HartCharacterKind first;

	if (length == 0)
	{
		do
			at++;
		while (at < end && hart_utf8_decode(at, end, &c) == 0);
		return (size_t) (at - start);
	}

	first = hart_character_kind(c) == HART_WORD ? HART_WORD : HART_OTHER;
	for (at += length; at < end; at += length)
	{
		HartCharacterKind kind;

		length = hart_utf8_decode(at, end, &c);
		if (length == 0)
			break;
		kind = hart_character_kind(c);
		if (kind != first && kind != HART_EXTENDS)
			break;
	}
	return (size_t) (at - start);
}
