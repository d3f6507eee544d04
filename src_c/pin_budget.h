/*
 * pin_budget.h
 *	  How many buffers a context may keep pinned.
 */
#ifndef HART_PIN_BUDGET_H
#define HART_PIN_BUDGET_H

#include "hartonomous.h"

#include "utils/rel.h"

/*
 * Whether so many pages of a table of tiles may stay pinned: the share hart.pin_percent of shared_buffers. What is pinned already
 * counts too, unless the pages are so few that looking would cost more than it can do harm.
 */
extern bool hart_may_pin(Relation rel, int64 n_pages);

/* say once a session what would make a model of so many pages run faster */
extern void hart_hint_at_streaming(int64 n_pages);

#endif							/* HART_PIN_BUDGET_H */
