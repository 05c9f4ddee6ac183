/*
 * The gate: refuses a request that libmicrohttpd reads otherwise than a proxy in front of it
 * may, before anything of it is executed (request smuggling), and what RFC 9112 wants
 * refused.
 */
#ifndef SERVER_FRAMING_H
#define SERVER_FRAMING_H

struct MHD_Connection;

enum framing_fault {
    FRAMING_SOUND,
    FRAMING_METHOD,
    FRAMING_TARGET,
    FRAMING_VERSION,
    FRAMING_HEADER_NAME,
    FRAMING_HEADER_VALUE,
    FRAMING_HEADER_LINES,
    FRAMING_HEADER_COUNT,
    FRAMING_HOST,
    FRAMING_LENGTH,
    FRAMING_ENCODING,
    FRAMING_ENCODING_BLANKS,
    FRAMING_FAULTS
};

enum { FRAMING_HEADERS = 100 }; /* of a request, at most */

/* What the answer says, and the label in the metrics. */
struct framing_answer {
    int status;
    const char *label, *text;
};

extern const struct framing_answer framing_answers[FRAMING_FAULTS];

/* What stands in a request's first line, as the library's callbacks tell it. */
struct framing_line {
    const char *method, *url, *version;
    const char *target_end; /* from framing_target_end() */
};

/* To be called while the request line is read, when the target is still in one piece: where
 * its text ends. Behind it the library stores the version. NULL: it holds blanks or control
 * characters. */
const char *framing_target_end(const char *target);

/* Judges a request on the handler's first call. The library must leave escapes in the url
 * alone and run with MHD_OPTION_STRICT_FOR_CLIENT 0. */
enum framing_fault framing_check(struct MHD_Connection *connection,
                                 const struct framing_line *line);

/* The path of a sound request's target: itself, or what follows the authority. */
const char *framing_path(const char *url);

#endif
