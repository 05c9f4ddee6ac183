/*
 * The "outputs" of a V2 request: which are wanted, and in what form. Inside v2.h.
 */
#ifndef SERVER_V2_OUTPUTS_H
#define SERVER_V2_OUTPUTS_H

#include "server/v2_reader.h"

/* Reads the list that comes next into v->request, whose outputs are none yet. -1 as for all
 * readers. */
int v2_outputs_read(struct v2_reader *v);

/* When all else was read: without a list all outputs are wanted; settles what form they have,
 * and refuses what has none. */
int v2_outputs_finish(struct v2_reader *v);

#endif
