/*
 * atom_id_test.c
 *		Ids of atoms: bijections where they promise to be, places that fit, and
 *		the same for ever (ids are stored).
 */
#include "atom_id.h"
#include "hilbert.h"
#include "tap.h"

#include <math.h>
#include <string.h>

/* What every id must hold to: positive, of its modality, and at a place whose Hilbert index it has */
static bool
fits(int64_t id, HartModality modality)
{
	double		p[4];
	uint64_t	coarse;
	uint64_t	fine;

	hart_atom_geometry(id, p);
	return id > 0 && hart_atom_valid(id) && hart_atom_modality(id) == (int) modality &&
		hart_hilbert_encode(p, HART_ATOM_HILBERT_BITS, &coarse) && coarse == hart_atom_hilbert(id) &&
		hart_hilbert_encode(p, 15, &fine) && (int64_t) fine == (id & ((INT64_C(1) << 60) - 1)) &&
		hart_atom_pack(modality, hart_atom_hilbert(id), hart_atom_tie(id)) == id;
}

/* Is the place in the band of the y axis that its modality has? */
static bool
in_band(int64_t id)
{
	double		p[4];

	hart_atom_geometry(id, p);
	return (int) floor((p[1] + 1) * 4) == hart_atom_modality(id);
}

static void
test_bytes(void)
{
	bool		good = true;
	double		last = -2;

	for (int byte = 0; byte < 256; byte++)
	{
		int64_t		id = hart_atom_of_byte((uint8_t) byte);
		double		p[4];
		uint8_t		back;

		hart_atom_geometry(id, p);
		good &= fits(id, HART_ATOM_BYTE) && in_band(id) && hart_atom_byte(id, &back) && back == byte && p[0] > last;
		last = p[0];
	}
	ok(good, "256 bytes come back, each in its place, in order along x");
}

static void
test_characters(void)
{
	bool		good = true;
	bool		refused = true;
	int64_t		id;
	uint32_t	back;

	for (uint32_t c = 0; c <= 0x10FFFF; c++)
	{
		if (c >= 0xD800 && c <= 0xDFFF)
			refused &= !hart_atom_of_character(c, &id);
		else
			good &= hart_atom_of_character(c, &id) && fits(id, HART_ATOM_CHARACTER) && in_band(id) &&
				hart_atom_character(id, &back) && back == c;
	}
	ok(good, "1,112,064 characters come back, each in its place");
	ok(refused && !hart_atom_of_character(0x110000, &id) && !hart_atom_of_character(UINT32_MAX, &id),
	   "surrogates and numbers above 0x10FFFF are no characters");
}

static bool
weight_fits(uint32_t bits)
{
	int64_t		id = hart_atom_of_weight(bits);
	uint32_t	back;

	return fits(id, HART_ATOM_WEIGHT) && in_band(id) && hart_atom_weight(id, &back) && back == bits;
}

static void
test_weights(void)
{
	bool		good = true;
	bool		ordered = true;
	double		last = -2;

	for (uint32_t bits = 0; bits < 0x10000; bits++)
		good &= weight_fits(bits) && weight_fits(bits << 16) && weight_fits(bits << 13);
	for (int i = 0; i < 200000; i++)
		good &= weight_fits((uint32_t) random_bits());
	ok(good, "weights come back bit for bit");
	ok(weight_fits(0x80000000) && hart_atom_of_weight(0x80000000) != hart_atom_of_weight(0) &&
	   weight_fits(0x7fc00001) && weight_fits(0xffffffff) && weight_fits(0x7f800000) && weight_fits(0xff800000),
	   "so do minus zero, infinities and NaN with their payloads");
	for (double value = -1e6; value <= 1e6; value = value < 0 ? value * 0.9 : value * 1.1)
	{
		float		narrow = (float) value;
		uint32_t	bits;
		double		p[4];

		memcpy(&bits, &narrow, sizeof(bits));
		hart_atom_geometry(hart_atom_of_weight(bits), p);
		ordered &= p[2] >= last;
		last = p[2];
		if (value < 0 && value > -1e-6)
			value = 1e-6;
	}
	ok(ordered && last > 0.1, "z grows with the value");
}

