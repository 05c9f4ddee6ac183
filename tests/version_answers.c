#include "tests/version_answers.h"

#include "tests/server_fixture.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double version_scale(long version)
{
    return version % 2 ? 1 : -3;
}

bool version_answers(const char *body, const double x[4])
{
    double y[3], got[3];
    const char *version = strstr(body, "\"model_version\":\"");
    if (!version ||
        sscanf(body, "{\"predictions\":[[%lf,%lf,%lf]]", &got[0], &got[1], &got[2]) != 3)
        return false;
    linear_reference(version_scale(atol(version + strlen("\"model_version\":\""))), x, y);
    for (int i = 0; i < 3; i++)
        if (!(fabs(got[i] - y[i]) <= 1e-5 * fmax(1, fabs(y[i]))))
            return false;
    return true;
}
