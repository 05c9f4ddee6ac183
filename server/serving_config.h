/*
 * serving.json, beside a model's folders of versions: which versions are served, what they are
 * called, how requests are shared out among them, and limits of the model's own.
 *
 *     {"version_policy": {"latest": 2},
 *      "labels": {"stable": {"version": 3, "weight": 95},
 *                 "canary": {"version": 4, "weight": 5}},
 *      "canary_header": "X-User-ID",
 *      "deadline_ms": 500}
 *
 * Every key may be absent. version_policy is "all", {"latest": N} or {"specific": [version,
 * ...]}; the versions that labels name are served besides. A label is a version or an object as
 * above, a version a number or a string. What is not known, or not as expected, is refused.
 *
 *     {"ensemble": ["a", "b", "c"], "deadline_ms": 500}
 *
 * makes a model of the others: it has no versions of its own, and none of the keys that are
 * about versions or batches.
 */
#ifndef SERVER_SERVING_CONFIG_H
#define SERVER_SERVING_CONFIG_H

#include "engine/engine.h"
#include "server/buffer.h"
#include "server/names.h"

enum {
    SERVING_LABELS = 16,
    SERVING_SPECIFIC = 64,
    SERVING_HEADER = 64,
    SERVING_MEMBERS = 16,
    SERVING_PRIORITIES = 10,
    SERVING_STANDARD_PRIORITIES = 3, /* where nobody says how many */
    SERVING_FILE = 64 << 10,         /* bytes that are read at most */
};

struct serving_label {
    char name[MODEL_NAME_SIZE];
    int64_t version;
    int64_t weight; /* -1: it has none */
};

struct serving_config {
    enum serving_policy { SERVING_LATEST, SERVING_ALL, SERVING_SPECIFIED } policy;
    int64_t latest; /* the highest so many */
    int n_specific;
    int64_t specific[SERVING_SPECIFIC];

    int n_labels;
    struct serving_label labels[SERVING_LABELS];
    int64_t weights;                    /* their sum; 0: requests are not shared out */
    char canary_header[SERVING_HEADER]; /* whose value chooses a label; "": chance does */

    int n_members; /* of an ensemble; 0: it is none */
    char members[SERVING_MEMBERS][MODEL_NAME_SIZE];

    /* -1: as the server says */
    int64_t max_batch_size, preferred_batch_size; /* rows */
    int64_t max_queue_delay_us, max_queue_size, deadline_ms, threads;
    int64_t priority_levels, default_priority_level; /* 1: before all others */
    int64_t warmup; /* rows that are computed before a version is served */
};

/* What holds without a file. */
void serving_config_default(struct serving_config *config);

/* -1: the error names the place and what was expected, "labels.canary.weight: ...". */
int serving_config_read(struct serving_config *config, const char *text, size_t size,
                        struct nn_error *error);

/* The same of a file, whose path the error begins with. Without a file: the default. */
int serving_config_load(struct serving_config *config, const char *path,
                        struct nn_error *error);

/* As a text that reads back to the same; what is as the server says is left out. */
void serving_config_write(const struct serving_config *config, struct buffer *out);

/* Whether the version is named, by the policy or by a label. */
bool serving_config_names(const struct serving_config *config, int64_t version);

#endif
