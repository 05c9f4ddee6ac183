#include "tests/train_program.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/scratch.h"

enum { MAX_WORDS = 16 };

pid_t train_start(const char *const *words)
{
    const char *build = getenv("PREDICTD_BUILD");
    char program[512];
    snprintf(program, sizeof program, "%s/predictd-train", build ? build : "build");
    char *arguments[MAX_WORDS + 2] = {program};
    for (int i = 0; words[i]; i++)
        arguments[i + 1] = (char *)(uintptr_t)words[i];
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        unsetenv("PREDICTD_DATA");
        dup2(open(scratch_path("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
        dup2(open(scratch_path("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
        execv(program, arguments);
        _exit(127);
    }
    return child;
}

int train_finish(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

char *text_of(const char *name)
{
    size_t size;
    return scratch_read(name, &size);
}

void assert_file_says(const char *file, const char *expected)
{
    char *text = text_of(file);
    if (!strstr(text, expected))
        fail_msg("\"%s\" is not in:\n%s", expected, text);
    free(text);
}

json_t *json_of(const char *name)
{
    char *text = text_of(name);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        fail_msg("%s: %s\n%s", name, error.text, text);
    free(text);
    return json;
}

const char *write_text(const char *name, const char *text)
{
    scratch_write(name, text, strlen(text));
    return scratch_path(name);
}

bool exists(const char *name)
{
    return access(scratch_path(name), F_OK) == 0;
}

const char digits_recipe[] =
    "{\"name\": \"digits\", \"data\": {\"format\": \"digits\", \"train\": 600, \"test\": 100,"
    "\"seed\": 1}, \"inputs\": [{\"name\": \"image\", \"shape\": [1, 28, 28]}],"
    "\"layers\": [{\"type\": \"scale\", \"factor\": 0.004},"
    "{\"type\": \"conv2d\", \"name\": \"edges\", \"filters\": 8, \"kernel\": 3, \"stride\": 2},"
    "{\"type\": \"batch_norm\", \"activation\": \"relu\"}, {\"type\": \"flatten\"},"
    "{\"type\": \"dropout\", \"rate\": 0.1}, {\"type\": \"dense\", \"units\": 10}],"
    "\"loss\": \"softmax_cross_entropy\","
    "\"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.003},"
    "\"training\": {\"epochs\": 3, \"batch_size\": 50, \"validation_fraction\": 0.1}}";
