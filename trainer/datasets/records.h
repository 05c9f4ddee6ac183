/*
 * The records of a CSV file (RFC 4180), one after the other.
 *
 * Fields may be quoted, quotes in them doubled, and quoted fields may span lines; lines end
 * with LF or CRLF; blanks around a field do not count unless quoted. Empty lines at the end
 * of the file are no records.
 */
#ifndef TRAINER_DATASETS_RECORDS_H
#define TRAINER_DATASETS_RECORDS_H

#include "engine/engine.h"

struct records {
    const char *path;
    char delimiter;
    char *bytes;                /* the file; fields are cut out of it in place */
    char *at, *end;
    int64_t next_line;

    /* the current record */
    int64_t line;               /* where it begins, from 1 */
    int n_fields;
    char **fields;              /* valid until records_close(), also those of records before */
    int capacity;
};

int records_open(struct records *records, const char *path, char delimiter,
                 struct nn_error *error);
void records_close(struct records *records);

/* 1: there is a record; 0: the end; -1: an error, which names file and line. */
int records_next(struct records *records, struct nn_error *error);

#endif
