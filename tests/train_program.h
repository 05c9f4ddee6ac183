/*
 * The trainer's program, $PREDICTD_BUILD/predictd-train, run in the scratch folder.
 */
#ifndef TESTS_TRAIN_PROGRAM_H
#define TESTS_TRAIN_PROGRAM_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

/* Starts it with words up to NULL; its outputs go to files "out" and "err". */
pid_t train_start(const char *const *words);

/* Its exit status, or the negative number of the signal that ended it. */
int train_finish(pid_t child);

#define RUN(...) train_finish(train_start((const char *const[]){__VA_ARGS__, NULL}))

/* A whole file of the scratch folder as text, as JSON; to be freed. */
char *text_of(const char *name);
json_t *json_of(const char *name);

void assert_file_says(const char *file, const char *expected);
const char *write_text(const char *name, const char *text); /* its path */
bool exists(const char *name);

/* A small net for the built-in digits; they are generated. */
extern const char digits_recipe[];

#endif
