/*
 * atoms.c
 *	  Ids of atoms in SQL: hart.atom_id, hart.atom_modality, hart.atom_geometry,
 *	  hart.atom_content.
 */
#include "hartonomous.h"

#include "mb/pg_wchar.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"

#include "atom_id.h"
#include "geometry.h"
#include "sha256.h"
#include "utf8.h"

PG_FUNCTION_INFO_V1(hart_atom_id);
PG_FUNCTION_INFO_V1(hart_atom_modality_name);
PG_FUNCTION_INFO_V1(hart_atom_place);
PG_FUNCTION_INFO_V1(hart_atom_content);

/* Ensure that the content of an atom has the one size that its modality asks for */
static void
check_content(bool good, const char *modality, const char *hint)
{
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid content for an atom of modality %s", modality),
				 errhint("%s", hint)));
}

/* Ensure that an id is one of an atom that could be */
static void
check_id(int64 id)
{
	if (!hart_atom_valid(id))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("atom id " INT64_FORMAT " is out of range", id),
				 errhint("Ids come from hart.atom_id, hart.decompose and the tables of atoms.")));
}

/* hart.atom_id(modality text, content bytea) → bigint */
Datum
hart_atom_id(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bytea	   *content = PG_GETARG_BYTEA_PP(1);
	const uint8 *data = (const uint8 *) VARDATA_ANY(content);
	Size		size = VARSIZE_ANY_EXHDR(content);
	int			modality = hart_modality_of_name(name);
	int64		id = 0;
	uint32		number;
	uint64		neuron;

	switch (modality)
	{
		case HART_ATOM_BYTE:
			check_content(size == 1, name, "Give one byte.");
			id = hart_atom_of_byte(data[0]);
			break;
		case HART_ATOM_CHARACTER:
			check_content(size > 0 && hart_utf8_decode(data, data + size, &number) == (int) size, name, "Give the UTF-8 bytes of one character.");
			(void) hart_atom_of_character(number, &id);
			break;
		case HART_ATOM_WEIGHT:
			check_content(size == sizeof(number), name, "Give the four bytes of a float4, little-endian.");
			memcpy(&number, data, sizeof(number));
			id = hart_atom_of_weight(number);
			break;
		case HART_ATOM_NEURON:
			check_content(size == sizeof(neuron), name, "Give 8 bytes, big-endian: the key of the space times 2^20 plus the index.");
			memcpy(&neuron, data, sizeof(neuron));
			neuron = pg_ntoh64(neuron);
			check_content(neuron >> 60 == 0, name, "The key of the space has 40 bits and the index 20.");
			id = hart_atom_of_neuron(neuron >> HART_NEURON_INDEX_BITS, neuron & HART_NEURON_MAX_INDEX);
			break;
		case HART_ATOM_TOKEN:
		case HART_ATOM_TEXT:
		case HART_ATOM_TENSOR:
			{
				pg_cryptohash_ctx *sha256 = hart_sha256_begin();

				check_content(size > 0 || modality == HART_ATOM_TOKEN, name, "Give the bytes it consists of.");
				id = hart_atom_of_content(sha256, (HartModality) modality, data, size);
				hart_sha256_end(sha256);
				break;
			}
		default:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("modality \"%s\" does not exist", name),
					 errhint("Modalities are byte, character, token, text, weight, neuron and tensor.")));
	}
	PG_RETURN_INT64(id);
}

/* hart.atom_modality(id bigint) → text */
Datum
hart_atom_modality_name(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);

	check_id(id);
	PG_RETURN_TEXT_P(cstring_to_text(hart_modality_name(hart_atom_modality(id))));
}

/* hart.atom_geometry(id bigint) → geometry */
Datum
hart_atom_place(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);
	double		p[4];

	check_id(id);
	hart_atom_geometry(id, p);
	PG_RETURN_DATUM(hart_geometry_of_point(p));
}

/* hart.atom_content(id bigint) → bytea: what the id itself tells, NULL when it was made from a hash */
Datum
hart_atom_content(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(0);
	uint8		data[MAX_MULTIBYTE_CHAR_LEN + sizeof(uint64)];
	Size		size = 0;
	uint32		number;
	uint64		key;
	bytea	   *content;

	check_id(id);
	switch (hart_atom_modality(id))
	{
		case HART_ATOM_BYTE:
			(void) hart_atom_byte(id, data);
			size = 1;
			break;
		case HART_ATOM_CHARACTER:
			(void) hart_atom_character(id, &number);
			size = (Size) hart_utf8_encode(number, data);
			break;
		case HART_ATOM_WEIGHT:
			(void) hart_atom_weight(id, &number);
			memcpy(data, &number, size = sizeof(number));
			break;
		case HART_ATOM_NEURON:
			(void) hart_atom_neuron(id, &key, &number);
			key = pg_hton64(key << HART_NEURON_INDEX_BITS | number);
			memcpy(data, &key, size = sizeof(key));
			break;
		default:
			PG_RETURN_NULL();
	}
	content = palloc(VARHDRSZ + size);
	SET_VARSIZE(content, VARHDRSZ + size);
	memcpy(VARDATA(content), data, size);
	PG_RETURN_BYTEA_P(content);
}
