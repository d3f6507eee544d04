/*
 * segments.h
 *		How a text is divided into words and what is between them.
 *
 * Bytes are read as UTF-8.  A character of Unicode's categories L (letters), N
 * (numbers) or Pc (connectors, such as _) makes words.  One of category M (marks),
 * ZERO WIDTH NON-JOINER and ZERO WIDTH JOINER belong to what they follow; with
 * nothing to follow, they are as any other.  A segment is a longest run of word
 * characters, or of other characters, or of bytes that are not valid UTF-8.
 * The categories are those of Unicode 14.0, whatever the server and its locale.
 */
#ifndef HART_SEGMENTS_H
#define HART_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

typedef enum HartCharacterKind
{
	HART_OTHER,
	HART_WORD,
	HART_EXTENDS
} HartCharacterKind;

extern HartCharacterKind hart_character_kind(uint32_t code_point);

/* The number of bytes of the segment that begins at `at`, which is before `end` */
extern size_t hart_segment_length(const uint8_t *at, const uint8_t *end);

#endif							/* HART_SEGMENTS_H */
