/* The plain loop that the harness is compared with: ONNX Runtime from C, a clock around Run, nothing else.

   A library of custom ops without any: where it is registered it is handed the table of functions of the very ONNX Runtime
   that Python has loaded, which exports none. It opens a session of its own there.

   No header of ONNX Runtime is packaged here: functions are taken from its table by their places, which never
   change from release to release (the C API only appends). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef void *(*Fn)();
enum {
  CREATE_ENV = 3, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10, INTRA = 24, INTER = 25,
  TENSOR_WITH_DATA = 49, CPU_MEMORY = 69, RELEASE_VALUE = 96, MESSAGE = 2, MOST_OUTPUTS = 64
};
static Fn *api;
static void *session, *input;
static const char *input_names[1], **output_names;
static size_t outputs;

struct base { Fn *(*get)(uint32_t); const char *(*version)(void); };

void *RegisterCustomOps(void *options, const struct base *base) {
  api = base->get(16);
  return NULL;
}

static int failed(void *status) {
  if (status) fprintf(stderr, "%s\n", ((const char *(*)(void *))api[MESSAGE])(status));
  return status != NULL;
}

/* One float32 input of ones; the names must stay where they are. */
int overhead_open(const char *model, const char *name, const int64_t *dims, size_t rank, const char **names, size_t count) {
  void *environment, *options, *memory;
  size_t size = 1;
  for (size_t i = 0; i < rank; i++) size *= dims[i];
  float *data = malloc(size * sizeof *data);
  for (size_t i = 0; i < size; i++) data[i] = 1.0f;
  input_names[0] = name;
  output_names = names;
  outputs = count;
  return count > MOST_OUTPUTS || failed(api[CREATE_ENV](4, "loop", &environment)) ||
         failed(api[CREATE_OPTIONS](&options)) || failed(api[INTRA](options, 1)) || failed(api[INTER](options, 1)) ||
         failed(api[CREATE_SESSION](environment, model, options, &session)) ||
         failed(api[CPU_MEMORY](1, 0, &memory)) ||
         failed(api[TENSOR_WITH_DATA](memory, data, size * sizeof *data, dims, rank, 1, &input));
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The times of so many inferences. Outputs are made by each Run, and released outside of its time. */
int overhead_loop(int64_t *into, int count) {
  for (int i = 0; i < count; i++) {
    void *made[MOST_OUTPUTS] = {0};
    int64_t begin = now();
    void *status = ((void *(*)(void *, void *, const char **, void **, size_t, const char **, size_t, void **))
                        api[RUN])(session, NULL, input_names, &input, 1, output_names, outputs, made);
    into[i] = now() - begin;
    if (failed(status)) return 1;
    for (size_t j = 0; j < outputs; j++) ((void (*)(void *))api[RELEASE_VALUE])(made[j]);
  }
  return 0;
}
