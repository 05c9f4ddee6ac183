#include "tests/framing_cases.h"

/* 40 bytes. */
#define HIDDEN "GET /models/hidden HTTP/1.1\r\nHost: x\r\n\r\n"

_Static_assert(sizeof HIDDEN - 1 == 40, "the lengths below say so");

#define POST "POST /predict HTTP/1.1\r\nHost: x\r\n"
#define GET "GET /health/live HTTP/1.1\r\nHost: x\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define CASE(name, text, status, error) {name, text, sizeof(text) - 1, status, error}

#define METHOD "method: "
#define TARGET "request target: "
#define VERSION "version: "
#define NAME "header name: "
#define VALUE "header value: "
#define LINE "header line: "
#define HOST "host: "
#define LENGTH "content-length: "
#define ENCODING "transfer-encoding: "

const struct framing_case framing_cases[] = {
    /* the length of the body */
    CASE("chunked and a length", POST CHUNKED "Content-Length: 5\r\n\r\n0\r\n\r\n" HIDDEN, 400,
         ENCODING),
    CASE("a length and chunked", POST "Content-Length: 45\r\n" CHUNKED "\r\n0\r\n\r\n" HIDDEN,
         400, ENCODING),
    CASE("two lengths", POST "Content-Length: 0\r\nContent-Length: 40\r\n\r\n" HIDDEN, 400,
         LENGTH),
    CASE("the same length twice", POST "Content-Length: 0\r\nContent-Length: 0\r\n\r\n" HIDDEN,
         400, LENGTH),
    CASE("blank before the colon", POST "Content-Length : 40\r\n\r\n" HIDDEN, 400, NAME),
    CASE("tab before the colon", POST "Content-Length\t: 40\r\n\r\n" HIDDEN, 400, NAME),
    CASE("blank before chunked's colon",
         POST "Transfer-Encoding : chunked\r\nContent-Length: 40\r\n\r\n" HIDDEN, 400, NAME),
    CASE("folded length", POST "Content-Length: 4\r\n 0\r\n\r\n" HIDDEN, 400, LINE),
    CASE("folded length on a tab", POST "Content-Length:\r\n\t40\r\n\r\n" HIDDEN, 400, LINE),
    CASE("folded other header", POST "X-A: 1\r\n 2\r\nContent-Length: 40\r\n\r\n" HIDDEN, 400,
         LINE),
    CASE("folded first line", "POST /predict HTTP/1.1\r\n Host: x\r\n\r\n" HIDDEN, 400, NAME),
    CASE("NUL in the length", POST "Content-Length: 0\0 40\r\n\r\n" HIDDEN, 400, LINE),
    CASE("NUL in another value", POST "X-A: 1\0" "2\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400,
         LINE),
    CASE("NUL in a name", POST "Content-Length\0: 40\r\n\r\n" HIDDEN, 400, NULL),
    CASE("signed length", POST "Content-Length: +40\r\n\r\n" HIDDEN, 400, NULL),
    CASE("negative length", POST "Content-Length: -1\r\n\r\n" HIDDEN, 400, NULL),
    CASE("length in hexadecimal", POST "Content-Length: 0x28\r\n\r\n" HIDDEN, 400, NULL),
    CASE("list of lengths", POST "Content-Length: 40, 40\r\n\r\n" HIDDEN, 400, NULL),
    CASE("empty length", POST "Content-Length:\r\n\r\n" HIDDEN, 400, NULL),
    CASE("length above 2^64", POST "Content-Length: 18446744073709551616\r\n\r\n" HIDDEN, 413,
         NULL),
    CASE("length of 2^64 - 1", POST "Content-Length: 18446744073709551615\r\n\r\n" HIDDEN, 413,
         "the body has 18446744073709551615 bytes"),
    CASE("bad length beside chunked", POST CHUNKED "Content-Length: x\r\n\r\n0\r\n\r\n" HIDDEN,
         400, LENGTH),

    /* the encoding of the body */
    CASE("chunked after gzip", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" HIDDEN,
         400, ENCODING),
    CASE("chunked twice in a list",
         POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("identity", POST "Transfer-Encoding: identity\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("quoted chunked", POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" HIDDEN, 400,
         ENCODING),
    CASE("empty encoding", POST "Transfer-Encoding:\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("vertical tab before chunked",
         POST "Transfer-Encoding: \x0b" "chunked\r\n\r\n0\r\n\r\n" HIDDEN, 400, VALUE),
    CASE("two encodings", POST CHUNKED "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" HIDDEN, 400,
         ENCODING),
    CASE("chunked twice", POST CHUNKED CHUNKED "\r\n0\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("chunked in HTTP/1.0",
         "POST /predict HTTP/1.0\r\nHost: x\r\n" CHUNKED "\r\n0\r\n\r\n" HIDDEN, 400, ENCODING),
    CASE("chunked folded", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" HIDDEN, 400,
         LINE),
    CASE("chunk size in 0x", POST CHUNKED "\r\n0x5\r\nhello\r\n0\r\n\r\n" HIDDEN, 400, NULL),
    CASE("negative chunk size", POST CHUNKED "\r\n-1\r\nhello\r\n0\r\n\r\n" HIDDEN, 400, NULL),
    CASE("chunk size above 2^64", POST CHUNKED "\r\n10000000000000001\r\nh\r\n0\r\n\r\n" HIDDEN,
         413, NULL),
    CASE("chunk longer than its size", POST CHUNKED "\r\n2\r\nhello\r\n0\r\n\r\n" HIDDEN, 400,
         NULL),

    /* lines and names */
    CASE("bare LF behind the first line",
         "POST /predict HTTP/1.1\nHost: x\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400, LINE),
    CASE("bare LF behind a header",
         POST "X-A: 1\nContent-Length: 0\r\n\r\n" HIDDEN, 400, LINE),
    CASE("bare LF behind the last header",
         POST "Content-Length: 0\n\r\n" HIDDEN, 400, LINE),
    CASE("bare LF as the end of the headers", POST "Content-Length: 0\r\n\n" HIDDEN, 400, LINE),
    CASE("bare CR in a value", POST "X-A: 1\rContent-Length: 40\r\n\r\n" HIDDEN, 400, VALUE),
    CASE("control character in a name", POST "X\x01: 1\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400,
         NAME),
    CASE("parenthesis in a name", POST "X(: 1\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400, NAME),
    CASE("letter beyond ASCII in a name", POST "X\xe4: 1\r\nContent-Length: 0\r\n\r\n" HIDDEN,
         400, NAME),
    CASE("header without a name", POST ": 1\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400, LINE),
    CASE("header without a colon", POST "Content-Length\r\n\r\n" HIDDEN, 400, NULL),
    CASE("delete in a value", POST "X-A: \x7f\r\nContent-Length: 0\r\n\r\n" HIDDEN, 400, VALUE),

    /* the host */
    CASE("no host", "GET /health/live HTTP/1.1\r\n\r\n" HIDDEN, 400, HOST),
    CASE("two hosts", GET "Host: y\r\n\r\n" HIDDEN, 400, HOST),
    CASE("two hosts in HTTP/1.0",
         "GET /health/live HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n" HIDDEN, 400, HOST),
    CASE("blank in the host", "GET /health/live HTTP/1.1\r\nHost: a b\r\n\r\n" HIDDEN, 400,
         HOST),
    CASE("user in the host", "GET /health/live HTTP/1.1\r\nHost: a@b\r\n\r\n" HIDDEN, 400, HOST),
    CASE("path in the host", "GET /health/live HTTP/1.1\r\nHost: a/b\r\n\r\n" HIDDEN, 400, HOST),

    /* the first line */
    CASE("HTTP/1.2", "GET /health/live HTTP/1.2\r\nHost: x\r\n\r\n" HIDDEN, 400, VERSION),
    CASE("HTTP/2.0", "GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n" HIDDEN, 505, NULL),
    CASE("HTTP/0.9", "GET /health/live HTTP/0.9\r\nHost: x\r\n\r\n" HIDDEN, 505, NULL),
    CASE("no version", "GET /health/live\r\n\r\n" HIDDEN, 400, NULL),
    CASE("version in lower case", "GET /health/live http/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         NULL),
    CASE("method that is no token", "GE(T /health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         METHOD),
    CASE("tab behind the method",
         "GET\t/health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, NULL),
    CASE("two blanks behind the method",
         "GET  /health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, METHOD),
    CASE("blank before the method",
         " GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 0, NULL),
    CASE("two blanks before the version",
         "GET /health/live  HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, TARGET),
    CASE("blank behind the version",
         "GET /health/live HTTP/1.1 \r\nHost: x\r\n\r\n" HIDDEN, 400, NULL),
    CASE("blank in the target",
         "GET /health/live x HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, TARGET),
    CASE("blank in the query",
         "GET /health/live?a b HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, TARGET),
    CASE("tab in the target", "GET /health/live\tx HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("NUL in the target", "GET /health/live\0x HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("NUL in the query", "GET /health/live?a=\0x HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("CR in the target", "GET /health/live\rx HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("target without a slash", "GET health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("asterisk of a GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400, TARGET),
    CASE("authority of a CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("URL without a host", "GET http:///health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("URL with a user", "GET http://a@x/health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN, 400,
         TARGET),
    CASE("URL of another scheme", "GET ftp://x/health/live HTTP/1.1\r\nHost: x\r\n\r\n" HIDDEN,
         400, TARGET),
};

const size_t n_framing_cases = sizeof framing_cases / sizeof framing_cases[0];
