/*
 * buffer_pins.h
 *	  Pins of very many buffers.
 */
#ifndef HART_BUFFER_PINS_H
#define HART_BUFFER_PINS_H

#include "hartonomous.h"

#include "storage/buf.h"
#include "utils/rel.h"

typedef struct HartPins HartPins;

/* room for so many pins of pages of a relation, no more; they belong to CurrentResourceOwner, which releases them */
extern HartPins *hart_pins_create(Relation rel, int64 max);

/* pin a buffer that the caller has pinned, with a pin that stays when the caller's own is released */
extern void hart_pins_add(HartPins *pins, Buffer buffer);

/* pin a buffer if it still holds a block of the relation; false, and no pin, when it does not */
extern bool hart_pins_add_recent(HartPins *pins, BlockNumber block, Buffer buffer);

#endif							/* HART_BUFFER_PINS_H */
