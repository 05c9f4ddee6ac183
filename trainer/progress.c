#include "trainer/progress.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_BAR = 30, DEFAULT_COLUMNS = 80 };

/* The bar is painted ten times a second at most. */
static const double paint_interval = 0.1;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void progress_init(struct progress *progress, FILE *out, int n_epochs)
{
    *progress = (struct progress){
        .out = out, .bar = isatty(fileno(out)) == 1, .n_epochs = n_epochs, .begun = now()};
}

static int columns(FILE *out)
{
    struct winsize size;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return DEFAULT_COLUMNS;
    return size.ws_col;
}

/* "1:02:03" or "2:03" */
static void print_duration(char *text, size_t size, double seconds)
{
    int64_t s = (int64_t)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, size, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60),
                 (int)(s % 60));
    else
        snprintf(text, size, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

void progress_step(void *context, const struct fit_progress *step)
{
    struct progress *progress = context;
    double time = now();
    if (!progress->bar || time - progress->painted < paint_interval)
        return;
    progress->painted = time;

    double done = (double)(step->epoch - 1) + (double)step->step / (double)step->n_steps;
    double left = (time - progress->begun) * ((double)step->n_epochs - done) / done;
    char head[64], tail[160], accuracy[32] = "", duration[32];
    print_duration(duration, sizeof duration, left);
    if (!isnan(step->accuracy))
        snprintf(accuracy, sizeof accuracy, "  %.2f%%", 100 * step->accuracy);
    snprintf(head, sizeof head, "epoch %d/%d ", step->epoch, step->n_epochs);
    snprintf(tail, sizeof tail, " %3d%%  %.0f/s  %s left  loss %.4f%s",
             (int)(100 * step->step / step->n_steps),
             (double)step->samples / (step->seconds > 0 ? step->seconds : 1), duration,
             step->loss, accuracy);

    /* A line that is wider than the terminal would be painted below itself each time. */
    char line[sizeof head + sizeof tail + MAX_BAR + 2];
    int most = columns(progress->out) - 1;
    int room = most - (int)strlen(head) - (int)strlen(tail) - 2;
    int width = room < 0 ? 0 : room > MAX_BAR ? MAX_BAR : room;
    int filled = (int)(width * step->step / step->n_steps);
    static const char full[] = "##############################";
    const char *sides = width > 0 ? "[]" : "";
    snprintf(line, sizeof line, "%s%.1s%.*s%*s%s%s", head, sides, filled, full, width - filled,
             "", width > 0 ? sides + 1 : "", tail);
    fprintf(progress->out, "\r%.*s\033[K", most, line);
    fflush(progress->out);
    progress->drawn = true;
}

static void clear_bar(struct progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", progress->out);
    progress->drawn = false;
}

void progress_epoch(void *context, const struct fit_epoch *epoch)
{
    struct progress *progress = context;
    clear_bar(progress);
    fprintf(progress->out, "epoch %d/%d  loss %.4f", epoch->epoch, progress->n_epochs,
            epoch->loss);
    if (!isnan(epoch->accuracy))
        fprintf(progress->out, "  accuracy %.2f%%", 100 * epoch->accuracy);
    if (!isnan(epoch->validation_loss))
        fprintf(progress->out, "  validation loss %.4f", epoch->validation_loss);
    if (!isnan(epoch->validation_accuracy))
        fprintf(progress->out, "  accuracy %.2f%%", 100 * epoch->validation_accuracy);
    fprintf(progress->out, "  %.1f s\n", epoch->seconds);
    fflush(progress->out);
}

void progress_end(struct progress *progress)
{
    clear_bar(progress);
    fflush(progress->out);
}
