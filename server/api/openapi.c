#include "server/api/api.h"

/* openapi.json as it lies beside this file. */
extern const char openapi_begin[], openapi_end[];

__asm__(".pushsection .rodata.openapi, \"a\"\n"
        ".globl openapi_begin, openapi_end\n"
        "openapi_begin:\n"
        ".incbin \"server/api/openapi.json\"\n"
        "openapi_end:\n"
        ".popsection\n");

int api_openapi(struct http_request *r)
{
    buffer_add(&r->answer, openapi_begin, (size_t)(openapi_end - openapi_begin));
    return 200;
}
