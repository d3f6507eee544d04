/*
 * normalize.c
 *	  Unicode of texts that are to be tokenized: NFC, and the characters that versions of Unicode disagree about.
 *
 * Most of a text is in NFC, and is recognised as such a character at a time. Only the stretches that are not go
 * through PostgreSQL's own function. A stretch is cut before characters that compose with nothing before them.
 */
#include "normalize.h"

#include "common/unicode_norm.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "unsettled_characters.h"
#include "utf8.h"

/* no character below has a part in normalization, but as the first of those that compose */
#define FIRST_COMBINING 0x300

/* characters that PostgreSQL is asked to normalize at a time */
#define MAX_STRETCH 8192

/* bytes between two looks for interrupts */
#define INTERRUPT_BYTES (1 << 20)

static uint32
character_at(const char **at, const char *end)
{
	uint32		code_point;
	int			length = hart_utf8_decode((const uint8_t *) *at, (const uint8_t *) end, &code_point);

	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("text is not valid UTF-8"),
				 errhint("Check where the text comes from: PostgreSQL accepts no such text.")));
	*at += length;
	return code_point;
}

/* The first range that does not end before a character */
static int
range_from(uint32 code_point)
{
	int			low = 0;
	int			high = lengthof(unsettled_characters);

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (unsettled_characters[middle].last < code_point)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
hart_is_settled(const char *text, size_t length)
{
	const char *end = text + length;
	const char *checked = text;

	/* the settled characters between two ranges that were seen last: texts stay in their scripts */
	uint32		first = 0;
	uint32		last = unsettled_characters[0].first - 1;

	while (text < end)
	{
		uint32		c;

		if (text - checked >= INTERRUPT_BYTES)
		{
			CHECK_FOR_INTERRUPTS();
			checked = text;
		}
		if ((uint8) *text < 0x80)
		{
			text++;
			continue;
		}
		c = character_at(&text, end);
		if (c < first || c > last)
		{
			int			range = range_from(c);

			if (range < (int) lengthof(unsettled_characters) && unsettled_characters[range].first <= c)
				return false;
			first = range > 0 ? unsettled_characters[range - 1].last + 1 : 0;
			last = range < (int) lengthof(unsettled_characters) ? unsettled_characters[range].first - 1 : PG_UINT32_MAX;
		}
	}
	return true;
}

/* Characters that are never changed by what precedes them: most of what texts are made of */
static inline bool
begins_stretch(uint32 c)
{
	return c < FIRST_COMBINING || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) || (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3);
}

/* Append the NFC of a stretch of n characters; `c` has room for a zero after them */
static void
append_normalized(StringInfo out, pg_wchar *c, int n)
{
	pg_wchar   *normalized;

	c[n] = 0;
	normalized = unicode_normalize(UNICODE_NFC, c);
	for (pg_wchar *at = normalized; *at; at++)
	{
		uint8_t		bytes[HART_UTF8_MAX_BYTES];
		int			length = hart_utf8_encode(*at, bytes);

		appendBinaryStringInfo(out, (char *) bytes, length);
	}
	pfree(normalized);
}

/* Whether a text has a character at which NFC may do something; where the stretch with the first of them begins */
static const char *
first_stretch(const char *text, const char *end)
{
	const char *start = text;

	while (text < end)
	{
		const char *here = text;
		uint32		c;

		/* U+0300 begins with 0xCC */
		if ((uint8) *text < 0xCC)
		{
			start = text;
			text += (uint8) *text < 0x80 ? 1 : 2;
			continue;
		}
		c = character_at(&text, end);
		if (begins_stretch(c))
			start = here;
		else
			return start;
	}
	return end;
}

bool
hart_normalize(const char **text, size_t *length)
{
	const char *end = *text + *length;
	const char *done = *text;	/* what is before is in `out`, once there is one */
	const char *at = first_stretch(*text, end);
	StringInfoData out = {0};
	pg_wchar   *c;

	if (at == end)
		return true;
	c = palloc((MAX_STRETCH + 1) * sizeof(pg_wchar));
	while (at < end)
	{
		const char *start = at;
		int			n = 0;

		CHECK_FOR_INTERRUPTS();
		while (at < end)
		{
			const char *here = at;
			uint32		code_point = character_at(&at, end);

			if (n > 0 && begins_stretch(code_point))
			{
				at = here;
				break;
			}
			if (n == MAX_STRETCH)
			{
				pfree(c);
				if (out.data)
					pfree(out.data);
				return false;
			}
			c[n++] = code_point;
		}
		c[n] = 0;
		if (unicode_is_normalized_quickcheck(UNICODE_NFC, c) != UNICODE_NORM_QC_YES)
		{
			if (out.data == NULL)
				initStringInfo(&out);
			appendBinaryStringInfo(&out, done, start - done);
			append_normalized(&out, c, n);
			done = at;
		}
		if (at < end)
			at = first_stretch(at, end);
	}
	pfree(c);
	if (out.data)
	{
		appendBinaryStringInfo(&out, done, end - done);
		*text = out.data;
		*length = out.len;
	}
	return true;
}
