/*
 * atom_id.h
 *		The ids of atoms.
 *
 * An id is a positive bigint: the modality in bits 60 to 62, and below it 60
 * bits that are an index on the Hilbert curve of 15 bits an axis.  The atom's
 * place in [-1, 1]^4 is the centre of that cell, so the place follows from the id
 * and no two atoms of a modality share one.  A coarser Hilbert index being
 * a prefix of a finer one, bits 12 to 59 are the index of 12 bits an axis,
 * and the low 12 bits, the tie-breaker, tell the atoms within such a cell apart.
 *
 * Bytes, characters, weight values and neurons are written out in the id, which
 * can be read back.  Tokens, texts and tensors get 57 bits of a SHA-256, 45 of
 * them above the tie-breaker; when two contents share all 57, the second one
 * takes the next free tie-breaker.
 *
 * Places on the axes, each of 15 bits:
 *
 *				x				y				z				w
 * byte			value			modality		value			value, bits reversed
 * character	high 15 bits	modality		low 6 bits		low 15 bits, reversed
 * weight		middle 15 bits	modality, low 2	high 15 bits	x xor z, reversed
 * hashed		15 bits of hash	modality, 12	15 bits			15 bits
 *
 * where modality stands for the y axis in bands of 1/8, and the bits of a weight
 * are those of a number that grows with the weight: z is its value, bounded.
 * The neurons of a space are one cell of 10 bits an axis, the one with the key of
 * the space, and follow each other along the curve inside it.
 */
#ifndef HART_ATOM_ID_H
#define HART_ATOM_ID_H

#include <stdbool.h>
#include <stdint.h>

typedef enum HartModality
{
	HART_ATOM_BYTE = 1,
	HART_ATOM_CHARACTER = 2,
	HART_ATOM_TOKEN = 3,
	HART_ATOM_TEXT = 4,			/* words, what is between them, and whole texts */
	HART_ATOM_WEIGHT = 5,
	HART_ATOM_NEURON = 6,
	HART_ATOM_TENSOR = 7
} HartModality;

#define HART_ATOM_MODALITY_SHIFT 60
#define HART_ATOM_TIE_BITS 12
#define HART_ATOM_TIES (1 << HART_ATOM_TIE_BITS)	/* ids in a Hilbert cell */
#define HART_ATOM_HILBERT_BITS 12	/* bits an axis above the tie-breaker */

#define HART_NEURON_KEY_BITS 40
#define HART_NEURON_INDEX_BITS 20
#define HART_NEURON_MAX_INDEX ((1 << HART_NEURON_INDEX_BITS) - 1)

#define HART_SHA256_BYTES 32

/* The first id of a modality; the last is the one before the next modality's first */
static inline int64_t
hart_atom_first(HartModality modality)
{
	return (int64_t) modality << HART_ATOM_MODALITY_SHIFT;
}

/* Put an id together */
static inline int64_t
hart_atom_pack(HartModality modality, uint64_t hilbert48, uint32_t tie)
{
	return hart_atom_first(modality) | (int64_t) (hilbert48 << HART_ATOM_TIE_BITS) | (int64_t) tie;
}

/* The parts of an id.  The modality is one of the enum only if hart_atom_valid(). */
static inline int
hart_atom_modality(int64_t id)
{
	return (int) ((uint64_t) id >> HART_ATOM_MODALITY_SHIFT);
}

static inline uint64_t
hart_atom_hilbert(int64_t id)
{
	return ((uint64_t) id >> HART_ATOM_TIE_BITS) & ((UINT64_C(1) << 48) - 1);
}

static inline uint32_t
hart_atom_tie(int64_t id)
{
	return (uint32_t) id & (HART_ATOM_TIES - 1);
}

/* The id to try when this one belongs to another content: the next in its cell, after the last the first */
static inline int64_t
hart_atom_next_tie(int64_t id)
{
	return (id & ~(int64_t) (HART_ATOM_TIES - 1)) | (int64_t) ((hart_atom_tie(id) + 1) & (HART_ATOM_TIES - 1));
}

/*
 * Is this the id of something?  Of modalities that are written out in the id,
 * only what is the id of a content is valid.
 */
extern bool hart_atom_valid(int64_t id);

/* The name of a modality, and the modality of a name (0 when there is none) */
extern const char *hart_modality_name(int modality);
extern int	hart_modality_of_name(const char *name);

extern int64_t hart_atom_of_byte(uint8_t byte);

/* false for what is no Unicode scalar value: surrogates, and numbers above 0x10FFFF */
extern bool hart_atom_of_character(uint32_t code_point, int64_t *id);

/* Of the 32 bits of a float4: -0 is not 0, and every NaN is itself */
extern int64_t hart_atom_of_weight(uint32_t float_bits);

/* Of a space of neurons, by its key of 40 bits, the neuron with this index, of 20 bits; higher bits are ignored */
extern int64_t hart_atom_of_neuron(uint64_t key, uint32_t index);

/* Of a token, text or tensor: from the SHA-256 of its modality (one byte) followed by its content */
extern int64_t hart_atom_of_hash(HartModality modality, const uint8_t sha256[HART_SHA256_BYTES]);

/* Back: false when the id is not one of that modality, or of no content */
extern bool hart_atom_byte(int64_t id, uint8_t *byte);
extern bool hart_atom_character(int64_t id, uint32_t *code_point);
extern bool hart_atom_weight(int64_t id, uint32_t *float_bits);
extern bool hart_atom_neuron(int64_t id, uint64_t *key, uint32_t *index);

/* The place of an atom, a point of [-1, 1]^4; of a negative id, bit 63 is ignored */
extern void hart_atom_geometry(int64_t id, double p[4]);

#endif							/* HART_ATOM_ID_H */