static void
test_neurons(void)
{
	bool		good = true;
	bool		near = true;

	for (int i = 0; i < 200000; i++)
	{
		uint64_t	key = random_bits() >> 24;
		uint32_t	index = (uint32_t) (random_bits() >> 44);
		int64_t		id = hart_atom_of_neuron(key, index);
		uint64_t	key_back;
		uint32_t	index_back;
		double		p[4];
		double		q[4];

		good &= fits(id, HART_ATOM_NEURON) && hart_atom_neuron(id, &key_back, &index_back) &&
			key_back == key && index_back == index;
		hart_atom_geometry(id, p);
		hart_atom_geometry(hart_atom_of_neuron(key, index ^ (uint32_t) (random_bits() >> 44)), q);
		for (int axis = 0; axis < 4; axis++)
			near &= floor((p[axis] + 1) * 512) == floor((q[axis] + 1) * 512);
	}
	ok(good, "neurons come back");
	ok(near, "the neurons of a space share a cell of 10 bits an axis");
	ok(hart_atom_of_neuron(0, 0) == INT64_C(6) << 60 &&
	   hart_atom_of_neuron((UINT64_C(1) << 40) - 1, HART_NEURON_MAX_INDEX) == (INT64_C(7) << 60) - 1,
	   "the first and the last neuron fit their range");
}

static void
test_hashes(void)
{
	static const HartModality hashed[] = {HART_ATOM_TOKEN, HART_ATOM_TEXT, HART_ATOM_TENSOR};
	bool		good = true;
	bool		distinct = true;
	bool		ties = true;

	for (int i = 0; i < 60000; i++)
	{
		HartModality modality = hashed[i % 3];
		uint8_t		sha256[HART_SHA256_BYTES];
		int64_t		id;
		int64_t		tie;
		int			bit = i % 57;

		for (int j = 0; j < HART_SHA256_BYTES; j++)
			sha256[j] = (uint8_t) (random_bits() >> 33);
		id = hart_atom_of_hash(modality, sha256);
		good &= fits(id, modality) && in_band(id);

		/* 57 of the first 64 bits count; seven between the places do not */
		bit += bit >= 45 ? 7 : 0;
		sha256[bit / 8] ^= 0x80 >> bit % 8;
		distinct &= hart_atom_of_hash(modality, sha256) != id;

		if (i >= 300)
			continue;
		tie = id;
		for (int j = 1; j < HART_ATOM_TIES; j++)
		{
			tie = hart_atom_next_tie(tie);
			ties &= tie != id && hart_atom_hilbert(tie) == hart_atom_hilbert(id);
		}
		ties &= hart_atom_next_tie(tie) == id && fits(tie, modality);
	}
	ok(good, "hashed atoms are in their places");
	ok(distinct, "each of 57 bits of the hash makes another id");
	ok(ties, "4096 tie-breakers go round in one cell");
}

/* Ids are stored: these must never change */
static void
test_known_values(void)
{
	static const uint8_t sha256[HART_SHA256_BYTES] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
	int64_t		id;

	ok(hart_atom_of_byte(0) == INT64_C(1153220571769602048) && hart_atom_of_byte(255) == INT64_C(2151222940415435298), "known bytes");
	ok(hart_atom_of_character('H', &id) && id == INT64_C(2319818500650740395) &&
	   hart_atom_of_character(0x1F600, &id) && id == INT64_C(2323320521067239765), "known characters");
	ok(hart_atom_of_weight(0x3f800000) == INT64_C(6053419962318314957), "known weight");
	ok(hart_atom_of_hash(HART_ATOM_TEXT, sha256) == INT64_C(4980554085152809564), "known hash");
}

static void
test_bad(void)
{
	static const int64_t bad[] = {0, 1, -1, INT64_MIN, (INT64_C(1) << 60) - 1, INT64_C(1) << 60, (INT64_C(2) << 60) - 1,
		INT64_C(2) << 60, INT64_C(5) << 60, INT64_C(3) << 60, INT64_C(7) << 60};
	bool		refused = true;
	uint8_t		byte;
	uint32_t	number;
	uint64_t	key;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused &= !hart_atom_valid(bad[i]);
	ok(refused, "what is the id of nothing is not valid");
	ok(!hart_atom_byte(hart_atom_of_weight(0), &byte) && !hart_atom_character(hart_atom_of_byte(65), &number) &&
	   !hart_atom_weight(hart_atom_of_byte(65), &number) && !hart_atom_neuron(hart_atom_of_byte(65), &key, &number) &&
	   !hart_atom_byte(hart_atom_next_tie(hart_atom_of_byte(65)), &byte),
	   "an id is read back only as what it is");
	ok(hart_modality_of_name("text") == HART_ATOM_TEXT && hart_modality_of_name("Text") == 0 &&
	   strcmp(hart_modality_name(HART_ATOM_TENSOR), "tensor") == 0 && hart_modality_name(0) == NULL &&
	   hart_modality_name(8) == NULL, "modalities have names");
}

int
main(void)
{
	test_bytes();
	test_characters();
	test_weights();
	test_neurons();
	test_hashes();
	test_known_values();
	test_bad();
	return tap_done();
}
