/*
 * atom_id.c
 *		The ids of atoms; atom_id.h tells how they are made.
 */
#include "atom_id.h"

#include <string.h>

#include "hilbert.h"

#define AXIS_BITS HART_HILBERT_MAX_BITS
#define AXIS_MASK ((UINT32_C(1) << AXIS_BITS) - 1)
#define BAND_BITS (AXIS_BITS - 3)	/* of the y axis, below the modality */
#define BAND_MIDDLE (UINT32_C(1) << (BAND_BITS - 1))
#define CURVE_MASK ((UINT64_C(1) << HART_ATOM_MODALITY_SHIFT) - 1)

#define MAX_CODE_POINT UINT32_C(0x10FFFF)
#define LOW_BITS 6				/* of a code point, beside the 15 high ones */

static const char *const modality_names[] = {
	NULL, "byte", "character", "token", "text", "weight", "neuron", "tensor"
};

/* The 15 bits of a place on an axis in the opposite order */
static uint32_t
reversed(uint32_t place)
{
	uint32_t	result = 0;

	for (int i = 0; i < AXIS_BITS; i++)
		result |= ((place >> i) & 1) << (AXIS_BITS - 1 - i);
	return result;
}

static int64_t
id_of_cell(HartModality modality, uint32_t x, uint32_t band, uint32_t z, uint32_t w)
{
	uint32_t	cell[4] = {x, (uint32_t) modality << BAND_BITS | band, z, w};

	return hart_atom_first(modality) | (int64_t) hart_hilbert_index(cell, AXIS_BITS);
}

/* The cell of an id; false if the id is of another modality */
static bool
cell_of_id(int64_t id, HartModality modality, uint32_t cell[4])
{
	if (hart_atom_modality(id) != (int) modality)
		return false;
	hart_hilbert_cell((uint64_t) id & CURVE_MASK, AXIS_BITS, cell);
	return true;
}

const char *
hart_modality_name(int modality)
{
	return modality >= HART_ATOM_BYTE && modality <= HART_ATOM_TENSOR ? modality_names[modality] : NULL;
}

int
hart_modality_of_name(const char *name)
{
	for (int modality = HART_ATOM_BYTE; modality <= HART_ATOM_TENSOR; modality++)
	{
		if (strcmp(name, modality_names[modality]) == 0)
			return modality;
	}
	return 0;
}

int64_t
hart_atom_of_byte(uint8_t byte)
{
	/* the high bits once more below: 0 is at one end of the axis, 255 at the other */
	uint32_t	place = (uint32_t) byte << 7 | byte >> 1;

	return id_of_cell(HART_ATOM_BYTE, place, BAND_MIDDLE, place, reversed(byte));
}

bool
hart_atom_byte(int64_t id, uint8_t *byte)
{
	uint32_t	cell[4];

	if (!cell_of_id(id, HART_ATOM_BYTE, cell))
		return false;
	*byte = (uint8_t) (cell[0] >> 7);
	return hart_atom_of_byte(*byte) == id;
}

bool
hart_atom_of_character(uint32_t code_point, int64_t *id)
{
	if (code_point > MAX_CODE_POINT || (code_point >= 0xD800 && code_point <= 0xDFFF))
		return false;
	*id = id_of_cell(HART_ATOM_CHARACTER, code_point >> LOW_BITS, BAND_MIDDLE,
					 (code_point << (AXIS_BITS - LOW_BITS) & AXIS_MASK) | UINT32_C(1) << (AXIS_BITS - LOW_BITS - 1),
					 reversed(code_point & AXIS_MASK));
	return true;
}

bool
hart_atom_character(int64_t id, uint32_t *code_point)
{
	uint32_t	cell[4];
	int64_t		back;

	if (!cell_of_id(id, HART_ATOM_CHARACTER, cell))
		return false;
	*code_point = cell[0] << LOW_BITS | cell[2] >> (AXIS_BITS - LOW_BITS);
	return hart_atom_of_character(*code_point, &back) && back == id;
}

int64_t
hart_atom_of_weight(uint32_t float_bits)
{
	/* in this order negative numbers come first, the largest magnitude at the very beginning */
	uint32_t	rank = float_bits ^ (float_bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31);
	uint32_t	z = rank >> 17;
	uint32_t	x = rank >> 2 & AXIS_MASK;

	return id_of_cell(HART_ATOM_WEIGHT, x, (rank & 3) << (BAND_BITS - 2) | UINT32_C(1) << (BAND_BITS - 3), z, reversed(x ^ z));
}

bool
hart_atom_weight(int64_t id, uint32_t *float_bits)
{
	uint32_t	cell[4];
	uint32_t	rank;

	if (!cell_of_id(id, HART_ATOM_WEIGHT, cell))
		return false;
	rank = cell[2] << 17 | cell[0] << 2 | (cell[1] >> (BAND_BITS - 2) & 3);
	*float_bits = rank ^ (rank >> 31 ? UINT32_C(1) << 31 : UINT32_MAX);
	return hart_atom_of_weight(*float_bits) == id;
}

int64_t
hart_atom_of_neuron(uint64_t key, uint32_t index)
{
	return hart_atom_first(HART_ATOM_NEURON)
		| (int64_t) ((key << HART_NEURON_INDEX_BITS & CURVE_MASK) | (index & HART_NEURON_MAX_INDEX));
}

bool
hart_atom_neuron(int64_t id, uint64_t *key, uint32_t *index)
{
	*key = ((uint64_t) id & CURVE_MASK) >> HART_NEURON_INDEX_BITS;
	*index = (uint32_t) id & HART_NEURON_MAX_INDEX;
	return hart_atom_modality(id) == HART_ATOM_NEURON;
}

int64_t
hart_atom_of_hash(HartModality modality, const uint8_t sha256[HART_SHA256_BYTES])
{
	uint64_t	bits = 0;

	for (int i = 0; i < 8; i++)
		bits = bits << 8 | sha256[i];
	return id_of_cell(modality, bits >> 49 & AXIS_MASK, bits & ((1 << BAND_BITS) - 1), bits >> 34 & AXIS_MASK, bits >> 19 & AXIS_MASK);
}

bool
hart_atom_valid(int64_t id)
{
	uint8_t		byte;
	uint32_t	number;
	uint32_t	cell[4];

	switch (hart_atom_modality(id))
	{
		case HART_ATOM_BYTE:
			return hart_atom_byte(id, &byte);
		case HART_ATOM_CHARACTER:
			return hart_atom_character(id, &number);
		case HART_ATOM_WEIGHT:
			return hart_atom_weight(id, &number);
		case HART_ATOM_NEURON:
			return true;
		case HART_ATOM_TOKEN:
		case HART_ATOM_TEXT:
		case HART_ATOM_TENSOR:
			return cell_of_id(id, (HartModality) hart_atom_modality(id), cell) &&
				cell[1] >> BAND_BITS == (uint32_t) hart_atom_modality(id);
		default:
			return false;
	}
}

void
hart_atom_geometry(int64_t id, double p[4])
{
	/* cannot fail: the index has 60 bits */
	(void) hart_hilbert_decode((uint64_t) id & CURVE_MASK, AXIS_BITS, p);
}
