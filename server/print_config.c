#include "server/print_config.h"

#include "server/batcher.h"
#include "server/scan.h"

/* What holds for a model where its file says nothing. Threads, where not said, are a matter of
 * measurement. */
static void complete(struct serving_config *c, const struct options *o)
{
    struct lane_settings lane = batcher_lane_settings(c, o->max_batch, o->max_queue);

    if (c->deadline_ms < 0)
        c->deadline_ms = o->deadline;
    c->max_batch_size = lane.max_batch;
    c->preferred_batch_size = lane.preferred;
    c->max_queue_delay_us = lane.delay / 1000;
    c->max_queue_size = lane.max_queue;
    c->priority_levels = lane.priorities;
    c->default_priority_level = lane.standard_priority;
}

static int write_model(struct buffer *out, const struct options *o,
                       const struct found_model *model, struct nn_error *error)
{
    struct serving_config config;
    struct nn_error why = {0};
    char path[PATH_MAX];

    scan_config_path(path, o->models, model->name);
    buffer_add_json_string(out, model->name);
    buffer_add_text(out, ":{\"versions\":[");
    for (size_t i = 0; i < model->n; i++)
        buffer_printf(out, "%s\"%lld\"", i ? "," : "", (long long)model->versions[i].version);
    buffer_add_text(out, "],\"file\":");
    if (model->config_file.size || model->config_file.inode)
        buffer_add_json_string(out, path);
    else
        buffer_add_text(out, "null");
    int result = serving_config_load(&config, path, &why);
    if (result == 0) {
        complete(&config, o);
        buffer_add_text(out, ",\"serving\":");
        serving_config_write(&config, out);
    } else {
        buffer_add_text(out, ",\"error\":");
        buffer_add_json_string(out, why.text);
        nn_fail(error, "%s", why.text);
    }
    buffer_add_text(out, "}");
    return result;
}

static int write_models(struct buffer *out, const struct options *o, struct nn_error *error)
{
    struct found found;
    int result = scan_folder(&found, o->models, error);

    buffer_add_text(out, "{");
    for (size_t i = 0; i < found.n; i++) {
        buffer_add_text(out, i ? ",\n" : "\n");
        if (write_model(out, o, &found.models[i], error) < 0)
            result = -1;
    }
    buffer_add_text(out, "}");
    scan_release(&found);
    return result;
}

int print_config(const struct options *o, FILE *file, struct nn_error *error)
{
    struct buffer out = {0};

    buffer_add_text(&out, "{\"version\":\"" PREDICTD_VERSION "\",\n\"flags\":");
    options_write(o, &out);
    buffer_add_text(&out, ",\n\"models\":");
    int result = write_models(&out, o, error);
    buffer_add_text(&out, "}\n");
    if (out.failed)
        result = nn_fail(error, "out of memory");
    else if (fwrite(out.data, 1, out.size, file) != out.size || fflush(file) != 0)
        result = nn_fail(error, "cannot print the configuration");
    buffer_release(&out);
    return result;
}
