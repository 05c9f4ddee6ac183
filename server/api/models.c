#include "server/api/api.h"

int api_models(struct http_request *r)
{
    const struct table *table = api_loop(r)->table;
    buffer_add_text(&r->answer, "{\"models\":[");
    for (size_t i = 0; table && i < table->n; i++) {
        const struct buffer *text = &table->models[i]->description;
        buffer_add_text(&r->answer, i ? "," : "");
        buffer_add(&r->answer, text->data, text->size);
    }
    buffer_add_text(&r->answer, "]}");
    return 200;
}
