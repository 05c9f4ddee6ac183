#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "trainer/progress.h"

/* What a terminal of so many columns gets for one step, 40 of 100 in epoch 2 of 3. */
static void paint(int columns, char *text, size_t size)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0)
        skip();                 /* a machine without pseudo-terminals */
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    const struct winsize window = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(ioctl(master, TIOCSWINSZ, &window), 0);
    FILE *terminal = fopen(ptsname(master), "w");
    assert_non_null(terminal);

    struct progress progress;
    progress_init(&progress, terminal, 3);
    progress.painted = 0;
    progress_step(&progress, &(struct fit_progress){2, 3, 40, 100, 4000, 2.0, 0.5, 0.75});
    ssize_t n = read(master, text, size - 1);
    assert_true(n > 0);
    text[n] = '\0';
    fclose(terminal);
    close(master);
}

static void the_bar_is_one_line_of_any_terminal(void **state)
{
    (void)state;
    for (int columns = 1; columns < 200; columns++) {
        char text[512];
        paint(columns, text, sizeof text);
        char *end = strstr(text, "\033[K");
        assert_non_null(end);
        assert_int_equal(end[3], '\0');
        assert_int_equal(text[0], '\r');
        assert_true(end - text - 1 < columns);
    }
}

static void the_bar_says_how_far_it_is(void **state)
{
    (void)state;
    char text[512];
    paint(120, text, sizeof text);
    assert_non_null(strstr(text, "epoch 2/3 [############                  ]  40%  2000/s"));
    assert_non_null(strstr(text, "loss 0.5000  75.00%"));
}

static void a_file_gets_plain_lines(void **state)
{
    (void)state;
    char *text = NULL;
    FILE *file = tmpfile();
    assert_non_null(file);
    struct progress progress;
    progress_init(&progress, file, 3);
    progress_step(&progress, &(struct fit_progress){2, 3, 40, 100, 4000, 2.0, 0.5, 0.75});
    progress_epoch(&progress, &(struct fit_epoch){2, 0.1, 1.25, 0.5, NAN, 0.25, NAN});
    progress_end(&progress);
    rewind(file);
    size_t size = 0;
    assert_true(getline(&text, &size, file) > 0);
    assert_string_equal(text, "epoch 2/3  loss 0.5000  validation loss 0.2500  1.2 s\n");
    assert_true(getline(&text, &size, file) < 0);
    free(text);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bar_is_one_line_of_any_terminal),
        cmocka_unit_test(the_bar_says_how_far_it_is),
        cmocka_unit_test(a_file_gets_plain_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
