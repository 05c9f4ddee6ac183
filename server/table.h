/*
 * The models that are served, as whoever answers sees them.
 *
 * Versions, models and tables are immutable and reference counted: a new table shares with the
 * old one whatever did not change.
 */
#ifndef SERVER_TABLE_H
#define SERVER_TABLE_H

#include "engine/engine.h"
#include "server/buffer.h"
#include "server/metrics.h"
#include "server/serving_config.h"
#include "server/sha256.h"

/* What tells a file from its replacement. All zero: there is none. */
struct file_identity {
    uint64_t device, inode;
    int64_t modified, size; /* nanoseconds, bytes */
    int64_t changed;        /* besides: its permissions and links; nanoseconds */
};

/* A version of a model. Or, of an ensemble, the one that there is: its members are shared, and
 * its model is the first member's, whose ports and labels are everybody's. */
struct served {
    atomic_int references;
    char name[MODEL_NAME_SIZE];
    int64_t version;
    struct nn_model *model;
    size_t n_members; /* 0: no ensemble */
    struct served **members;
    struct file_identity file;
    char sha256[SHA256_TEXT];  /* of the file; "" of an ensemble */
    int64_t load_time;         /* nanoseconds that opening took */
    struct model_stats *stats; /* since it was loaded */
    struct buffer description; /* a JSON object */
    struct lane *lane;         /* for the worker threads */
    int64_t batch_time;        /* nanoseconds that a batch of SERVED_BATCH rows takes */
};

enum { SERVED_BATCH = 8 };

/* A version that should be served and could not be loaded. */
struct unserved {
    int64_t version;
    char problem[512];
};

/* A model: its versions that are served, and how. */
struct served_model {
    atomic_int references;
    char name[MODEL_NAME_SIZE];
    struct serving_config config;
    struct file_identity config_file;
    struct buffer description;     /* GET /models/{m}: a JSON object */
    char problem[512];             /* n == 0: why no version is served */
    const struct served *standard; /* what the model's name alone means; n == 0: NULL */
    size_t n_unserved;
    struct unserved *unserved; /* ascending */
    size_t n;
    struct served *versions[]; /* ascending */
};

struct table {
    atomic_int references;
    size_t n_versions; /* of all models */
    size_t n_unloaded; /* models that nobody asked for */
    char (*unloaded)[MODEL_NAME_SIZE];
    size_t n;
    struct served_model *models[]; /* by name */
};

/* One more reference, the caller's. Nothing else of a version ever changes. */
struct served *served_share(const struct served *served);
void served_release(struct served *served); /* NULL is allowed */

/* Room for so many versions and unserved ones; the rest is to be filled in. NULL: no memory. */
struct served_model *served_model_new(const char *name, size_t room);
struct served_model *served_model_share(struct served_model *model);
void served_model_release(struct served_model *model); /* NULL is allowed */

struct table *table_new(size_t room); /* NULL: no memory */

/* Puts the model, which is owned by the table now, into its place. */
void table_add(struct table *table, struct served_model *model);
struct table *table_share(struct table *table);
void table_release(struct table *table); /* NULL is allowed */

/* NULL: there is no such model. */
const struct served_model *table_find(const struct table *table, const char *name);

/* NULL when every model has a version to serve and there is one; otherwise why not. */
const char *table_problem(const struct table *table, char text[256]);

/* What is meant by a request to a model. */
enum choice {
    CHOICE_MADE,
    CHOICE_NO_MODEL,   /* there is none of that name */
    CHOICE_NO_VERSION, /* that version is not served, nor should it be */
    CHOICE_NO_LABEL,
    CHOICE_BROKEN, /* it should be served and cannot be */
};

/* A version of a model (NULL: there is none) by its number, decimal digits, or by a label, or
 * what the name alone means; NULL or "" is not said. NULL: *why says why not. */
const struct served *served_model_choose(const struct served_model *model, const char *version,
                                         const char *label, enum choice *why);

/* As served_model_choose() where neither version nor label is said, but shared out by the
 * weights of the labels, if they have any: one key is always one version as long as weights and
 * versions stay; without a key (NULL or "") chance decides. The users of a version whose weight
 * grows stay with it. */
const struct served *served_model_split(const struct served_model *model, const char *key,
                                        enum choice *why);

#endif
