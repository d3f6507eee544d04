/*
 * prefix_store.h
 *	  Keys and values of prompts that a session has run, for later prompts that begin alike.
 *
 * What is restored are the very numbers that running the tokens again would give: a prompt is found only under the same
 * versions of the same tiles, the same description of the model, the same kernels and the same user, and a row's arithmetic does not
 * depend on the rows that are run with it.
 */
#ifndef HART_PREFIX_STORE_H
#define HART_PREFIX_STORE_H

/* let go of the prompts that were used least recently, until the rest takes no more than so many MB */
extern void hart_prefix_trim(int megabytes);

/* let go of the prompt that was used least recently; false when there is none */
extern bool hart_prefix_forget_oldest(void);

#endif							/* HART_PREFIX_STORE_H */
