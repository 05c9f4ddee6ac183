/*
 * ONNX's conformance cases: a folder holds model.onnx, and test_data_set_N/ with tensors
 * input_I.pb and output_I.pb.
 */
#ifndef TESTS_ONNX_CASE_H
#define TESTS_ONNX_CASE_H

#include "tests/onnx_model.h"

/* Runs every data set of a case. `error` says what failed, or why it was skipped. */
enum onnx_result onnx_case_run(const char *folder, struct nn_error *error);

#endif
