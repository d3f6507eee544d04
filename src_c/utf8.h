/*
 * utf8.h
 *		UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef HART_UTF8_H
#define HART_UTF8_H

#include <stdint.h>

#define HART_UTF8_MAX_BYTES 4

/*
 * The character that begins at `at`: its number of bytes, and its code point; 0
 * when no valid character begins there.  `at` is before `end`.
 */
static inline int
hart_utf8_decode(const uint8_t *at, const uint8_t *end, uint32_t *code_point)
{
	uint32_t	c = at[0];
	int			length;

	if (c < 0x80)
	{
		*code_point = c;
		return 1;
	}
	length = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
	if (c < 0xC2 || c > 0xF4 || end - at < length)
		return 0;
	c &= 0x7Fu >> length;
	for (int i = 1; i < length; i++)
	{
		if ((at[i] & 0xC0) != 0x80)
			return 0;
		c = c << 6 | (at[i] & 0x3F);
	}
	if ((length == 3 && (c < 0x800 || (c >= 0xD800 && c <= 0xDFFF))) ||
		(length == 4 && (c < 0x10000 || c > 0x10FFFF)))
		return 0;
	*code_point = c;
	return length;
}

/* The bytes of a character, which is a Unicode scalar value, and their number */
static inline int
hart_utf8_encode(uint32_t code_point, uint8_t bytes[HART_UTF8_MAX_BYTES])
{
	int			length = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;

	if (length == 1)
	{
		bytes[0] = (uint8_t) code_point;
		return 1;
	}
	for (int i = length - 1; i > 0; i--)
	{
		bytes[i] = (uint8_t) (0x80 | (code_point & 0x3F));
		code_point >>= 6;
	}
	bytes[0] = (uint8_t) (0xF00 >> length | code_point);
	return length;
}

#endif							/* HART_UTF8_H */
