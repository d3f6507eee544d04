/*
 * tile_format.h
 *	  Where a tensor's weights lie in its tiles.
 *
 * All full tiles of a tensor hold the same number of weights, so the tile of a weight is a division away, whatever
 * the format. Everything that goes from weights to tiles goes through here.
 */
#ifndef HART_TILE_FORMAT_H
#define HART_TILE_FORMAT_H

#include "hartonomous.h"

#include "bf12.h"
#include "kernels.h"
#include "q8.h"

/* A weight's place */
typedef struct HartWeightPlace
{
	int64		tile;			/* counted in the tensor */
	size_t		index;			/* in the tile */
} HartWeightPlace;

/* weights of a full tile */
static inline int64
hart_tile_weights(HartFormat format)
{
	switch (format)
	{
		case HART_PLAIN_F32:
			return HART_TILE_BYTES / 4;
		case HART_BF12:
			return HART_BF12_TILE;
		case HART_Q8:
			return HART_Q8_TILE;
		default:
			return HART_TILE_BYTES / 2;
	}
}

/* the most that a tile of any format holds */
#define HART_MAX_TILE_WEIGHTS HART_Q8_TILE

static inline HartWeightPlace
hart_place_of(HartFormat format, int64 weight)
{
	/* divisions by constants: this is done for every stretch of a product */
	switch (format)
	{
		case HART_PLAIN_F32:
			return (HartWeightPlace) {weight / (HART_TILE_BYTES / 4), weight % (HART_TILE_BYTES / 4)};
		case HART_BF12:
			return (HartWeightPlace) {weight / HART_BF12_TILE, weight % HART_BF12_TILE};
		case HART_Q8:
			return (HartWeightPlace) {weight / HART_Q8_TILE, weight % HART_Q8_TILE};
		default:
			return (HartWeightPlace) {weight / (HART_TILE_BYTES / 2), weight % (HART_TILE_BYTES / 2)};
	}
}

/* the tile of a weight */
static inline int64
hart_tile_of(HartFormat format, int64 weight)
{
	return hart_place_of(format, weight).tile;
}

/* tiles of a tensor of n weights */
static inline int64
hart_tile_count(HartFormat format, int64 n)
{
	int64		per_tile = hart_tile_weights(format);

	return (n + per_tile - 1) / per_tile;
}

/* weights in a tile of a tensor of n: the last tile may hold fewer */
static inline int64
hart_weights_in_tile(HartFormat format, int64 n, int64 tile)
{
	int64		per_tile = hart_tile_weights(format);

	return Min(per_tile, n - tile * per_tile);
}

/* bytes of a tile that holds n weights */
static inline int64
hart_tile_size(HartFormat format, int64 n)
{
	switch (format)
	{
		case HART_BF12:
			return (int64) hart_bf12_size(n);
		case HART_Q8:
			return (int64) hart_q8_size(n);
		default:
			return n * (int64) hart_dtype_size((HartDtype) format);
	}
}

/* a format by the names of a tensor's dtype and encoding in hart.tensors; error for others */
extern HartFormat hart_parse_format(const char *dtype, const char *encoding);

/* a format's encoding by its name there */
static inline const char *
hart_encoding_name(HartFormat format)
{
	return format == HART_BF12 ? "bf12" : format == HART_Q8 ? "q8" : "plain";
}

/* the dtype that holds all weights of a format exactly, which is the dtype of the tensor in hart.tensors */
static inline HartDtype
hart_format_dtype(HartFormat format)
{
	return format == HART_BF12 ? HART_BF16 : format == HART_Q8 ? HART_F32 : (HartDtype) format;
}

/*
 * Whether n weights of a checkpoint fit a tile; and put them into one, of hart_tile_size bytes. Nothing is taken for fit for HART_Q8, which
 * rounds: its tiles are made by hart_q8_pack and stay as they are. Threads may call these.
 */
extern bool hart_tile_fits(HartFormat format, const void *weights, int64 n);
extern bool hart_pack_tile(HartFormat format, const void *weights, int64 n, char *payload);

/* the n weights of a tile as they are in a checkpoint */
extern void hart_unpack_tile(HartFormat format, const char *payload, int64 n, void *weights);

/* weights that a payload of so many bytes says it holds */
extern int64 hart_weights_held(HartFormat format, const char *payload, size_t size);

/*
 * What is wrong with the payload of a tile that should hold n weights; NULL when nothing is. What passes is
 * safe to read: wherever a payload comes from the table, it is asked for.
 */
extern const char *hart_tile_fault(HartFormat format, const char *payload, size_t size, int64 n);

/* tile_codec.c: the weights of a payload, which is checked; and a payload of weights, NULL when they do not fit */
extern bytea *hart_unpacked_tile(HartFormat format, const bytea *payload);
extern bytea *hart_packed_tile(HartFormat format, const bytea *weights);

#endif							/* HART_TILE_FORMAT_H */
