/*
 * utf8_text.c
 *	  Bytes of tokens as text.
 *
 * Bytes that make no character are replaced as Unicode recommends ("substitution of maximal subparts", 3.9), which is what
 * the library does: as many as begin a character, and at least one, become one U+FFFD.
 */
#include "tokenizer.h"

#include "utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* The length of a character by its first byte, 0 when none begins with it; and what its second byte may be */
static int
lead(uint8 byte, uint8 *second_least, uint8 *second_most)
{
	*second_least = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
	*second_most = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
	return byte < 0x80 ? 1 : byte < 0xC2 ? 0 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : byte < 0xF5 ? 4 : 0;
}

/* The bytes from `at` on that are a character or begin one, at least 1; and whether they are whole, or all there is so far */
static int
next_unit(const uint8 *at, const uint8 *end, bool *whole, bool *open)
{
	uint8		least;
	uint8		most;
	int			length = lead(*at, &least, &most);
	int			n = 1;

	while (n < length && at + n < end && at[n] >= least && at[n] <= most)
	{
		least = 0x80;
		most = 0xBF;
		n++;
	}
	*whole = n == length;
	*open = n < length && at + n == end;
	return n;
}

int
hart_utf8_partial(const char *bytes, size_t length)
{
	const uint8 *end = (const uint8 *) bytes + length;

	for (int n = 1; n < HART_UTF8_MAX_BYTES && (size_t) n <= length; n++)
	{
		bool		whole;
		bool		open;

		if ((end[-n] & 0xC0) == 0x80)
			continue;
		return next_unit(end - n, end, &whole, &open) == n && open ? n : 0;
	}
	return 0;
}

void
hart_utf8_append(StringInfo out, const char *bytes, size_t length, size_t n_shown)
{
	const uint8 *start = (const uint8 *) bytes;
	const uint8 *end = start + length;

	for (const uint8 *at = start; at < end;)
	{
		bool		whole;
		bool		open;
		int			n = next_unit(at, end, &whole, &open);

		if (whole && *at != 0)
			appendBinaryStringInfo(out, (const char *) at, n);
		else if ((size_t) (at - start) >= n_shown)
			appendBinaryStringInfo(out, REPLACEMENT, strlen(REPLACEMENT));
		at += n;
	}
}
