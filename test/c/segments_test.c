/*
 * segments_test.c
 *		UTF-8 against every sequence of it, and the division of texts into words.
 */
#include "segments.h"
#include "tap.h"
#include "utf8.h"

#include <string.h>

/* Is the text divided at the bars? */
static void
divided(const char *expected)
{
	char		text[256];
	char		got[512];
	size_t		size = 0;
	size_t		length = 0;

	for (const char *p = expected; *p; p++)
	{
		if (*p != '|')
			text[size++] = *p;
	}
	for (size_t at = 0; at < size;)
	{
		size_t		n = hart_segment_length((const uint8_t *) text + at, (const uint8_t *) text + size);

		if (at > 0)
			got[length++] = '|';
		memcpy(got + length, text + at, n);
		length += n;
		at += n;
	}
	got[length] = '\0';
	ok(strcmp(got, expected) == 0, "%s", expected);
}

static void
test_utf8(void)
{
	bool		back = true;
	bool		strict = true;
	uint32_t	last = 0;
	uint32_t	n_valid = 0;
	uint8_t		bytes[4];
	uint32_t	c;

	for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++)
	{
		int			length;

		if (code_point >= 0xD800 && code_point <= 0xDFFF)
			continue;
		length = hart_utf8_encode(code_point, bytes);
		for (int cut = 1; cut < length; cut++)
			back &= hart_utf8_decode(bytes, bytes + cut, &c) == 0;
		back &= hart_utf8_decode(bytes, bytes + length, &c) == length && c == code_point;
	}
	ok(back, "every character comes back, and none before its last byte");

	/* of all sequences of three bytes exactly the characters are valid, in their order */
	for (uint32_t sequence = 0; sequence < 0x1000000; sequence++)
	{
		bytes[0] = (uint8_t) (sequence >> 16);
		bytes[1] = (uint8_t) (sequence >> 8);
		bytes[2] = (uint8_t) sequence;
		if (hart_utf8_decode(bytes, bytes + 3, &c) == 3)
		{
			strict &= c > last && c >= 0x800 && c <= 0xFFFF && !(c >= 0xD800 && c <= 0xDFFF);
			last = c;
			n_valid++;
		}
	}
	ok(strict && n_valid == 0x10000 - 0x800 - 0x800, "sequences of three bytes are characters once each");
	memcpy(bytes, "\xF4\x90\x80\x80", 4);
	strict = hart_utf8_decode(bytes, bytes + 4, &c) == 0;
	memcpy(bytes, "\xF0\x8F\xBF\xBF", 4);
	ok(strict && hart_utf8_decode(bytes, bytes + 4, &c) == 0, "four bytes are for U+10000 to U+10FFFF");
}

int
main(void)
{
	test_utf8();
	divided("Hello| |World");
	divided("Hello|, |World|!");
	divided("snake_case| |x2| |½");
	divided("  |two|  ");
	divided("gr\xc3\xbc\xc3\x9f| |dich");
	divided("cafe\xcc\x81| |au");	/* a combining accent */
	divided(" \xcc\x81|a");		/* on a space */
	divided("\xcc\x81|a");		/* on nothing */
	divided("\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7|ok");	/* a family with joiners */
	divided("\xd9\x85\xdb\x8c\xe2\x80\x8c\xd8\xae\xd9\x88");	/* Persian with a non-joiner */
	divided("\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80| ");	/* Hindi */
	divided("\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e|\xe3\x80\x82");
	divided("a|\xff\xfe|b|\xc3| ");	/* bytes that are not UTF-8 */
	divided("\xed\xa0\x80|a|\xc0\x80");	/* a surrogate, an overlong NUL */
	divided("\xff|\xcc\x81|\xe2\x82");	/* a mark does not follow a byte; a character cut short */
	ok(hart_segment_length((const uint8_t *) "a\0b", (const uint8_t *) "a\0b" + 3) == 1 &&
	   hart_character_kind(0) == HART_OTHER, "NUL is a character as any other");
	ok(hart_character_kind(0x10FFFF) == HART_OTHER && hart_character_kind(0x3134A) == HART_WORD &&
	   hart_character_kind(0x3134B) == HART_OTHER, "characters that Unicode 14.0 does not have make no words");
	return tap_done();
}
